//! A TCP forwarder: clients on one side, one backend on the other.
//!
//! ```text
//! cargo run --release --example forward -- 127.0.0.1:8080 example.org:80
//! curl -H "host: example.org" http://127.0.0.1:8080/
//! ```
//!
//! Each connection is logged with its backend, the bytes in both directions, and the side that ended it. Ctrl-C
//! or SIGTERM stops accepting; connections go on for at most 30 seconds.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use portcullis::{
    BoxError, Server, ServiceBuilderExt, TraceLayer,
    connect::Target,
    listener::TcpListener,
    middleware::timeout::{ConnectionTimeoutLayer, IoTimeoutLayer},
    server::Drain,
    service::ForwardService,
};
use std::{env, time::Duration};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let mut arguments = env::args().skip(1);
    let (Some(listen), Some(backend)) = (arguments.next(), arguments.next()) else {
        return Err(
            "usage: forward LISTEN BACKEND, such as: forward 127.0.0.1:8080 localhost:80".into(),
        );
    };
    let backend = Target::try_from(backend)?;
    let listener = TcpListener::bind(listen)?;
    println!("listening on {}", listener.local_addr()?);

    let stack = ServiceBuilder::new()
        .peer_addr()
        .layer(TraceLayer::new().on_close(|closed| {
            let info = closed.info();
            tracing::info!(
                "{} to {}: {}, ended by {}, {} bytes in, {} bytes out",
                info.peer(),
                info.upstream()
                    .map_or("no backend", |upstream| &*upstream.server),
                closed.outcome(),
                info.ended_by().map_or("none", |side| side.as_str()),
                info.bytes_read(),
                info.bytes_written(),
            );
        }))
        .connection_limit(10_000)
        .catch_panics()
        .layer(ConnectionTimeoutLayer::new().with_idle_timeout(Duration::from_secs(3600)))
        // A peer may be silent for as long as it likes, but it must read.
        .layer(IoTimeoutLayer::new().without_read_timeout())
        .service(ForwardService::to(backend));

    let report = Server::new()
        .listen(listener, stack)
        .drain(Drain::new().with_deadline(Duration::from_secs(30)))
        .stop_on_signals()
        .run()
        .await?;
    println!(
        "{} connections were force-closed",
        report.force_closed().len()
    );
    Ok(())
}
