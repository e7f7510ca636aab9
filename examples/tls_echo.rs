//! An echo server over TLS, with a self-signed certificate that it creates at start.
//!
//! ```text
//! cargo run --release --example tls_echo              # or: -- 127.0.0.1:8443
//! openssl s_client -quiet -connect 127.0.0.1:PORT     # the exact line is printed
//! ```
//!
//! Plain-text clients receive a TLS alert and are disconnected; try it with `nc`. Ctrl-C or SIGTERM shuts the
//! server down. Connections may finish for up to 30 s; a second signal force-closes them.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use portcullis::{
    BoxError, Connection, Server, ServiceBuilderExt, listener::TcpListener,
    middleware::tls::TlsLayer,
};
use std::{env, io};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (chain, key) = (
        certificate.cert.pem(),
        certificate.signing_key.serialize_pem(),
    );
    let tls = TlsLayer::from_pem(chain.as_bytes(), key.as_bytes())?;

    let address = env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(&address)?;
    let address = listener.local_addr()?;
    println!("listening on {address}");
    println!("try: openssl s_client -quiet -connect {address}");
    println!(
        "and: nc {} {} (it speaks no TLS)",
        address.ip(),
        address.port()
    );

    let stack = ServiceBuilder::new()
        .peer_addr()
        .trace_connections("tls echo")
        .connection_limit(10_000)
        .layer(tls)
        .io_timeout()
        .service_fn(echo);

    let report = Server::new()
        .listen(listener, stack)
        .stop_on_signals()
        .run()
        .await?;
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
            // `close` sends `close_notify`; a plain drop would look like a truncation.
            0 => return connection.close().await,
            read => connection.write_all(&buffer[..read]).await?,
        }
        connection.flush().await?;
    }
}
