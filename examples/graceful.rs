//! A graceful shutdown in which handlers notify their clients, with a report.
//!
//! ```text
//! cargo run --release --example graceful              # or: -- 127.0.0.1:8080
//! nc 127.0.0.1 PORT                                   # counts the seconds until you leave
//! nc 127.0.0.1 CONTROL_PORT                           # stops the server, as Ctrl-C does
//! ```
//!
//! At the shutdown notice each handler notifies its client. Clients that stay connected are force-closed
//! after ten seconds (or immediately on a second signal) and listed in the report.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use portcullis::{
    BoxError, Connection, Server, ServiceBuilderExt,
    listener::TcpListener,
    server::{Drain, Handle},
};
use std::{env, io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::interval,
};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(&address)?;
    let control = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    println!("a connection to {} stops the server", control.local_addr()?);

    let server = Server::new();
    let handle = server.handle();
    let counting = ServiceBuilder::new()
        .peer_addr()
        .connection_limit(1000)
        .service_fn(count);
    let stopping = ServiceBuilder::new()
        .peer_addr()
        .service_fn(move |connection: Connection<_>| stop(connection, handle.clone()));

    let report = server
        .listen(listener, counting)
        .listen_as("control", control, stopping)
        .drain(Drain::new().with_deadline(Duration::from_secs(10)))
        .stop_on_signals()
        .on_start(|handle| println!("{:?}", handle.state()))
        .run()
        .await?;

    println!(
        "drained in {:?}: {} finished",
        report.took(),
        report.ended()
    );
    for connection in report.force_closed() {
        println!(
            "force-closed: {} after {:?}",
            connection.peer(),
            connection.age()
        );
    }
    Ok(())
}

/// Counts seconds until the client leaves or the server shuts down.
async fn count(mut connection: Connection<impl AsyncRead + AsyncWrite + Unpin>) -> io::Result<()> {
    let mut drain = std::pin::pin!(connection.info().drain());
    let mut ticks = interval(Duration::from_secs(1));
    for second in 0_u64.. {
        tokio::select! {
            _ = ticks.tick() => connection.write_all(format!("{second}\n").as_bytes()).await?,
            () = &mut drain => break,
        }
    }
    connection.write_all(b"the server shuts down\n").await?;
    connection.close().await
}

/// Stops the server and prints the reason.
async fn stop(
    mut connection: Connection<impl AsyncRead + AsyncWrite + Unpin>,
    handle: Handle,
) -> io::Result<()> {
    let active = handle.status().active;
    handle.stop();
    connection
        .write_all(format!("stopping, {active} connections are open\n").as_bytes())
        .await?;
    connection.close().await
}
