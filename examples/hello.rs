//! A server that sends "Hello!", and a client that replies "Good Bye!".
//!
//! ```text
//! cargo run --release --example hello                          # the server, on port 4242
//! cargo run --release --example hello -- server 127.0.0.1:0
//! cargo run --release --example hello -- client 127.0.0.1:4242
//! nc 127.0.0.1 4242                                            # says Hello! and waits for a line
//! ```
//!
//! Ctrl-C or SIGTERM shuts the server down.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use portcullis::{
    BoxError, Connection, Server, ServiceBuilderExt, connect::connect, listener::TcpListener,
};
use std::{env, io};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut arguments = env::args().skip(1);
    let side = arguments.next().unwrap_or_else(|| "server".to_owned());
    let address = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:4242".to_owned());
    match side.as_str() {
        "client" => client(&address).await,
        "server" => server(&address).await,
        address => server(address).await,
    }
}

async fn server(address: &str) -> Result<(), BoxError> {
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let stack = ServiceBuilder::new()
        .peer_addr()
        .connection_limit(100)
        .io_timeout()
        .service_fn(greet);
    Server::new()
        .listen(listener, stack)
        .stop_on_signals()
        .run()
        .await?;
    Ok(())
}

async fn greet(mut connection: Connection<impl AsyncRead + AsyncWrite + Unpin>) -> io::Result<()> {
    connection.write_all(b"Hello!\n").await?;
    let (line, connection) = read_line(connection).await?;
    println!("{} says: {}", connection.info().peer(), line.escape_debug());
    connection.close().await
}

async fn client(address: &str) -> Result<(), BoxError> {
    let connection = connect(address).await?;
    let (line, mut connection) = read_line(connection).await?;
    println!("{address} says: {}", line.escape_debug());
    connection.write_all(b"Good Bye!\n").await?;
    connection.close().await?;
    Ok(())
}

/// Reads a line of at most a hundred bytes.
async fn read_line<IO: AsyncRead + Unpin>(
    connection: Connection<IO>,
) -> io::Result<(String, Connection<IO>)> {
    let mut reader = BufReader::new(connection);
    let mut line = Vec::new();
    (&mut reader).take(100).read_until(b'\n', &mut line).await?;
    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
    Ok((line, reader.into_inner()))
}
