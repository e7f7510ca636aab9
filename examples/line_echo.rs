//! A line echo server with a codec that reads and writes one line at a time.
//!
//! ```text
//! cargo run --release --example line_echo             # or: -- 127.0.0.1:0
//! nc 127.0.0.1 2020                                   # each line comes back
//! cargo run --release --example line_echo -- --client 127.0.0.1:2020 hello world
//! ```
//!
//! The client sends each argument as a line and prints the reply. A line longer than 8 KiB ends the
//! connection. Ctrl-C or SIGTERM shuts the server down.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use futures_util::{SinkExt, StreamExt};
use portcullis::{
    BoxError, Connection, Server, ServiceBuilderExt, connect::connect, listener::TcpListener,
};
use std::env;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{Framed, LinesCodec};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut arguments = env::args().skip(1);
    match arguments.next() {
        Some(flag) if flag == "--client" => {
            let server = arguments
                .next()
                .unwrap_or_else(|| "127.0.0.1:2020".to_owned());
            client(&server, arguments).await
        }
        address => serve(&address.unwrap_or_else(|| "127.0.0.1:2020".to_owned())).await,
    }
}

async fn serve(address: &str) -> Result<(), BoxError> {
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let stack = ServiceBuilder::new()
        .peer_addr()
        .connection_limit(100)
        .io_timeout()
        .service_fn(echo);
    Server::new()
        .listen(listener, stack)
        .stop_on_signals()
        .run()
        .await?;
    Ok(())
}

async fn echo(connection: Connection<impl AsyncRead + AsyncWrite + Unpin>) -> Result<(), BoxError> {
    let mut lines = Framed::new(connection, lines());
    while let Some(line) = lines.next().await {
        lines.send(line?).await?;
    }
    lines.into_inner().close().await?;
    Ok(())
}

async fn client(server: &str, words: impl Iterator<Item = String>) -> Result<(), BoxError> {
    let mut lines = Framed::new(connect(server).await?, lines());
    for word in words {
        lines.send(word).await?;
        match lines.next().await {
            Some(line) => println!("{}", line?),
            None => break,
        }
    }
    lines.into_inner().close().await?;
    Ok(())
}

fn lines() -> LinesCodec {
    LinesCodec::new_with_max_length(8 * 1024)
}
