//! TLS clients and servers of the tests.

use crate::gate::Authority;
use portcullis::middleware::tls::{provider, rustls};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use std::{
    io,
    sync::{Arc, Mutex},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// A handshake of a client that trusts `authority`, with a certificate of its own.
pub(crate) async fn connect<IO: AsyncRead + AsyncWrite + Unpin>(
    authority: &Authority,
    identity: Option<(String, String)>,
    name: &str,
    io: IO,
) -> io::Result<client::TlsStream<IO>> {
    let connector = TlsConnector::from(client(authority, identity));
    connector.connect(server_name(name), io).await
}

/// A handshake of a client that accepts each certificate, such as the self-signed one of the demo.
pub(crate) async fn connect_to_any<IO: AsyncRead + AsyncWrite + Unpin>(
    name: &str,
    io: IO,
) -> io::Result<client::TlsStream<IO>> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting::default()))
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(server_name(name), io).await
}

/// A client that trusts `authority`, with a certificate of its own.
pub(crate) fn client(
    authority: &Authority,
    identity: Option<(String, String)>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("a certificate");
    roots.add(root).expect("it is usable");
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(roots);
    Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let (chain, key) = parse(&chain, &key);
            builder
                .with_client_auth_cert(chain, key)
                .expect("they match")
        }
    })
}

/// The first flight of a client.
pub(crate) fn client_hello(config: Arc<ClientConfig>, name: &str) -> Vec<u8> {
    let mut hello = Vec::new();
    let client = ClientConnection::new(config, server_name(name));
    let mut client = client.expect("a client");
    client.write_tls(&mut hello).expect("a vector takes it");
    hello
}

pub(crate) fn server_name(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).expect("a name")
}

/// The handshake of a server with this chain and key.
pub(crate) async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(
    (chain, key): &(String, String),
    io: IO,
) -> io::Result<server::TlsStream<IO>> {
    let (chain, key) = parse(chain, key);
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they match");
    TlsAcceptor::from(Arc::new(config)).accept(io).await
}

/// The first certificate of a chain.
pub(crate) fn certificate(chain: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(chain.as_bytes()).expect("a certificate")
}

/// A chain of one certificate, and its key.
pub(crate) fn parse(
    chain: &str,
    key: &str,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    (vec![certificate(chain)], key)
}

/// Accepts each certificate, and keeps the OCSP response that came with it.
#[derive(Debug, Default)]
pub(crate) struct Trusting {
    pub(crate) stapled: Mutex<Vec<u8>>,
}

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        response: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.stapled.lock().expect("no panic") = response.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = provider().signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
