//! A TCP forwarder: clients on one side, a pool of servers on the other.
//!
//! ```text
//! cargo run --release --example forward -- 127.0.0.1:8080 10.0.1.10:80 10.0.1.11:80 spare.internal:80
//! curl http://127.0.0.1:8080/
//! ```
//!
//! Each connection goes to the server with the fewest, and to the next one if that fails. Servers that do not
//! accept connections are taken out of use until they do again; host names are resolved every 30 seconds. Each
//! connection is logged with its server, the bytes in both directions, and the side that ended it. Ctrl-C or
//! SIGTERM stops accepting; connections go on for at most 30 seconds.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use portcullis::{
    BoxError, Server, ServiceBuilderExt, TraceLayer,
    listener::TcpListener,
    middleware::timeout::{ConnectionTimeoutLayer, IoTimeoutLayer},
    server::Drain,
    service::ForwardService,
    upstream::{self, HealthCheck, Pool},
};
use std::{env, time::Duration};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let mut arguments = env::args().skip(1);
    let listen = arguments.next().ok_or(USAGE)?;
    let servers = arguments.map(|server| server.parse());
    let servers: Vec<upstream::Server> = servers.collect::<Result<_, _>>()?;
    if servers.is_empty() {
        return Err(USAGE.into());
    }
    let listener = TcpListener::bind(listen)?;
    println!("listening on {}", listener.local_addr()?);

    let pool = Pool::builder()
        .with_name("example")
        .with_health_check(HealthCheck::tcp())
        .build(servers);
    let stack = ServiceBuilder::new()
        .peer_addr()
        .layer(TraceLayer::new().on_close(|closed| {
            let info = closed.info();
            tracing::info!(
                "{} to {}: {}, ended by {}, {} bytes in, {} bytes out",
                info.peer(),
                info.upstream()
                    .map_or("no server", |upstream| &*upstream.server),
                closed.outcome(),
                info.ended_by().map_or("none", |side| side.as_str()),
                info.bytes_read(),
                info.bytes_written(),
            );
        }))
        .connection_limit(10_000)
        .catch_panics()
        .layer(ConnectionTimeoutLayer::new().with_idle_timeout(Duration::from_secs(3600)))
        // A client may be silent for up to an hour, but it must read.
        .layer(IoTimeoutLayer::new().without_read_timeout())
        .service(ForwardService::new(pool.clone()));

    let report = Server::new()
        .listen(listener, stack)
        .drain(Drain::new().with_deadline(Duration::from_secs(30)))
        .stop_on_signals()
        .run()
        .await?;
    for server in pool.servers() {
        let state = server.state;
        println!("{} is {state}: {} connects", server.key, server.connects);
    }
    println!(
        "{} connections were force-closed",
        report.force_closed().len()
    );
    Ok(())
}

const USAGE: &str =
    "usage: forward LISTEN SERVER..., such as: forward 127.0.0.1:8080 10.0.1.10:80 10.0.1.11:80";
