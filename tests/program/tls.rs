//! TLS clients and servers of the tests.

use crate::gate::Authority;
use portcullis::middleware::tls::{provider, rustls};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{io, sync::Arc};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// A handshake of a client that trusts `authority`, with a certificate of its own.
pub(crate) async fn connect<IO: AsyncRead + AsyncWrite + Unpin>(
    authority: &Authority,
    identity: Option<(String, String)>,
    name: &str,
    io: IO,
) -> io::Result<client::TlsStream<IO>> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("a certificate");
    roots.add(root).expect("it is usable");
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let (chain, key) = parse(&chain, &key);
            builder
                .with_client_auth_cert(chain, key)
                .expect("they match")
        }
    };
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, io).await
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

fn parse(chain: &str, key: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificate = CertificateDer::from_pem_slice(chain.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    (vec![certificate], key)
}
