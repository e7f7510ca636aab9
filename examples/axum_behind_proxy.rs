//! axum behind a load balancer that sends the client's address in a PROXY header (HAProxy, AWS, Fly).
//!
//! ```text
//! cargo run --release --features axum,proxy-protocol --example axum_behind_proxy
//! curl --haproxy-protocol http://127.0.0.1:PORT/      # curl acts as the load balancer
//! printf 'PROXY TCP4 192.0.2.7 192.0.2.1 40000 80\r\nGET / HTTP/1.0\r\n\r\n' | nc 127.0.0.1 PORT
//! curl http://127.0.0.1:PORT/                         # no header: rejected
//! ```
//!
//! Arguments: where to listen and the load balancers' networks, such as `-- 127.0.0.1:8080 10.0.0.0/8,fd00::/8`.
//! Headers are accepted from the load balancers only; other clients are rejected. Handlers get the client's
//! address as usual.
//!
//! Ctrl-C or SIGTERM shuts the server down. It keeps accepting for half a second, and requests may finish for
//! up to 30 s. A second signal force-closes them.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use axum::{Router, extract::ConnectInfo, routing::get};
use portcullis::{
    BoxError, Server, ServiceBuilderExt,
    axum::Info,
    listener::TcpListener,
    middleware::{proxy_protocol::ProxyProtocolLayer, timeout::IoTimeoutLayer},
    server::Drain,
    service::HttpService,
};
use std::{env, net::SocketAddr, time::Duration};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".into());
    let balancers = arguments.next().unwrap_or_else(|| "127.0.0.1,::1".into());

    let router = Router::new().route("/", get(hello));
    let stack = ServiceBuilder::new()
        .peer_addr()
        .trace_connections("axum")
        .connection_limit(1000)
        // Before every layer that uses the client's address; a `TlsLayer` would follow it.
        .layer(ProxyProtocolLayer::new(balancers.parse()?))
        .layer(IoTimeoutLayer::new().without_read_timeout())
        .service(HttpService::new(router));

    let listener = TcpListener::bind(&address)?;
    let address = listener.local_addr()?;
    println!("listening on {address}");
    println!("try: curl --haproxy-protocol http://{address}/");

    let report = Server::new()
        .listen(listener, stack)
        // As long as the load balancer needs to notice, which is usually seconds.
        .drain(Drain::new().with_notice_period(Duration::from_millis(500)))
        .stop_on_signals()
        .run()
        .await?;
    println!(
        "ended: {} finished, {} force-closed",
        report.ended(),
        report.force_closed().len()
    );
    Ok(())
}

async fn hello(ConnectInfo(client): ConnectInfo<SocketAddr>, Info(connection): Info) -> String {
    format!("hello, {client}, by way of {}\n", connection.socket_peer())
}
