//! Failed handshakes, and the errors on each side.

use super::*;
use crate::{
    connection::Phase,
    error::{HandshakeError, find},
    tls::NotTls,
};
use rustls::{
    AlertDescription,
    version::{TLS12, TLS13},
};
use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

/// A fatal alert in plain text, which has content type 21, a version, two bytes and level 2.
fn is_alert(bytes: &[u8]) -> bool {
    matches!(bytes, [0x15, 0x03, _, 0x00, 0x02, 0x02, _])
}

#[tokio::test]
async fn a_client_that_speaks_no_tls_gets_an_alert_and_not_a_reset() {
    let layer = tls_layer();
    let (connection, mut io) = over_tcp().await;
    let known = info(&connection);
    // More than rustls reads in one go. The unread rest would make a plain close a reset.
    io.write_all(&b"GET / HTTP/1.1\r\n\r\n".repeat(4096))
        .await
        .unwrap();
    let served = serve(layer.clone(), connection, echo);
    let (served, (received, end)) = tokio::join!(served, read_all(io));
    end.unwrap();
    let error = served.unwrap_err();
    assert!(error.is::<HandshakeError>());
    assert!(find::<NotTls>(&*error).is_some());
    assert!(is_alert(&received));
    assert_eq!(known.phase(), Phase::Closed);
    assert_eq!(layer.handshakes_in_flight(), 0);
    assert!(known.tls().is_none());
}

#[tokio::test]
async fn garbage_that_begins_like_tls_gets_an_alert() {
    let (connection, mut io) = in_memory();
    io.write_all(&[0x16, 0x03, 0x01, 0x00, 0x04, 0xff, 0x00, 0x00, 0x00])
        .await
        .unwrap();
    let served = serve(tls_layer(), connection, echo);
    let (served, (received, _)) = tokio::join!(served, read_all(io));
    assert!(served.unwrap_err().is::<HandshakeError>());
    assert!(is_alert(&received));
}

#[tokio::test]
async fn a_client_without_a_common_version_is_told_so() {
    let layer = TlsLayer::new(Arc::new(server_config(provider(), &[&TLS13])));
    let (connection, io) = over_tcp().await;
    let config = client_config(provider(), &[&TLS12]);
    let served = serve(layer, connection, echo);
    let (served, client) = tokio::join!(served, connect(config, io));
    assert!(served.unwrap_err().is::<HandshakeError>());
    let client_error = client.unwrap_err();
    let alert = rustls::Error::AlertReceived(AlertDescription::ProtocolVersion);
    assert_eq!(find::<rustls::Error>(&client_error), Some(&alert));
}

#[tokio::test]
async fn what_the_client_objects_to_is_in_the_error() {
    let (connection, io) = in_memory();
    let mut config = client();
    let stranger = Identity::new();
    let verifier =
        rustls::client::WebPkiServerVerifier::builder_with_provider(stranger.roots(), provider());
    config
        .dangerous()
        .set_certificate_verifier(verifier.build().unwrap());
    let served = serve(tls_layer(), connection, echo);
    let (served, client) = tokio::join!(served, connect(config, io));
    client.unwrap_err();
    let error = served.unwrap_err();
    assert!(error.is::<HandshakeError>());
    assert!(matches!(
        find::<rustls::Error>(&*error),
        Some(rustls::Error::AlertReceived(_))
    ));
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_leaks_nothing() {
    let layer = tls_layer();
    let (connection, mut io) = over_tcp().await;
    let known = info(&connection);
    io.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01])
        .await
        .unwrap();
    drop(io);
    let error = serve(layer.clone(), connection, echo).await.unwrap_err();
    let handshake = error.downcast_ref::<HandshakeError>().unwrap();
    assert_eq!(handshake.io_error().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(layer.handshakes_in_flight(), 0);
    assert_eq!(known.phase(), Phase::Closed);
}

#[tokio::test]
async fn a_client_that_resets_in_the_middle_leaks_nothing() {
    let layer = tls_layer();
    let (connection, mut io) = over_tcp().await;
    io.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01])
        .await
        .unwrap();
    io.set_zero_linger().unwrap();
    drop(io);
    let error = serve(layer.clone(), connection, echo).await.unwrap_err();
    let handshake = error.downcast_ref::<HandshakeError>().unwrap();
    assert_eq!(handshake.io_error().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(layer.handshakes_in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stays_after_its_alert_keeps_its_place_for_a_second_and_no_turn_to_compute() {
    let layer = tls_layer().with_max_computing(1);
    let (connection, mut io) = in_memory();
    io.write_all(b"no TLS at all").await.unwrap();
    let start = tokio::time::Instant::now();
    let stay = async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let in_flight = layer.handshakes_in_flight();
        let (connection, io) = in_memory();
        let served = serve(layer.clone(), connection, echo);
        let talk = async { talk(connect(client(), io).await?, b"hello").await };
        let (served, received) = tokio::join!(served, talk);
        served.unwrap();
        assert_eq!(received.unwrap(), b"hello");
        in_flight
    };
    let (served, in_flight) = tokio::join!(serve(layer.clone(), connection, echo), stay);
    assert!(served.unwrap_err().is::<HandshakeError>());
    assert_eq!(in_flight, 1);
    assert!(start.elapsed().as_millis() <= 1001);
    assert_eq!(layer.handshakes_in_flight(), 0);
}

#[tokio::test]
async fn a_forced_close_ends_a_handshake() {
    let (connection, _io) = in_memory();
    let known = info(&connection);
    let force = async { known.force_close() };
    let (served, ()) = tokio::join!(serve(tls_layer(), connection, echo), force);
    let error = served.unwrap_err();
    assert!(find::<crate::connection::ForcedClose>(&*error).is_some());
}

/// Counts requested certificates; each one is a handshake that computes.
#[derive(Debug)]
struct Counted(Arc<dyn rustls::server::ResolvesServerCert>, AtomicUsize);

impl rustls::server::ResolvesServerCert for Counted {
    fn resolve(
        &self,
        hello: rustls::server::ClientHello<'_>,
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.resolve(hello)
    }
}

fn counted() -> (TlsLayer, Arc<Counted>) {
    let mut config = server_config(provider(), rustls::ALL_VERSIONS);
    let counted = Arc::new(Counted(config.cert_resolver.clone(), AtomicUsize::new(0)));
    config.cert_resolver = counted.clone();
    (TlsLayer::new(config.into()), counted)
}

#[tokio::test]
async fn nothing_is_computed_for_a_client_that_left_after_its_hello() {
    let (layer, counted) = counted();
    for (reset, kind) in [
        (false, io::ErrorKind::UnexpectedEof),
        (true, io::ErrorKind::ConnectionReset),
    ] {
        let (connection, mut io) = over_tcp().await;
        io.write_all(&client_hello()).await.unwrap();
        if reset {
            io.set_zero_linger().unwrap();
        }
        drop(io);
        let error = serve(layer.clone(), connection, echo).await.unwrap_err();
        let handshake = error.downcast_ref::<HandshakeError>().unwrap();
        assert_eq!(handshake.io_error().kind(), kind);
        assert_eq!(counted.1.load(Ordering::Relaxed), 0, "reset: {reset}");
    }
    let (connection, io) = over_tcp().await;
    let served = serve(layer, connection, echo);
    let talk = async { talk(connect(client(), io).await?, b"hello").await };
    let (served, received) = tokio::join!(served, talk);
    served.unwrap();
    assert_eq!(received.unwrap(), b"hello");
    assert_eq!(counted.1.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_client_without_tls_that_has_ended_its_side_still_gets_its_alert() {
    let (connection, mut io) = over_tcp().await;
    io.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    io.shutdown().await.unwrap();
    let served = serve(tls_layer(), connection, echo);
    let (served, (received, _)) = tokio::join!(served, read_all(io));
    assert!(find::<NotTls>(&*served.unwrap_err()).is_some());
    assert!(is_alert(&received));
}

#[tokio::test]
async fn a_hello_that_is_too_long_gets_an_alert_before_it_is_read() {
    let (connection, mut io) = over_tcp().await;
    let length = u32::try_from(super::super::hello::MAX_HELLO).unwrap();
    let [_, length @ ..] = length.to_be_bytes();
    let record = [&[0x16, 3, 1, 0, 4, 1][..], &length].concat();
    io.write_all(&record).await.unwrap();
    let served = serve(tls_layer(), connection, echo);
    let (served, (received, _)) = tokio::join!(served, read_all(io));
    let error = served.unwrap_err();
    let too_long = rustls::InvalidMessage::HandshakePayloadTooLarge;
    assert_eq!(
        find::<rustls::Error>(&*error),
        Some(&rustls::Error::InvalidMessage(too_long))
    );
    assert!(is_alert(&received));
}

#[tokio::test]
async fn a_hello_that_comes_byte_by_byte_is_understood() {
    let (connection, io) = in_memory();
    let dribbled = Dribbled(io);
    let served = serve(tls_layer(), connection, echo);
    let talk = async { talk(connect(client(), dribbled).await?, b"hello").await };
    let (served, received) = tokio::join!(served, talk);
    served.unwrap();
    assert_eq!(received.unwrap(), b"hello");
}

/// Writes one byte at a time.
pub(super) struct Dribbled(pub(super) DuplexStream);

impl AsyncRead for Dribbled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Dribbled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &buf[..buf.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
