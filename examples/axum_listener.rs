//! The other way round: a program that has its `axum::serve` puts layers under it.
//!
//! ```text
//! cargo run --release --features axum --example axum_listener   # or: -- 127.0.0.1:8080
//! curl http://127.0.0.1:PORT/
//! curl http://127.0.0.1:PORT/slow                               # and stop the server meanwhile: it is answered
//! ```
//!
//! Ctrl-C or SIGTERM stops the server underneath, and that ends axum: when all who were accepted are
//! through the layers, requests in flight are answered and idle connections close. What is left after
//! 30 s, or at a second signal, is cut.

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
        // Handshakes run side by side.
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
        // Not a signal: that would come too early for those who are not through the layers yet.
        .with_graceful_shutdown(drained)
        .await?;

    let report = server.wait().await;
    println!(
        "ended: {} finished, {} cut",
        report.ended(),
        report.force_closed().len()
    );
    Ok(())
}

/// What handlers could ask before still works; [`Info`] and the like come on top.
async fn hello(ConnectInfo(client): ConnectInfo<SocketAddr>, Info(connection): Info) -> String {
    format!("hello, {client}, you are connection {}\n", connection.id())
}

async fn slow() -> &'static str {
    sleep(Duration::from_secs(5)).await;
    "patience pays\n"
}
