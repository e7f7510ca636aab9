//! The stream of plaintext, its end and its cost.

use super::*;
use crate::{
    io::Passthrough,
    tls::{TlsIo, handshake::handshake},
};
use std::{future::poll_fn, io::IoSlice, mem::size_of};
use tokio::io::BufStream;
use tokio_test::{assert_pending, task};

type Server = Connection<TlsIo<Socket<TcpStream>>>;

/// Both ends of a connection over loopback, after the handshake.
async fn established() -> (Server, TlsStream<TcpStream>) {
    let (connection, io) = over_tcp().await;
    let (server, client) = tokio::join!(handshake(tls_layer(), connection), connect(client(), io));
    (server.unwrap(), client.unwrap())
}

#[tokio::test]
async fn a_close_is_a_clean_end_for_the_client() {
    let (mut server, client) = established().await;
    server.write_all(b"complete").await.unwrap();
    let (closed, (received, end)) = tokio::join!(server.close(), read_all(client));
    closed.unwrap();
    assert_eq!(received, b"complete");
    assert!(end.is_ok());
}

#[tokio::test]
async fn a_drop_is_a_truncation_for_the_client() {
    let (mut server, mut client) = established().await;
    server.write_all(b"half an ans").await.unwrap();
    server.flush().await.unwrap();
    drop(server);
    let (received, end) = read_all(&mut client).await;
    assert_eq!(received, b"half an ans");
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_client_that_ends_without_saying_so_is_noted() {
    let (mut server, mut client) = established().await;
    let known = info(&server);
    client.write_all(b"half a quest").await.unwrap();
    client.flush().await.unwrap();
    // Ends TCP only. A drop would be a reset, because of unread session tickets.
    client.get_mut().0.shutdown().await.unwrap();
    let (received, end) = read_all(&mut server).await;
    assert_eq!(received, b"half a quest");
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert!(known.is_truncated());
}

#[tokio::test]
async fn a_client_that_says_nothing_after_our_good_bye_has_cut_nothing_off() {
    let (mut server, mut client) = established().await;
    let known = info(&server);
    server.write_all(b"answer").await.unwrap();
    let leave = async {
        let (received, end) = read_all(&mut client).await;
        assert_eq!((received.as_slice(), end.is_ok()), (&b"answer"[..], true));
        client.get_mut().0.shutdown().await
    };
    let (closed, left) = tokio::join!(server.close(), leave);
    closed.unwrap();
    left.unwrap();
    assert!(!known.is_truncated());
}

#[tokio::test]
async fn after_a_shutdown_of_ours_an_end_without_a_word_cuts_nothing_off() {
    let (mut server, mut client) = established().await;
    let known = info(&server);
    server.shutdown().await.unwrap();
    client.get_mut().0.shutdown().await.unwrap();
    let (_, end) = read_all(&mut server).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert!(!known.is_truncated());
}

#[tokio::test]
async fn a_client_may_end_its_side_and_still_be_answered() {
    let (mut server, mut client) = established().await;
    let known = info(&server);
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let (received, end) = read_all(&mut server).await;
    assert_eq!((received.as_slice(), end.unwrap()), (&b"question"[..], 8));
    assert!(!known.is_truncated());
    let answer = async {
        server.write_all(b"answer").await?;
        server.close().await
    };
    let (closed, (received, end)) = tokio::join!(answer, read_all(client));
    closed.unwrap();
    assert_eq!(received, b"answer");
    assert!(end.is_ok());
}

#[tokio::test]
async fn our_side_may_end_and_still_be_told_things() {
    let (mut server, mut client) = established().await;
    server.write_all(b"that is all").await.unwrap();
    server.shutdown().await.unwrap();
    let (received, end) = read_all(&mut client).await;
    assert_eq!(
        (received.as_slice(), end.is_ok()),
        (&b"that is all"[..], true)
    );
    client.write_all(b"thanks").await.unwrap();
    client.shutdown().await.unwrap();
    let (received, end) = read_all(&mut server).await;
    assert_eq!((received.as_slice(), end.is_ok()), (&b"thanks"[..], true));
}

#[tokio::test]
async fn vectored_writes_become_one_record() {
    let (mut server, mut client) = established().await;
    assert!(server.is_write_vectored());
    let before = info(&server).bytes_written();
    let parts = [IoSlice::new(b"hello "), IoSlice::new(b"world")];
    assert_eq!(server.write_vectored(&parts).await.unwrap(), 11);
    server.flush().await.unwrap();
    let record = info(&server).bytes_written() - before;
    assert!(record < 11 + 2 * 22, "one record has 22 bytes of its own");
    let mut received = [0; 11];
    client.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"hello world");
}

#[tokio::test]
async fn the_io_underneath_and_the_session_are_within_reach() {
    let (mut server, _client) = established().await;
    let tls = server.get_mut();
    assert!(tls.get_ref().get_ref().peer_addr().is_ok());
    assert!(tls.get_mut().get_ref().peer_addr().is_ok());
    assert_eq!(tls.session().is_none(), is_unbuffered());
    if let Some(session) = tls.session_mut() {
        assert!(!session.is_handshaking());
        session.set_buffer_limit(Some(1024));
    }
    let (socket, session) = server.detach().into_inner();
    let name = session.as_ref().and_then(|session| session.server_name());
    assert_eq!(name, (!is_unbuffered()).then_some("localhost"));
    assert!(socket.get_ref().peer_addr().is_ok());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_foreign_stream_knows_what_the_system_has_not_sent() {
    let (mut server, mut client) = established().await;
    server.write_all(b"x").await.unwrap();
    server.flush().await.unwrap();
    // With the session tickets before it; a peer counts as connected while something is unread.
    client.read_exact(&mut [0]).await.unwrap();
    let socket = server.get_ref().get_ref().get_ref();
    socket2::SockRef::from(socket)
        .set_recv_buffer_size(65_536)
        .unwrap();
    // More than the server accepts, and less than the system keeps.
    client.write_all(&[7; 300_000]).await.unwrap();
    client.flush().await.unwrap();
    assert_pending!(task::spawn(poll_fn(|cx| client.poll_sent(cx))).poll());
    let mut client = BufStream::new(tokio_rustls::TlsStream::from(client));
    assert_pending!(task::spawn(poll_fn(|cx| client.poll_sent(cx))).poll());
    assert_pending!(task::spawn(poll_fn(|cx| client.poll_departure(cx))).poll());
    server.abort();
    let gone = poll_fn(|cx| client.poll_departure(cx)).await;
    assert_eq!(gone.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_peer_of_a_foreign_stream_that_has_ended_its_side_counts_as_connected() {
    let (mut server, client) = established().await;
    let mut client = BufStream::new(client);
    server.write_all(b"x").await.unwrap();
    server.flush().await.unwrap();
    client.read_exact(&mut [0]).await.unwrap();
    // Without `close_notify`, which would be unread input.
    let socket = server.get_ref().get_ref().get_ref();
    socket2::SockRef::from(socket)
        .shutdown(std::net::Shutdown::Write)
        .unwrap();
    let end = client.get_ref().get_ref().0.peek(&mut [0]).await;
    assert_eq!(end.unwrap(), 0);
    assert_pending!(task::spawn(poll_fn(|cx| client.poll_departure(cx))).poll());
}

#[tokio::test]
async fn what_is_served_is_small_and_the_handshake_bounded() {
    assert!(size_of::<TlsIo<Socket<TcpStream>>>() <= 2 * size_of::<usize>());
    let (connection, _io) = over_tcp().await;
    let future = handshake(tls_layer(), connection);
    let stream = size_of::<tokio_rustls::server::TlsStream<Socket<TcpStream>>>();
    assert!(size_of_val(&future) < 2 * stream, "it holds one stream");
}
