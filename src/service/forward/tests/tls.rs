//! Sides under TLS.

use super::{bytes::exchange, support::Forwards};
use crate::connect::ReturnConnection;
use portcullis_middleware::{
    Connection, TlsLayer,
    connection::Socket,
    error::find,
    outcome::Outcome,
    testing,
    tls::{TlsClientIo, TlsConnector, TlsIo},
};
use std::io::{self, ErrorKind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::{Layer, ServiceExt};

/// A connection over TCP under TLS, the server's end and the client's.
async fn tls() -> (
    Connection<TlsIo<Socket<TcpStream>>>,
    Connection<TlsClientIo<Socket<TcpStream>>>,
) {
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (root, key) = (identity.cert.pem(), identity.signing_key.serialize_pem());
    let layer = TlsLayer::from_pem(root.as_bytes(), key.as_bytes()).unwrap();
    let connector = TlsConnector::with_roots_pem(root.as_bytes()).unwrap();
    let (server, client) = testing::over_tcp().await;
    let server = layer.layer(ReturnConnection::default()).oneshot(server);
    let client = connector.connect("localhost", Connection::accept(client));
    let (server, client) = tokio::join!(server, client);
    (server.unwrap(), client.unwrap())
}

#[tokio::test]
async fn random_streams_arrive_whole_under_tls_on_either_side_or_both() {
    for seed in 0..4 {
        let (client, theirs) = tls().await;
        let (backend, server) = testing::over_tcp().await;
        let forwards = Forwards::start(client, backend, |s| s);
        exchange(forwards, theirs, server, seed, 1_000_000).await;

        let (client, theirs) = testing::over_tcp().await;
        let (server, backend) = tls().await;
        let forwards = Forwards::start(client, backend, |s| s);
        exchange(forwards, theirs, server, seed, 1_000_000).await;

        let (client, theirs) = tls().await;
        let (server, backend) = tls().await;
        let forwards = Forwards::start(client, backend, |s| s);
        exchange(forwards, theirs, server, seed, 1_000_000).await;
    }
}

/// Reads until the end and returns the bytes with the error.
async fn read_all(mut io: impl tokio::io::AsyncRead + Unpin) -> (usize, io::Result<()>) {
    let mut received = Vec::new();
    let end = io.read_to_end(&mut received).await;
    (received.len(), end.map(drop))
}

#[tokio::test]
async fn a_close_without_close_notify_is_passed_on_as_truncation() {
    let (client, mut theirs) = tls().await;
    let (server, backend) = tls().await;
    let forwards = Forwards::start(client, backend, |s| s);
    theirs.write_all(&[7; 100_000]).await.unwrap();
    theirs.flush().await.unwrap();
    // TCP ends without `close_notify`.
    theirs.get_mut().get_mut().shutdown().await.unwrap();
    let (received, end) = read_all(server).await;
    assert_eq!(received, 100_000);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    let info = forwards.info.clone();
    let error = forwards.result().await.unwrap_err();
    assert_eq!(Outcome::of(&info, Some(&*error)), Outcome::Truncated);
    let cause = find::<io::Error>(&*error).unwrap();
    assert_eq!(cause.kind(), ErrorKind::UnexpectedEof);

    // A plain backend sees a reset.
    let (client, mut theirs) = tls().await;
    let (backend, mut server) = testing::over_tcp().await;
    let forwards = Forwards::start(client, backend, |s| s);
    theirs.write_all(b"request").await.unwrap();
    theirs.flush().await.unwrap();
    server.read_exact(&mut [0; 7]).await.unwrap();
    theirs.get_mut().get_mut().shutdown().await.unwrap();
    let (_, end) = read_all(server).await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    forwards.result().await.unwrap_err();
}

#[tokio::test]
async fn a_small_answer_is_flushed_while_the_connection_stays_open() {
    let (client, mut theirs) = tls().await;
    let (server, backend) = tls().await;
    let _forwards = Forwards::start(client, backend, |s| s);
    let mut server = server;
    for _ in 0..20 {
        theirs.write_all(b"request").await.unwrap();
        theirs.flush().await.unwrap();
        server.read_exact(&mut [0; 7]).await.unwrap();
        server.write_all(b"answer").await.unwrap();
        server.flush().await.unwrap();
        theirs.read_exact(&mut [0; 6]).await.unwrap();
    }
}
