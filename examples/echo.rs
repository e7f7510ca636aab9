//! An echo server over plain TCP, with the layers that every public server should have.
//!
//! ```text
//! cargo run --release --example echo                  # or: -- 127.0.0.1:7
//! nc 127.0.0.1 PORT                                   # what you type comes back
//! ```
//!
//! Ctrl-C or SIGTERM shuts it down. Connections may finish for up to 30 s; a second signal force-closes them.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use portcullis::{
    BoxError, Connection, Server, ServiceBuilderExt, listener::TcpListener,
    middleware::timeout::IoTimeoutLayer,
};
use std::{env, io};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
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
    println!("try: nc {} {}", address.ip(), address.port());

    let stack = ServiceBuilder::new()
        .peer_addr()
        .trace_connections("echo")
        .connection_limit(1000)
        .layer(IoTimeoutLayer::new())
        .service_fn(echo);

    let server = Server::new().listen(listener, stack).stop_on_signals();
    let report = server.run().await?;
    println!(
        "ended: {} finished, {} force-closed",
        report.ended(),
        report.force_closed().len()
    );
    Ok(())
}

async fn echo(mut connection: Connection<impl AsyncRead + AsyncWrite + Unpin>) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        match connection.read(&mut buffer).await? {
            0 => return connection.close().await,
            read => connection.write_all(&buffer[..read]).await?,
        }
        connection.flush().await?;
    }
}
