//! Tests of the layer, over sockets.

use super::*;
use crate::{
    BoxError, Connection,
    io::Passthrough,
    peer_addr::PeerAddrLayer,
    testing::{connection, over_tcp},
};
use encoding_rs::*;
use std::future::poll_fn;
use tokio::{
    io::{duplex, split},
    net::{TcpSocket, TcpStream},
};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

static_assertions::assert_impl_all!(TranscodeIo<TcpStream>: Send, Sync, Unpin);
static_assertions::assert_impl_all!(Transcode<()>: Clone, std::fmt::Debug, Send, Sync);

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_stream_of_text_knows_what_the_system_has_not_sent_and_what_is_unread() {
    let (connection, mut client) = over_tcp().await;
    let text = |io| TranscodeIo::new(io, WINDOWS_1252, BadText::Replace).unwrap();
    let mut connection = connection.map_io(text);
    crate::io::splice_tests::assert_sees_unread(connection.get_ref(), &mut client).await;
    connection.write_all(&[b'x'; 500_000]).await.unwrap();
    connection.flush().await.unwrap();
    assert_pending!(task::spawn(poll_fn(|cx| connection.poll_sent(cx))).poll());
}

#[test]
fn charsets_go_by_their_labels() {
    for (label, encoding) in [
        ("utf-8", UTF_8),
        ("ISO-8859-1", WINDOWS_1252),
        (" Shift_JIS ", SHIFT_JIS),
        ("latin2", ISO_8859_2),
    ] {
        assert_eq!(
            TranscodeLayer::for_label(label).unwrap().encoding(),
            encoding
        );
    }
}

#[test]
fn charsets_that_do_not_exist_or_cannot_be_written_are_refused() {
    let unknown = TranscodeLayer::for_label("no\nsuch").unwrap_err();
    assert_eq!((unknown.label(), unknown.is_known()), ("no\nsuch", false));
    assert_eq!(unknown.to_string(), r#"unknown charset "no\nsuch""#);
    for encoding in [UTF_16BE, UTF_16LE, REPLACEMENT] {
        let refused = TranscodeLayer::new(encoding).unwrap_err();
        assert_eq!(
            (refused.label(), refused.is_known()),
            (encoding.name(), true)
        );
        assert!(TranscodeIo::new((), encoding, BadText::Fail).is_err());
    }
    let refused = TranscodeLayer::for_label("utf-16").unwrap_err();
    assert_eq!(refused.to_string(), "charset UTF-16LE cannot be written");
}

#[test]
fn the_layer_passes_readiness_on() {
    let (inner, mut handle) = tower_test::mock::pair::<Connection<TranscodeIo<()>>, ()>();
    let layer = TranscodeLayer::new(BIG5).unwrap();
    let mut service = task::spawn(layer.layer(inner));
    handle.allow(0);
    assert_pending!(service.enter(|cx, mut service| service.poll_ready(cx)));
    handle.allow(1);
    assert_ready!(service.enter(|cx, mut service| service.poll_ready(cx))).unwrap();
    drop(service.call(connection(())));
}

/// The pipe is small, so a large write waits until the other end reads.
async fn loopback() -> (TcpStream, TcpStream) {
    let (server, client) = (TcpSocket::new_v4().unwrap(), TcpSocket::new_v4().unwrap());
    server.set_recv_buffer_size(4096).unwrap();
    client.set_send_buffer_size(4096).unwrap();
    server.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = server.listen(1).unwrap();
    let client = client.connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::try_join!(client, listener.accept()).unwrap();
    (accepted.0, client)
}

#[tokio::test]
async fn a_handler_over_tcp_speaks_utf_8_and_its_client_another_charset() {
    let stack = ServiceBuilder::new()
        .layer(PeerAddrLayer::new())
        .layer(TranscodeLayer::new(EUC_JP).unwrap())
        .service_fn(|mut connection: Connection<_>| async move {
            let mut text = String::new();
            connection.read_to_string(&mut text).await?;
            let reversed: String = text.chars().rev().collect();
            connection.write_all(reversed.as_bytes()).await?;
            connection.close().await?;
            Ok::<_, BoxError>(())
        });
    let (ours, mut client) = loopback().await;
    let talk = async {
        let (sent, ..) = EUC_JP.encode("日本語");
        client.write_all(&sent).await?;
        client.shutdown().await?;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await?;
        assert_eq!(answer, *EUC_JP.encode("語本日").0);
        Ok(())
    };
    in_time(async { tokio::try_join!(stack.oneshot(ours), talk) })
        .await
        .unwrap();
}

/// With unread input the kernel would send a reset, and the client would fail before it reads.
#[tokio::test]
async fn a_handler_that_rejects_bad_text_over_tcp_still_gets_its_answer_through() {
    let stack = ServiceBuilder::new()
        .layer(PeerAddrLayer::new())
        .layer(TranscodeLayer::new(UTF_8).unwrap())
        .service_fn(|mut connection: Connection<_>| async move {
            let error = connection.read_to_string(&mut String::new()).await;
            let error = typed(error.unwrap_err());
            connection.write_all(error.to_string().as_bytes()).await?;
            connection.close().await?;
            Ok::<_, BoxError>(())
        });
    let (ours, mut client) = loopback().await;
    let talk = async {
        client.write_all(&b"caf\xe9 ".repeat(20_000)).await?;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await?;
        assert_eq!(answer, "read malformed UTF-8 at byte 3");
        drop(client);
        Ok(())
    };
    in_time(async { tokio::try_join!(stack.oneshot(ours), talk) })
        .await
        .unwrap();
}

/// Echoes every character, with halves in separate tasks and a slow peer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_in_two_tasks_lose_nothing_and_never_stop() {
    for capacity in [1, 5, 64] {
        let (ours, theirs) = duplex(capacity);
        let io = TranscodeIo::new(ours, ISO_2022_JP, BadText::Fail).unwrap();
        let (mut reader, mut writer) = split(io);
        let (mut their_reader, mut their_writer) = split(theirs);
        let text = "aあい\u{A5}b漢字\n".repeat(300);
        let sent = text.clone();
        let writing = tokio::spawn(async move {
            // Odd pieces without a flush, kept open until the other task has its answer.
            for piece in sent.as_bytes().chunks(5) {
                writer.write_all(piece).await.unwrap();
            }
            writer
        });
        let echo = async move { tokio::io::copy(&mut their_reader, &mut their_writer).await };
        let echo = tokio::spawn(echo);
        let mut back = vec![0; text.len()];
        in_time(reader.read_exact(&mut back)).await.unwrap();
        assert!(back == text.as_bytes());
        writing.await.unwrap().shutdown().await.unwrap();
        echo.await.unwrap().unwrap();
    }
}
