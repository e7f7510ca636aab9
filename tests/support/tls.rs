//! A server certificate, and clients that trust it.

use portcullis::middleware::tls::{self, TlsLayer, provider, rustls};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    pki_types::{PrivateKeyDer, ServerName},
};
use std::{
    io,
    sync::{Arc, LazyLock},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

static IDENTITY: LazyLock<rcgen::CertifiedKey<rcgen::KeyPair>> = LazyLock::new(|| {
    let names = vec!["localhost".to_owned()];
    rcgen::generate_simple_self_signed(names).unwrap()
});

static CLIENT: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add(IDENTITY.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
});

/// Terminates TLS for `localhost`.
pub fn layer() -> TlsLayer {
    let key = PrivateKeyDer::Pkcs8(IDENTITY.signing_key.serialize_der().into());
    TlsLayer::from_der(vec![IDENTITY.cert.der().clone()], key).unwrap()
}

/// The certificate that clients trust.
pub fn root_pem() -> String {
    IDENTITY.cert.pem()
}

/// Trusts the server, as portcullis' own client.
pub fn connector() -> tls::TlsConnector {
    tls::TlsConnector::new(CLIENT.clone())
}

/// A client's side of a finished handshake over `io`.
pub async fn connect<IO: AsyncRead + AsyncWrite + Unpin>(io: IO) -> io::Result<TlsStream<IO>> {
    TlsConnector::from(CLIENT.clone()).connect(name(), io).await
}

/// Like [`connect`], offering these protocols.
pub async fn connect_with_alpn<IO>(io: IO, protocols: &[&str]) -> io::Result<TlsStream<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut config = ClientConfig::clone(&CLIENT);
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    TlsConnector::from(Arc::new(config))
        .connect(name(), io)
        .await
}

/// The first thing that a client says: all of its ClientHello.
pub fn client_hello() -> Vec<u8> {
    let mut session = ClientConnection::new(CLIENT.clone(), name()).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    hello
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// The certificate, for clients in other processes.
pub fn certificate_pem() -> String {
    IDENTITY.cert.pem()
}
