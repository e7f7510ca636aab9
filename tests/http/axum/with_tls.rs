//! What handlers learn of TLS, and handshakes that take their time.

use super::{OtherWay, both_ways, connect, curious, incoming, request};
use crate::support::{eventually, scenario, tls};
use axum::http::StatusCode;
use portcullis::{
    ServiceBuilderExt,
    middleware::tls::{TlsLayer, provider, rustls},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use std::{net::SocketAddr, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::ServiceBuilder;

/// A server that lets everybody in and looks at the certificates of those who have one.
struct Pki {
    server: Arc<ServerConfig>,
    /// Knows the server, and shows a certificate.
    known: Arc<ClientConfig>,
    certificate: CertificateDer<'static>,
    /// Knows the server, and shows none.
    anonymous: Arc<ClientConfig>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issue = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new([name.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &ca).unwrap();
            let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
            (certificate.der().clone(), key)
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider())
                .allow_unauthenticated()
                .build()
                .unwrap();
        let (chain, key) = issue("localhost");
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![chain], key)
            .unwrap();
        let client = || {
            ClientConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots.clone())
        };
        let (certificate, key) = issue("client");
        let known = client().with_client_auth_cert(vec![certificate.clone()], key);
        Self {
            server: Arc::new(server),
            known: Arc::new(known.unwrap()),
            certificate,
            anonymous: Arc::new(client().with_no_client_auth()),
        }
    }
}

async fn secure(address: SocketAddr, config: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let name = "localhost".try_into().unwrap();
    let client = TlsConnector::from(config.clone());
    client.connect(name, connect(address).await).await.unwrap()
}

#[test]
fn handlers_learn_the_client_certificate_and_the_name_both_ways() {
    scenario(async {
        let pki = Pki::new();
        let layers = ServiceBuilder::new()
            .peer_addr()
            .layer(TlsLayer::new(pki.server.clone()));
        let fingerprint: String = pki.certificate.iter().map(|b| format!("{b:02x}")).collect();
        both_ways(layers, curious(), async |address| {
            let known = async |path| request(secure(address, &pki.known).await, path).await;
            assert_eq!(
                known("/certificate").await,
                (StatusCode::OK, fingerprint.clone())
            );
            assert_eq!(known("/maybe-certificate").await.1, "true");
            assert_eq!(
                known("/name").await,
                (StatusCode::OK, "localhost".to_owned())
            );
            assert_eq!(
                known("/maybe-name").await.1,
                r#"Some(ServerName("localhost"))"#
            );

            let anonymous = async |path| request(secure(address, &pki.anonymous).await, path).await;
            assert_eq!(anonymous("/certificate").await.0, StatusCode::FORBIDDEN);
            assert_eq!(anonymous("/maybe-certificate").await.1, "false");
            assert_eq!(anonymous("/name").await.1, "localhost");
        })
        .await;
    });
}

#[test]
fn a_slow_handshake_delays_nobody() {
    scenario(async {
        let layers = ServiceBuilder::new().peer_addr().layer(tls::layer());
        let server = OtherWay::serve(incoming(layers), curious());
        // More than lie ready, and more than there are threads.
        let mut silent = Vec::new();
        for _ in 0..40 {
            silent.push(server.connect().await);
        }
        eventually("all are there", || server.handle.status().active == 40).await;
        for _ in 0..3 {
            let stream = tls::connect(server.connect().await).await.unwrap();
            assert_eq!(request(stream, "/name").await.1, "localhost");
        }
        assert!(server.handle.status().active >= 40);
        drop(silent);
        server.finish().await;
    });
}
