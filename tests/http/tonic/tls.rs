//! Certificates for both sides.

use portcullis::middleware::tls::{TlsLayer, provider, rustls};
use rcgen::{CertifiedKey, KeyPair};
use rustls::{RootCertStore, ServerConfig, pki_types::PrivateKeyDer, server::WebPkiClientVerifier};
use std::sync::{Arc, LazyLock};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

static SERVER: LazyLock<CertifiedKey<KeyPair>> = LazyLock::new(|| identity("localhost"));
static CLIENT: LazyLock<CertifiedKey<KeyPair>> = LazyLock::new(|| identity("client"));

/// Terminates TLS for `localhost`, for clients with [`CLIENT`]'s certificate and without any.
pub(crate) fn layer() -> TlsLayer {
    let mut roots = RootCertStore::empty();
    roots.add(CLIENT.cert.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let key = PrivateKeyDer::Pkcs8(SERVER.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![SERVER.cert.der().clone()], key)
        .unwrap();
    TlsLayer::new(Arc::new(config)).with_alpn(["h2"])
}

/// A client that shows no certificate.
pub(crate) fn anonymous() -> ClientTlsConfig {
    ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(SERVER.cert.pem()))
        .domain_name("localhost")
}

/// A client that shows its certificate.
pub(crate) fn known() -> ClientTlsConfig {
    let (certificate, key) = (CLIENT.cert.pem(), CLIENT.signing_key.serialize_pem());
    anonymous().identity(Identity::from_pem(certificate, key))
}

pub(crate) fn certificate_of_the_client() -> Vec<u8> {
    CLIENT.cert.der().to_vec()
}

fn identity(name: &str) -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed([name.to_owned()]).unwrap()
}
