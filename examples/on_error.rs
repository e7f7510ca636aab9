//! An error handler that answers the client when the service fails or panics.
//!
//! ```text
//! cargo run --release --example on_error              # or: -- 127.0.0.1:7
//! echo 12 4 | nc -N 127.0.0.1 PORT                    # 3
//! echo 12 apples | nc -N 127.0.0.1 PORT               # error: invalid digit found in string
//! echo 12 0 | nc -N 127.0.0.1 PORT                    # internal error
//! ```
//!
//! The service divides two numbers and only returns errors; dividing by zero panics. The handler writes the
//! answer, closes the connection gracefully, and returns the error, so that the log still shows a failure.
//! Ctrl-C or SIGTERM shuts the server down.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use portcullis::{
    BoxError, Connection, Server, ServiceBuilderExt,
    listener::TcpListener,
    middleware::{error::Panicked, handler::OnErrorLayer},
};
use std::{env, io};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let address = env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(&address)?;
    let address = listener.local_addr()?;
    println!("listening on {address}");
    println!("try: echo 12 4 | nc -N {} {}", address.ip(), address.port());

    let stack = ServiceBuilder::new()
        .peer_addr()
        .trace_connections("on_error")
        .connection_limit(1000)
        .io_timeout()
        .layer(OnErrorLayer::new(|error, connection| async move {
            // `None` if another task owns the connection.
            if let Some(connection) = connection {
                answer(&error, connection).await?;
            }
            Err::<(), _>(error)
        }))
        .service_fn(divide);
    let server = Server::new().listen(listener, stack).stop_on_signals();
    server.run().await?;
    Ok(())
}

/// Tells the client what went wrong. A panic may reveal internals, so its text stays in the log.
async fn answer(
    error: &BoxError,
    mut connection: Connection<impl AsyncRead + AsyncWrite + Unpin>,
) -> io::Result<()> {
    let text = match error.is::<Panicked>() {
        true => "internal error\n".to_owned(),
        false => format!("error: {error}\n"),
    };
    connection.write_all(text.as_bytes()).await?;
    connection.close().await
}

async fn divide(
    mut connection: Connection<impl AsyncRead + AsyncWrite + Unpin>,
) -> Result<(), BoxError> {
    let mut line = String::new();
    let mut reader = BufReader::new((&mut connection).take(100));
    if reader.read_line(&mut line).await? > 0 {
        let (dividend, divisor) = line.trim().split_once(' ').ok_or("two numbers, please")?;
        let quotient = dividend.parse::<u64>()? / divisor.parse::<u64>()?;
        let answer = format!("{quotient}\n");
        connection.write_all(answer.as_bytes()).await?;
    }
    connection.close().await?;
    Ok(())
}
