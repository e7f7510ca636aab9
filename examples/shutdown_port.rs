//! A server that shuts down when a connection on a second port asks for it.
//!
//! ```text
//! cargo run --release --example shutdown_port         # or: -- 127.0.0.1:8080
//! nc 127.0.0.1 PORT                                   # each line comes back
//! echo please | nc 127.0.0.1 CONTROL_PORT             # stops the server
//! echo now!   | nc 127.0.0.1 CONTROL_PORT             # does not: the magic word is missing
//! ```
//!
//! Ctrl-C or SIGTERM shuts it down too.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use portcullis::{
    BoxError, Connection, Server, ServiceBuilderExt, listener::TcpListener,
    middleware::timeout::IoTimeoutLayer, server::Handle,
};
use std::{env, io, time::Duration};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(&address)?;
    let control = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    println!("say please to {} to stop it", control.local_addr()?);

    let work = ServiceBuilder::new()
        .peer_addr()
        .connection_limit(100)
        .io_timeout()
        .service_fn(echo);
    let shutdown = ServiceBuilder::new()
        .peer_addr()
        .connection_limit(10)
        .layer(IoTimeoutLayer::new().with_read_timeout(Duration::from_secs(5)))
        .service_fn(decide);

    Server::new()
        .listen(listener, work)
        .listen_as("control", control, shutdown)
        .on_stop(|report| println!("stopped after {:?}", report.took()))
        .stop_on_signals()
        .run()
        .await?;
    Ok(())
}

async fn echo(connection: Connection<impl AsyncRead + AsyncWrite + Unpin>) -> io::Result<()> {
    let mut connection = BufReader::new(connection);
    let mut line = Vec::new();
    loop {
        // Limits the length of a line, so that a client cannot exhaust the memory.
        let read = (&mut connection)
            .take(4096)
            .read_until(b'\n', &mut line)
            .await?;
        if read == 0 {
            return connection.into_inner().close().await;
        }
        connection.write_all(&line).await?;
        line.clear();
    }
}

/// Stops the server of the connection if the client sends the right word.
async fn decide(connection: Connection<impl AsyncRead + AsyncWrite + Unpin>) -> io::Result<()> {
    let mut connection = BufReader::new(connection);
    let mut word = String::new();
    (&mut connection).take(100).read_line(&mut word).await?;
    let mut connection = connection.into_inner();
    if word.trim() == "please" {
        connection.write_all(b"stopping\n").await?;
        if let Some(server) = Handle::of(connection.info()) {
            server.stop();
        }
    } else {
        connection.write_all(b"you did not say please\n").await?;
    }
    connection.close().await
}
