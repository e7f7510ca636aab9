//! A connection limit that rejects further clients with an answer, instead of letting them wait.
//!
//! ```text
//! cargo run --release --example refuse                # or: -- 127.0.0.1:7 2
//! nc 127.0.0.1 PORT                                   # twice: an echo
//! nc 127.0.0.1 PORT                                   # a third time: busy, try again later
//! ```
//!
//! The second argument is the limit, two by default. Ctrl-C or SIGTERM shuts the server down; it then prints
//! how many clients it has rejected.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use portcullis::{
    BoxError, Connection, Server, ServiceBuilderExt,
    listener::TcpListener,
    middleware::limit::{ConnectionLimitLayer, Refusal},
};
use std::{env, io};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let limit = arguments.next().map_or(Ok(2), |limit| limit.parse())?;
    let listener = TcpListener::bind(&address)?;
    let address = listener.local_addr()?;
    println!("listening on {address}, at most {limit} connections");
    println!("try: nc {} {}", address.ip(), address.port());

    let (layer, limit) = ConnectionLimitLayer::pair(limit);
    let busy = Refusal::answer("busy, try again later\n");
    let stack = ServiceBuilder::new()
        .peer_addr()
        .trace_connections("refuse")
        .layer(layer.refuse().with_refusal(busy))
        .io_timeout()
        .service_fn(echo);
    let server = Server::new().listen(listener, stack).stop_on_signals();
    server.run().await?;
    println!("rejected: {}", limit.refused());
    Ok(())
}

async fn echo(mut connection: Connection<impl AsyncRead + AsyncWrite + Unpin>) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        match connection.read(&mut buffer).await? {
            0 => return connection.close().await,
            read => connection.write_all(&buffer[..read]).await?,
        }
    }
}
