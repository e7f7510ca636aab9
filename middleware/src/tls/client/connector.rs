//! The handshake, and how it is set up.

use super::{TlsClientIo, TlsConnectError};
use crate::{
    Connection,
    connection::{Linger, Phase, TlsInfo},
    error::{Elapsed, TimeoutPhase},
    tls::rustls::{ClientConfig, ClientConnection, HandshakeKind, pki_types::ServerName},
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

/// Agrees on TLS with a server, as its client.
///
/// It takes a connection, whatever it was made by, and returns its plaintext; what was agreed on is
/// in [`Connection::tls`]. Clones share the configuration, with its cache of sessions to resume.
///
/// # What is left behind
///
/// A handshake that fails is ended as on the server's side: the server is told why by an alert, and
/// the connection is closed politely, which takes one second at most. One that takes too long, or
/// whose future is dropped, just drops the connection.
///
/// # Example
///
#[cfg_attr(any(feature = "aws-lc-rs", feature = "ring"), doc = "```")]
#[cfg_attr(not(any(feature = "aws-lc-rs", feature = "ring")), doc = "```ignore")]
/// use portcullis_middleware::{Connection, tls::TlsConnector};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # use {portcullis_middleware::tls::TlsLayer, tower::{Layer, ServiceExt, service_fn}};
/// # let names = vec!["localhost".to_owned()];
/// # let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names)?;
/// # let root = cert.pem();
/// # let layer = TlsLayer::from_pem(root.as_bytes(), signing_key.serialize_pem().as_bytes())?;
/// let tls = TlsConnector::with_roots_pem(root.as_bytes())?;
///
/// let (ours, theirs) = duplex(4096); // Or a connection over TCP.
/// # let hello = service_fn(async |mut connection: Connection<_>| {
/// #     connection.write_all(b"Hello!").await?;
/// #     connection.close().await
/// # });
/// # let server = tokio::spawn(layer.layer(hello).oneshot(Connection::accept(theirs)));
/// let mut connection = tls.connect("localhost", Connection::accept(ours)).await?;
/// assert_eq!(connection.tls().and_then(|tls| tls.version), Some("TLSv1_3"));
///
/// let mut said = String::new();
/// connection.read_to_string(&mut said).await?;
/// assert_eq!(said, "Hello!");
/// connection.close().await?;
/// # server.await??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TlsConnector {
    config: Arc<ClientConfig>,
    timeout: Option<Duration>,
}

impl TlsConnector {
    /// Agrees on TLS as `config` says: trust, client certificates, versions, resumption.
    ///
    /// Give `ClientConfig::builder_with_provider` its provider explicitly: rustls' default for the
    /// process panics if two are compiled in and none was chosen.
    pub const fn new(config: Arc<ClientConfig>) -> Self {
        Self {
            config,
            timeout: Some(DEFAULT_TIMEOUT),
        }
    }

    /// Offers application protocols (ALPN, RFC 7301), the preferred one first; none by default.
    ///
    /// Which one the server chose is in [`TlsInfo::alpn`]; a server may choose none. A configuration
    /// that others hold too is cloned; its cache of sessions stays shared.
    ///
    /// # Panics
    ///
    /// When a name is empty or longer than 255 bytes, which TLS cannot express.
    #[must_use]
    pub fn with_alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        let protocols: Vec<Vec<u8>> = protocols.into_iter().map(Into::into).collect();
        for name in &protocols {
            assert!(
                (1..=255).contains(&name.len()),
                "the name of an application protocol has 1 to 255 bytes, not {}",
                name.len()
            );
        }
        Arc::make_mut(&mut self.config).alpn_protocols = protocols;
        self
    }

    /// The application protocols that are offered.
    pub fn alpn_protocols(&self) -> &[Vec<u8>] {
        &self.config.alpn_protocols
    }

    /// Bounds each handshake in time; 10 s by default, `None` for no bound.
    #[must_use]
    pub fn with_handshake_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Agrees on TLS with the server at the other end of `connection`.
    ///
    /// Its certificate must be valid for `server_name`, a DNS name or an IP address, without a port
    /// and without brackets. A DNS name is also what the server is asked for (SNI, RFC 6066);
    /// a dot at its end is left out.
    ///
    /// # Errors
    ///
    /// [`TlsConnectError`] when `server_name` is no such name, when the two sides cannot agree, when
    /// the certificate is not accepted, or when that takes too long. The connection is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection.
    pub async fn connect<IO>(
        &self,
        server_name: &str,
        connection: Connection<IO>,
    ) -> Result<Connection<TlsClientIo<IO>>, TlsConnectError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let Some((name, asked_for)) = parse(server_name) else {
            return Err(TlsConnectError::bad_name(server_name));
        };
        let (io, rest) = connection.into_parts();
        rest.info.set_phase(Phase::Handshake);
        let connector = tokio_rustls::TlsConnector::from(self.config.clone());
        let agree = connector.connect(name, io).into_fallible();
        let bound = self.timeout.unwrap_or(Duration::MAX);
        let (error, io) = match timeout(bound, agree).await {
            Ok(Ok(stream)) => {
                let info = tls_info(stream.get_ref().1, asked_for);
                rest.info.set_tls(info);
                rest.info.set_phase(Phase::Serving);
                let io = TlsClientIo::new(stream, rest.info.clone());
                return Ok(rest.with_io(io));
            }
            Ok(Err(failed)) => failed,
            Err(_) => {
                let elapsed = Elapsed::new(TimeoutPhase::HANDSHAKE, bound);
                return Err(TlsConnectError::elapsed(server_name, elapsed));
            }
        };
        // The alert is written; a drop with input unread would take it back by a reset.
        let close = rest
            .with_io(io)
            .close_within(Linger::new().with_timeout(ALERT_TIME));
        // In a box: its buffer must not make every handshake larger.
        let _ = Box::pin(close).await;
        Err(TlsConnectError::handshake(server_name, error))
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the configuration: it may hold a key, and what a provider prints of it is not ours.
        let alpn = self.config.alpn_protocols.iter();
        let alpn: Vec<_> = alpn.map(|name| name.escape_ascii().to_string()).collect();
        f.debug_struct("TlsConnector")
            .field("alpn", &alpn)
            .field("handshake_timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

fn tls_info(session: &ClientConnection, asked_for: Option<String>) -> TlsInfo {
    let mut info = TlsInfo::new();
    info.version = session.protocol_version().and_then(|v| v.as_str());
    info.cipher_suite = session
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str());
    info.alpn = session.alpn_protocol().map(<[u8]>::to_vec);
    info.server_name = asked_for;
    let certificates = session.peer_certificates().unwrap_or_default();
    info.peer_certificates = certificates.iter().map(|c| c.to_vec()).collect();
    info.resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    info
}

/// The name to verify, and the one to ask for. A dot at the end of a host name means that it is complete,
/// and is part neither of SNI (RFC 6066, section 3) nor of the names in certificates.
fn parse(server_name: &str) -> Option<(ServerName<'static>, Option<String>)> {
    match ServerName::try_from(server_name).ok()? {
        ServerName::DnsName(name) => {
            let host = TlsInfo::host_name(name.as_ref());
            let name = ServerName::try_from(host.clone()).ok()?;
            Some((name, Some(host)))
        }
        address => Some((address.to_owned(), None)),
    }
}

/// As on the server's side.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the close after a failed handshake may take.
const ALERT_TIME: Duration = Duration::from_secs(1);
