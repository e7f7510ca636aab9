//! Layers under a program that already calls `axum::serve`.
//!
//! ```text
//! cargo run --release --features axum --example axum_listener   # or: -- 127.0.0.1:8080
//! curl http://127.0.0.1:PORT/
//! curl http://127.0.0.1:PORT/slow                               # and stop the server meanwhile: it is answered
//! ```
//!
//! Ctrl-C or SIGTERM stops the underlying server, which then shuts axum down. Once all accepted connections
//! have passed the layers, requests in flight are answered and idle connections close. Connections that are
//! still open after 30 s, or at a second signal, are force-closed.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use axum::{Router, extract::ConnectInfo, routing::get};
use portcullis::{
    BoxError, Server, ServiceBuilderExt,
    axum::{Info, MakeService},
    listener::TcpListener,
    middleware::timeout::IoTimeoutLayer,
};
use std::{env, net::SocketAddr, time::Duration};
use tokio::time::sleep;
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".into());
    let listener = TcpListener::bind(&address)?;
    let address = listener.local_addr()?;

    let layers = ServiceBuilder::new()
        .peer_addr()
        .trace_connections("axum")
        .connection_limit(1000)
        // TLS goes here: `.layer(TlsLayer::from_pem_files("chain.pem", "key.pem")?.with_max_handshakes(500))`.
        // Handshakes run concurrently.
        //
        // `axum::serve` waits for silent clients indefinitely, so set a read timeout: five minutes is longer
        // than any handler here takes. `HttpService`, in the example axum_tls, has finer timeouts.
        .layer(IoTimeoutLayer::new().with_read_timeout(Duration::from_secs(300)));
    let incoming = Server::new().stop_on_signals().incoming(listener, layers)?;
    let server = incoming.handle().expect("a server made it").clone();
    println!("listening on {address}");
    println!("try: curl http://{address}/ and curl http://{address}/slow");

    let router = Router::new()
        .route("/", get(hello))
        .route("/slow", get(slow));
    let drained = incoming.drained();
    axum::serve(incoming.into_axum(), MakeService::new(router))
        // A signal would fire while accepted connections are still inside the layers.
        .with_graceful_shutdown(drained)
        .await?;

    let report = server.wait().await;
    println!(
        "ended: {} finished, {} force-closed",
        report.ended(),
        report.force_closed().len()
    );
    Ok(())
}

/// Axum's own extractors still work. [`Info`] and the others are available in addition.
async fn hello(ConnectInfo(client): ConnectInfo<SocketAddr>, Info(connection): Info) -> String {
    format!("hello, {client}, you are connection {}\n", connection.id())
}

async fn slow() -> &'static str {
    sleep(Duration::from_secs(5)).await;
    "patience pays\n"
}
