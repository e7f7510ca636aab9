//! Sides under TLS.

use super::{
    bytes::exchange,
    support::{Forwards, until},
};
use crate::connect::ReturnConnection;
use portcullis_middleware::{
    Connection, TlsLayer,
    connection::{EndedBy, Socket},
    error::find,
    outcome::Outcome,
    testing,
    tls::{TlsClientIo, TlsConnector, TlsIo},
};
use socket2::SockRef;
use std::{
    io::{self, ErrorKind},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tower::{Layer, ServiceExt};

/// A connection over TCP under TLS, the server's end and the client's. The session holds no buffer.
async fn tls() -> (
    Connection<TlsIo<Socket<TcpStream>>>,
    Connection<TlsClientIo<Socket<TcpStream>>>,
) {
    tls_with(TlsLayer::unbuffered).await
}

async fn tls_with(
    session: impl FnOnce(TlsLayer) -> TlsLayer,
) -> (
    Connection<TlsIo<Socket<TcpStream>>>,
    Connection<TlsClientIo<Socket<TcpStream>>>,
) {
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (root, key) = (identity.cert.pem(), identity.signing_key.serialize_pem());
    let layer = session(TlsLayer::from_pem(root.as_bytes(), key.as_bytes()).unwrap());
    let connector = TlsConnector::with_roots_pem(root.as_bytes())
        .unwrap()
        .unbuffered();
    let (server, client) = testing::over_tcp().await;
    let server = layer.layer(ReturnConnection::default()).oneshot(server);
    let client = connector.connect("localhost", Connection::accept(client));
    let (server, client) = tokio::join!(server, client);
    (server.unwrap(), client.unwrap())
}

#[tokio::test]
async fn an_answer_that_has_ended_arrives_although_the_backend_resets_after_it() {
    let (client, mut theirs) = testing::over_tcp().await;
    let (mut server, backend) = tls_with(|layer| layer).await;
    let forwards = Forwards::start(client, backend, |s| s);
    // Receives slowly, so that the system still holds most of the answer.
    SockRef::from(&theirs).set_recv_buffer_size(65_536).unwrap();
    server.write_all(&[7; ANSWER]).await.unwrap();
    // Ends the stream, but not the connection.
    let session = server.get_mut().session_mut().unwrap();
    session.send_close_notify();
    server.flush().await.unwrap();
    until(|| forwards.info.ended_by().is_some()).await;
    server.abort();
    // The backend does not receive this.
    theirs.write_all(&[7; 1000]).await.unwrap();
    until(|| forwards.info.bytes_read() >= 1000).await;
    let (received, end) = timeout(PATIENCE, read_all(theirs)).await.unwrap();
    assert_eq!(received, ANSWER);
    end.unwrap();
    let error = forwards.error().await;
    assert_eq!(error.forwarded.to_client, ANSWER as u64);
    assert_eq!(error.forwarded.ended_by, EndedBy::Backend, "{}", error.text);
}

#[tokio::test]
async fn what_a_backend_sent_before_a_reset_arrives_under_tls_although_the_client_still_sends() {
    let (client, theirs) = tls().await;
    let (backend, mut server) = testing::over_tcp().await;
    let forwards = Forwards::start(client, backend, |s| s);
    let socket = theirs.get_ref().get_ref().get_ref();
    SockRef::from(socket).set_recv_buffer_size(65_536).unwrap();
    let (reader, mut writer) = tokio::io::split(theirs);
    let sending =
        tokio::spawn(async move { while writer.write_all(&[7; 65_536]).await.is_ok() {} });
    server.write_all(&[7; ANSWER]).await.unwrap();
    until(|| forwards.info.bytes_written() >= ANSWER as u64).await;
    // It has not read, so its system resets the connection.
    drop(server);
    until(|| forwards.info.ended_by().is_some()).await;
    let (received, end) = timeout(PATIENCE, read_all(reader)).await.unwrap();
    assert_eq!(received, ANSWER);
    end.unwrap_err();
    sending.await.unwrap();
    assert_eq!(forwards.error().await.forwarded.ended_by, EndedBy::Backend);
}

const PATIENCE: Duration = Duration::from_secs(20);

/// More than a client that does not read receives.
const ANSWER: usize = 500_000;

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

        // With the default session, which has buffers.
        let (client, theirs) = tls_with(|layer| layer).await;
        let (backend, server) = testing::over_tcp().await;
        let forwards = Forwards::start(client, backend, |s| s);
        exchange(forwards, theirs, server, seed, 1_000_000).await;
    }
}

/// Reads until the end and returns the bytes with the error.
async fn read_all(mut io: impl AsyncRead + Unpin) -> (usize, io::Result<()>) {
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

#[cfg(target_os = "linux")]
#[tokio::test]
async fn truncation_is_passed_on_to_a_plain_side_after_everything_was_sent() {
    const TOTAL: usize = 1_000_000;
    let (client, mut theirs) = tls().await;
    let (backend, server) = testing::over_tcp().await;
    SockRef::from(&server).set_recv_buffer_size(65_536).unwrap();
    let forwards = Forwards::start(client, backend, |s| s);
    theirs.write_all(&[7; TOTAL]).await.unwrap();
    theirs.flush().await.unwrap();
    theirs.get_mut().get_mut().shutdown().await.unwrap();
    // The server reads late.
    sleep(Duration::from_millis(300)).await;
    let (received, end) = read_all(server).await;
    assert_eq!(received, TOTAL);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let info = forwards.info.clone();
    let error = forwards.result().await.unwrap_err();
    assert_eq!(Outcome::of(&info, Some(&*error)), Outcome::Truncated);
}

#[tokio::test]
async fn a_damaged_record_ends_both_sides_although_the_alert_does_not_fit_into_the_socket() {
    let (client, mut theirs) = tls().await;
    let (backend, mut server) = testing::over_tcp().await;
    let forwards = Forwards::start(client, backend, |s| s);
    // The client does not read.
    let piece = vec![7; 65_536];
    while timeout(Duration::from_millis(300), server.write(&piece))
        .await
        .is_ok()
    {}
    let damaged = [&[23, 3, 3, 0, 32][..], &[7; 32]].concat();
    let socket = theirs.get_mut().get_mut();
    socket.write_all(&damaged).await.unwrap();
    let ended = timeout(Duration::from_secs(10), forwards.result()).await;
    let error = ended.expect("it does not wait for the client").unwrap_err();
    let cause = find::<io::Error>(&*error).unwrap();
    assert_eq!(cause.kind(), ErrorKind::InvalidData);
    let (_, end) = read_all(server).await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_client_need_not_answer_a_close_notify() {
    let (client, mut theirs) = tls().await;
    let (backend, mut server) = testing::over_tcp().await;
    let forwards = Forwards::start(client, backend, |s| s);
    server.write_all(b"answer").await.unwrap();
    server.shutdown().await.unwrap();
    let mut received = Vec::new();
    theirs.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"answer");
    drop(theirs);
    let (_, end) = read_all(server).await;
    end.unwrap();
    forwards.result().await.unwrap();
}

#[tokio::test]
async fn a_backend_need_not_answer_a_close_notify() {
    for early in [&b"the whole answer"[..], b""] {
        let (client, mut theirs) = testing::over_tcp().await;
        let (mut server, backend) = tls().await;
        let forwards = Forwards::start(client, backend, |s| s);
        server.write_all(early).await.unwrap();
        server.flush().await.unwrap();
        theirs.read_exact(&mut vec![0; early.len()]).await.unwrap();
        theirs.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        // TCP ends without `close_notify`.
        server.get_mut().get_mut().shutdown().await.unwrap();
        let (_, end) = read_all(theirs).await;
        end.unwrap();
        forwards.result().await.unwrap();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_answer_to_a_half_closed_client_may_be_truncated_too() {
    for answer in [15, 1_000_000] {
        let (client, mut theirs) = testing::over_tcp().await;
        let (mut server, backend) = tls().await;
        let forwards = Forwards::start(client, backend, |s| s);
        theirs.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        let answering = async {
            server.write_all(&vec![7; answer]).await.unwrap();
            server.flush().await.unwrap();
            server.get_mut().get_mut().shutdown().await.unwrap();
        };
        let ((received, end), ()) = tokio::join!(read_all(theirs), answering);
        assert_eq!(received, answer);
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let error = forwards.error().await;
        assert_eq!(error.kind, ErrorKind::UnexpectedEof);
        assert!(error.text.contains("backend"), "{}", error.text);
    }
}

#[tokio::test]
async fn both_directions_may_be_saturated_under_tls() {
    let (client, theirs) = tls().await;
    let (server, backend) = tls().await;
    let forwards = Forwards::start(client, backend, |s| s);
    let (down, up) = tokio::join!(saturate(theirs), saturate(server));
    assert_eq!((down, up), (BULK, BULK));
    let forwarded = forwards.result().await.unwrap();
    assert_eq!((forwarded.to_backend, forwarded.to_client), (BULK, BULK));
}

/// Sends and receives as fast as possible; returns the number of bytes that were received.
async fn saturate(io: impl AsyncRead + AsyncWrite) -> u64 {
    let (mut input, mut output) = tokio::io::split(io);
    let sending = async {
        let mut bytes = tokio::io::repeat(7).take(BULK);
        tokio::io::copy(&mut bytes, &mut output).await.unwrap();
        output.shutdown().await.unwrap();
    };
    let mut sink = tokio::io::sink();
    let receiving = tokio::io::copy(&mut input, &mut sink);
    tokio::join!(sending, receiving).1.unwrap()
}

const BULK: u64 = 16_000_000;
