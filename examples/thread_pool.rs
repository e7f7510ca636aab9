//! A fixed number of threads. Each connection runs on the least busy one and stays there.
//!
//! ```text
//! cargo run --release --example thread_pool           # or: -- 127.0.0.1:8080 8
//! nc 127.0.0.1 PORT                                   # tells which thread serves you, then echoes
//! ```
//!
//! The second argument is the number of threads, four by default. Ctrl-C or SIGTERM shuts the server down.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use portcullis::{
    BoxError, Connection, Server, ServiceBuilderExt, listener::TcpListener, server::Workers,
};
use std::{env, io, thread};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tower::ServiceBuilder;

// The main thread only accepts.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let threads = arguments.next().map_or(Ok(4), |number| number.parse())?;
    let listener = TcpListener::bind(&address)?;
    println!("listening on {}", listener.local_addr()?);

    let stack = ServiceBuilder::new()
        .peer_addr()
        .connection_limit(1000)
        .io_timeout()
        .service_fn(serve);
    Server::new()
        .listen(listener, stack)
        .workers(Workers::LeastBusy(threads))
        .stop_on_signals()
        .run()
        .await?;
    Ok(())
}

async fn serve(mut connection: Connection<impl AsyncRead + AsyncWrite + Unpin>) -> io::Result<()> {
    let worker = thread::current().name().unwrap_or("a thread").to_owned();
    connection
        .write_all(format!("served by {worker}\n").as_bytes())
        .await?;
    let mut buffer = [0; 1024];
    loop {
        match connection.read(&mut buffer).await? {
            0 => return connection.close().await,
            read => connection.write_all(&buffer[..read]).await?,
        }
    }
}
