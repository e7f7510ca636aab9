//! Certificates, clients and services that the tests share.
//!
//! Each test runs twice, with a buffered and with an unbuffered session.

mod agreement;
mod bounds;
mod client_certificate;
mod config;
mod configs;
mod failures;
mod leftovers;
mod listed;
mod lists;
#[cfg(feature = "metrics")]
mod metrics;
mod or_plain;
mod profile;
mod records;
mod resumption;
mod starttls;
mod store;
mod stream;
mod tickets;
mod trust;

use super::{TlsLayer, provider, rustls};
use crate::{
    BoxError, Connection, ConnectionInfo,
    connection::{Socket, Transport},
    testing::over_tcp,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, LazyLock},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::{Layer, Service, ServiceExt};

/// A self-signed certificate for `localhost`, and its key.
struct Identity(rcgen::CertifiedKey<rcgen::KeyPair>);

impl Identity {
    fn new() -> Self {
        let names = vec!["localhost".to_owned()];
        Self(rcgen::generate_simple_self_signed(names).unwrap())
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.0.cert.der().clone()]
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.0.signing_key.serialize_der().into())
    }

    fn chain_pem(&self) -> String {
        self.0.cert.pem()
    }

    fn key_pem(&self) -> String {
        self.0.signing_key.serialize_pem()
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.cert.der().clone()).unwrap();
        Arc::new(roots)
    }
}

/// Files in a temporary directory.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let name = format!("portcullis-tls-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

static SERVER: LazyLock<Identity> = LazyLock::new(Identity::new);

fn tls_layer() -> TlsLayer {
    with_session(TlsLayer::from_der(SERVER.chain(), SERVER.key()).unwrap())
}

/// Whether these are the tests of unbuffered sessions, which are the same file under another name.
fn is_unbuffered() -> bool {
    module_path!().contains("unbuffered")
}

fn with_session(layer: TlsLayer) -> TlsLayer {
    match is_unbuffered() {
        true => layer.unbuffered(),
        false => layer,
    }
}

fn server_config(
    provider: Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(SERVER.chain(), SERVER.key())
        .unwrap()
}

fn client_config(
    provider: Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(SERVER.roots())
        .with_no_client_auth()
}

fn client() -> ClientConfig {
    client_config(provider(), rustls::ALL_VERSIONS)
}

async fn connect<IO>(config: impl Into<Arc<ClientConfig>>, io: IO) -> io::Result<TlsStream<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(config.into()).connect(name, io).await
}

/// A whole ClientHello.
fn client_hello() -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = rustls::ClientConnection::new(client().into(), name).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    hello
}

/// Large enough for any handshake, small enough that bulk data has to wait.
fn in_memory() -> (Connection<Socket<DuplexStream>>, DuplexStream) {
    crate::testing::in_memory(4096)
}

/// Serves `connection` through `layer` with `handler`.
async fn serve<Io: Transport, H, Fut>(
    layer: TlsLayer,
    connection: Connection<Socket<Io>>,
    handler: H,
) -> Result<(), BoxError>
where
    H: FnMut(Connection<super::TlsIo<Socket<Io>>>) -> Fut + Clone,
    Fut: Future<Output = io::Result<()>>,
{
    with_session(layer)
        .layer(tower::service_fn(handler))
        .oneshot(connection)
        .await
}

async fn echo(mut connection: Connection<impl AsyncRead + AsyncWrite + Unpin>) -> io::Result<()> {
    let mut received = Vec::new();
    connection.read_to_end(&mut received).await?;
    connection.write_all(&received).await?;
    connection.close().await
}

/// Sends `request`, half-closes, and returns the response.
async fn talk<IO>(mut client: TlsStream<IO>, request: &[u8]) -> io::Result<Vec<u8>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    client.write_all(request).await?;
    client.shutdown().await?;
    let mut received = Vec::new();
    client.read_to_end(&mut received).await?;
    Ok(received)
}

/// Reads to the end, and also returns the bytes before an error.
async fn read_all(mut io: impl AsyncRead + Unpin) -> (Vec<u8>, io::Result<usize>) {
    let mut received = Vec::new();
    let end = io.read_to_end(&mut received).await;
    (received, end)
}

/// The information of `connection`, which outlives it.
fn info<IO>(connection: &Connection<IO>) -> ConnectionInfo {
    connection.info().clone()
}
