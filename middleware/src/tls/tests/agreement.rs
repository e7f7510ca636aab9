//! The negotiated parameters on both sides.

use super::*;
use crate::{connection::Phase, error::HandshakeError};
use rustls::{server::WebPkiClientVerifier, version::TLS12};

static_assertions::assert_impl_all!(crate::tls::Tls<()>: Clone, Send, Sync, std::fmt::Debug);
static_assertions::assert_impl_all!(crate::tls::TlsIo<TcpStream>: Send, Sync, Unpin, std::fmt::Debug);

#[tokio::test]
async fn a_client_is_served_in_memory() {
    let (connection, io) = in_memory();
    let served = serve(tls_layer(), connection, echo);
    let client = async { talk(connect(client(), io).await?, &[7; 100_000]).await };
    let (served, received) = tokio::join!(served, client);
    served.unwrap();
    assert!(received.unwrap() == [7; 100_000]);
}

#[tokio::test]
async fn a_client_is_served_over_tcp() {
    let (connection, io) = over_tcp().await;
    let known = info(&connection);
    let served = serve(tls_layer(), connection, echo);
    let client = async { talk(connect(client(), io).await?, b"hello").await };
    let (served, received) = tokio::join!(served, client);
    served.unwrap();
    assert_eq!(received.unwrap(), b"hello");
    assert!(!known.is_truncated());
    assert_eq!(known.phase(), Phase::Closed);
}

#[tokio::test]
async fn the_handler_knows_what_was_agreed_on() {
    let (connection, io) = in_memory();
    let known = info(&connection);
    let layer = tls_layer().with_alpn(["h2", "http/1.1"]);
    let served = serve(layer, connection, |connection| async move {
        assert_eq!(connection.info().phase(), Phase::Serving);
        let tls = connection.tls().expect("the handshake is done");
        assert_eq!(tls.version, Some("TLSv1_3"));
        assert_eq!(tls.cipher_suite, Some("TLS13_AES_256_GCM_SHA384"));
        assert_eq!(tls.alpn_str(), Some("http/1.1"));
        assert_eq!(tls.server_name.as_deref(), Some("localhost"));
        assert!(tls.peer_certificates.is_empty());
        assert!(!tls.resumed);
        echo(connection).await
    });
    let mut config = client();
    config.alpn_protocols = vec![b"http/1.0".to_vec(), b"http/1.1".to_vec()];
    let client = async {
        tokio::task::yield_now().await;
        assert_eq!(known.phase(), Phase::Handshake);
        talk(connect(config, io).await?, b"hello").await
    };
    let (served, received) = tokio::join!(served, client);
    served.unwrap();
    received.unwrap();
    assert!(known.tls().is_some(), "layers outside know it too");
}

#[tokio::test]
async fn an_older_client_is_served_with_tls_1_2() {
    let (connection, io) = in_memory();
    let known = info(&connection);
    let served = serve(tls_layer(), connection, echo);
    let config = client_config(provider(), &[&TLS12]);
    let client = async { talk(connect(config, io).await?, b"hello").await };
    let (served, received) = tokio::join!(served, client);
    served.unwrap();
    assert_eq!(received.unwrap(), b"hello");
    assert_eq!(known.tls().unwrap().version, Some("TLSv1_2"));
}

#[tokio::test]
async fn a_client_that_comes_back_resumes_its_session() {
    let layer = tls_layer();
    let config = Arc::new(client());
    for resumed in [false, true] {
        let (connection, io) = in_memory();
        let known = info(&connection);
        let served = serve(layer.clone(), connection, echo);
        let client = async { talk(connect(config.clone(), io).await?, b"hello").await };
        let (served, received) = tokio::join!(served, client);
        served.unwrap();
        received.unwrap();
        assert_eq!(known.tls().unwrap().resumed, resumed);
    }
}

#[tokio::test]
async fn a_client_is_given_one_ticket() {
    let (connection, io) = in_memory();
    let served = serve(tls_layer(), connection, echo);
    let client = async {
        let mut tls = connect(client(), io).await?;
        tls.write_all(b"hello").await?;
        tls.shutdown().await?;
        // Tickets precede the response.
        tls.read_exact(&mut [0; 5]).await?;
        Ok::<_, io::Error>(tls.get_ref().1.tls13_tickets_received())
    };
    let (served, tickets) = tokio::join!(served, client);
    served.unwrap();
    assert_eq!(tickets.unwrap(), 1);
}

#[tokio::test]
async fn no_common_application_protocol_is_a_failure_that_both_sides_see() {
    let (connection, io) = in_memory();
    let served = serve(tls_layer().with_alpn(["h2"]), connection, echo);
    let mut config = client();
    config.alpn_protocols = vec![b"smtp".to_vec()];
    let (served, client) = tokio::join!(served, connect(config, io));
    assert!(served.unwrap_err().is::<HandshakeError>());
    assert!(client.unwrap_err().to_string().contains("Protocol"));
}

fn requiring_client_certificates(client: &Identity) -> TlsLayer {
    let verifier = WebPkiClientVerifier::builder_with_provider(client.roots(), provider());
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(SERVER.chain(), SERVER.key());
    TlsLayer::new(Arc::new(config.unwrap()))
}

#[tokio::test]
async fn the_certificate_of_a_client_is_known_once_verified() {
    let identity = Identity::new();
    let (connection, io) = in_memory();
    let known = info(&connection);
    let served = serve(requiring_client_certificates(&identity), connection, echo);
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(SERVER.roots())
        .with_client_auth_cert(identity.chain(), identity.key())
        .unwrap();
    let client = async { talk(connect(config, io).await?, b"hello").await };
    let (served, received) = tokio::join!(served, client);
    served.unwrap();
    received.unwrap();
    let shown = &known.tls().unwrap().peer_certificates;
    assert_eq!(*shown, [identity.chain()[0].to_vec()]);
}

#[tokio::test]
async fn a_client_without_the_required_certificate_is_not_served() {
    let (connection, io) = in_memory();
    let layer = requiring_client_certificates(&Identity::new());
    let served = serve(layer, connection, |_| async { panic!("served") });
    let client = async { talk(connect(client(), io).await?, b"hello").await };
    let (served, received) = tokio::join!(served, client);
    assert!(served.unwrap_err().is::<HandshakeError>());
    assert!(received.unwrap_err().to_string().contains("Certificate"));
}

#[cfg(all(feature = "aws-lc-rs", feature = "ring"))]
#[tokio::test]
async fn both_providers_live_in_one_process_and_none_is_the_default() {
    let aws_lc_rs = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let ring = || Arc::new(rustls::crypto::ring::default_provider());
    for server in [aws_lc_rs(), ring()] {
        for client in [aws_lc_rs(), ring()] {
            let layer = TlsLayer::new(Arc::new(server_config(
                server.clone(),
                rustls::ALL_VERSIONS,
            )));
            let (connection, io) = in_memory();
            let served = serve(layer, connection, echo);
            let config = client_config(client, rustls::ALL_VERSIONS);
            let client = async { talk(connect(config, io).await?, b"hello").await };
            let (served, received) = tokio::join!(served, client);
            served.unwrap();
            received.unwrap();
        }
    }
    assert!(CryptoProvider::get_default().is_none());
}
