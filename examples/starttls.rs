//! A small mail server whose clients switch to TLS in the middle of the conversation (STARTTLS), and its client.
//!
//! ```text
//! cargo run --release --example starttls                 # or: -- 127.0.0.1:2525
//! openssl s_client -quiet -starttls smtp -connect 127.0.0.1:PORT
//! cargo run --release --example starttls -- --client 127.0.0.1:PORT chain.pem    # the exact line is printed
//! ```
//!
//! It answers `EHLO`, `NOOP`, `STARTTLS` and `QUIT`, and under TLS any other line. Bytes behind STARTTLS end the
//! connection; try `printf 'STARTTLS\r\nNOOP\r\n' | nc 127.0.0.1 PORT`. A stack that only needs TLS on request, in
//! front of another server, uses `PreludeLayer` instead. Ctrl-C or SIGTERM shuts the server down.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use portcullis::{
    BoxError, Connection, Server, ServiceBuilderExt,
    connect::connect,
    io::unbuffered,
    listener::TcpListener,
    middleware::tls::{TlsConnector, TlsLayer},
};
use std::{env, fs, io, process};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    match (&*address, arguments.next(), arguments.next()) {
        ("--client", Some(server), Some(roots)) => client(&server, &roots).await,
        ("--client", ..) => Err("name the server's address and its certificate".into()),
        _ => serve(&address).await,
    }
}

async fn serve(address: &str) -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (chain, key) = (
        certificate.cert.pem(),
        certificate.signing_key.serialize_pem(),
    );
    let tls = TlsLayer::from_pem(chain.as_bytes(), key.as_bytes())?;

    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    let file = env::temp_dir().join(format!("portcullis-starttls-{}.pem", process::id()));
    fs::write(&file, chain)?;
    println!("listening on {address}");
    println!("try: openssl s_client -quiet -starttls smtp -connect {address}");
    println!(
        "or this program with: --client {address} {}",
        file.display()
    );

    let stack = ServiceBuilder::new()
        .peer_addr()
        .trace_connections("mail")
        .connection_limit(1000)
        .io_timeout()
        .service_fn(move |connection| converse(connection, tls.clone()));
    let served = Server::new()
        .listen(listener, stack)
        .stop_on_signals()
        .run()
        .await;
    fs::remove_file(file)?;
    served?;
    Ok(())
}

/// The whole conversation: in plain text, then under TLS.
async fn converse(
    connection: Connection<impl AsyncRead + AsyncWrite + Unpin + 'static>,
    tls: TlsLayer,
) -> Result<(), BoxError> {
    let mut plain = BufReader::new(connection);
    plain.write_all(b"220 localhost ESMTP\r\n").await?;
    let End::StartTls = answer(&mut plain).await? else {
        return Ok(plain.into_inner().close().await?);
    };
    // Fails if bytes follow STARTTLS. An attacker on the network could have added them.
    let connection = tls.accept(unbuffered(plain)?).await?;
    let mut private = BufReader::new(connection);
    answer(&mut private).await?;
    Ok(private.into_inner().close().await?)
}

enum End {
    Quit,
    StartTls,
}

/// Answers commands until one of them ends this part of the conversation.
async fn answer<Io>(connection: &mut BufReader<Connection<Io>>) -> io::Result<End>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        connection.flush().await?;
        let Some(line) = read_line(connection).await? else {
            return Ok(End::Quit);
        };
        let tls = connection.get_ref().tls().and_then(|tls| tls.version);
        let command = line.split(' ').next().unwrap_or_default();
        let (reply, end) = match (&*command.to_ascii_uppercase(), tls) {
            ("EHLO", None) => ("250-localhost\r\n250 STARTTLS".to_owned(), None),
            ("EHLO", Some(_)) => ("250 localhost".to_owned(), None),
            ("NOOP", _) => ("250 OK".to_owned(), None),
            ("QUIT", _) => ("221 Bye".to_owned(), Some(End::Quit)),
            ("STARTTLS", None) => ("220 Go ahead".to_owned(), Some(End::StartTls)),
            (_, None) => ("530 Must issue a STARTTLS command first".to_owned(), None),
            (_, Some(tls)) => (format!("250 by {tls}: {}", line.escape_debug()), None),
        };
        // In one write, because some clients begin TLS behind the first part that they read.
        connection
            .write_all(format!("{reply}\r\n").as_bytes())
            .await?;
        if let Some(end) = end {
            connection.flush().await?;
            return Ok(end);
        }
    }
}

async fn client(server: &str, roots: &str) -> Result<(), BoxError> {
    let tls = TlsConnector::with_roots_pem(&fs::read(roots)?)?;
    let mut plain = BufReader::new(connect(server).await?);
    read_line(&mut plain).await?;
    plain.write_all(b"STARTTLS\r\n").await?;
    let reply = read_line(&mut plain).await?.unwrap_or_default();
    if !reply.starts_with("220 ") {
        return Err(format!("the server does not start TLS: {}", reply.escape_debug()).into());
    }
    // The same on this side: no reply of the server may arrive before TLS does.
    let connection = tls.connect("localhost", unbuffered(plain)?).await?;
    let mut private = BufReader::new(connection);
    private.write_all(b"Hello!\r\n").await?;
    private.flush().await?;
    println!("{}", read_line(&mut private).await?.unwrap_or_default());
    Ok(private.into_inner().close().await?)
}

/// Reads a line of at most 512 bytes; `None` at the end.
async fn read_line(reader: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    reader.take(512).read_until(b'\n', &mut line).await?;
    match line.strip_suffix(b"\n") {
        Some(line) => Ok(Some(String::from_utf8_lossy(line).trim_end().to_owned())),
        None if line.is_empty() => Ok(None),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "incomplete line",
        )),
    }
}
