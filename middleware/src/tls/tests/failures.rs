//! Handshakes that fail, and what each side learns.

use super::*;
use crate::{
    connection::Phase,
    error::{HandshakeError, find},
};
use rustls::{
    AlertDescription,
    version::{TLS12, TLS13},
};

/// A fatal alert in the clear: content type 21, a version, two bytes, level 2.
fn is_alert(bytes: &[u8]) -> bool {
    matches!(bytes, [0x15, 0x03, _, 0x00, 0x02, 0x02, _])
}

#[tokio::test]
async fn a_client_that_speaks_no_tls_gets_an_alert_and_not_a_reset() {
    let layer = tls_layer();
    let (connection, mut io) = over_tcp().await;
    let known = info(&connection);
    // More than rustls reads at once: what stays unread would make a plain close a reset.
    io.write_all(&b"GET / HTTP/1.1\r\n\r\n".repeat(4096))
        .await
        .unwrap();
    let served = serve(layer.clone(), connection, echo);
    let (served, (heard, end)) = tokio::join!(served, read_all(io));
    end.unwrap();
    let error = served.unwrap_err();
    assert!(error.is::<HandshakeError>());
    assert!(find::<rustls::Error>(&*error).is_some());
    assert!(is_alert(&heard));
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
    let (served, (heard, _)) = tokio::join!(served, read_all(io));
    assert!(served.unwrap_err().is::<HandshakeError>());
    assert!(is_alert(&heard));
}

#[tokio::test]
async fn a_client_without_a_common_version_is_told_so() {
    let layer = TlsLayer::new(Arc::new(server_config(provider(), &[&TLS13])));
    let (connection, io) = over_tcp().await;
    let config = client_config(provider(), &[&TLS12]);
    let served = serve(layer, connection, echo);
    let (served, client) = tokio::join!(served, connect(config, io));
    assert!(served.unwrap_err().is::<HandshakeError>());
    let told = client.unwrap_err();
    let alert = rustls::Error::AlertReceived(AlertDescription::ProtocolVersion);
    assert_eq!(find::<rustls::Error>(&told), Some(&alert));
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
async fn a_client_that_stays_after_its_alert_holds_no_slot_and_only_for_a_second() {
    let layer = tls_layer();
    let (connection, mut io) = in_memory();
    io.write_all(b"no TLS at all").await.unwrap();
    let start = tokio::time::Instant::now();
    let stay = async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        layer.handshakes_in_flight()
    };
    let (served, in_flight) = tokio::join!(serve(layer.clone(), connection, echo), stay);
    assert!(served.unwrap_err().is::<HandshakeError>());
    assert_eq!(in_flight, 0);
    assert!(start.elapsed().as_millis() <= 1001);
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
