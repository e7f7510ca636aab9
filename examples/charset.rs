//! A server that works in UTF-8 and talks Latin 1 on the wire. It returns each line in capitals.
//!
//! ```text
//! cargo run --release --example charset --features transcode    # or: -- 127.0.0.1:0 koi8-r
//! printf 'gr\374n\n' | nc -N 127.0.0.1 PORT | iconv -f latin1   # GRÜN
//! ```
//!
//! The second argument is the charset on the wire (Latin 1 is windows-1252 in the Encoding Standard). A
//! character that the charset lacks, invalid bytes, and a line longer than 4 KiB end the connection. Ctrl-C
//! or SIGTERM shuts the server down.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use portcullis::{
    BoxError, Connection, Server, ServiceBuilderExt, listener::TcpListener,
    middleware::stream::TranscodeLayer,
};
use std::{env, io};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let charset = arguments.next().unwrap_or_else(|| "iso-8859-1".to_owned());
    let listener = TcpListener::bind(&address)?;
    println!("listening on {}, in {charset}", listener.local_addr()?);

    let stack = ServiceBuilder::new()
        .peer_addr()
        .connection_limit(100)
        .io_timeout()
        .layer(TranscodeLayer::for_label(&charset)?)
        .service_fn(capitals);
    Server::new()
        .listen(listener, stack)
        .stop_on_signals()
        .run()
        .await?;
    Ok(())
}

async fn capitals(connection: Connection<impl AsyncRead + AsyncWrite + Unpin>) -> io::Result<()> {
    let mut connection = BufReader::new(connection);
    let mut line = String::new();
    // Limits the length of a line, so that a client cannot exhaust the memory.
    while (&mut connection).take(4096).read_line(&mut line).await? > 0 {
        if line.len() == 4096 && !line.ends_with('\n') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "line of more than 4 KiB",
            ));
        }
        connection.write_all(line.to_uppercase().as_bytes()).await?;
        line.clear();
    }
    connection.into_inner().close().await
}
