//! The client's handshake and its settings.

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
use super::certificate::ClientCertificate;
use super::{TlsClientIo, TlsConnectError};
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
use crate::tls::rustls::pki_types::CertificateDer;
use crate::{
    Connection,
    connection::{Phase, TlsInfo},
    error::{Elapsed, TimeoutPhase},
    tls::{
        common::{
            HANDSHAKE_TIMEOUT, alpn_names, escaped_alpn, invalid, linger_for_alert, tls_info,
        },
        records::Records,
        rustls::{
            ClientConfig, CommonState,
            client::{Resumption, UnbufferedClientConnection},
            pki_types::ServerName,
        },
        unbuffered::Unbuffered,
    },
};
use std::{fmt, future::poll_fn, io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

/// Performs the client side of a TLS handshake.
///
/// It takes any connection and returns its plaintext. The negotiated parameters are in [`Connection::tls`].
/// Clones share the configuration, including its cache of sessions to resume.
///
/// [`with_client_certificate`](Self::with_client_certificate) presents a certificate from a store, which may be renewed
/// while the connector is in use.
///
/// # Cancellation and drop
///
/// A handshake that fails sends an alert to the server and closes the connection gracefully, within one
/// second. A handshake that times out, or whose future is dropped, drops the connection.
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
/// let mut output = String::new();
/// connection.read_to_string(&mut output).await?;
/// assert_eq!(output, "Hello!");
/// connection.close().await?;
/// # server.await??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TlsConnector {
    pub(super) config: Arc<ClientConfig>,
    /// In place of that of the configuration.
    #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    /// Those of the configuration, if they are known.
    #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
    pub(super) roots: Option<Arc<[CertificateDer<'static>]>>,
    is_unbuffered: bool,
    timeout: Option<Duration>,
}

impl TlsConnector {
    /// Uses `config` for trust, client certificates, versions and resumption.
    ///
    /// Pass a provider to `ClientConfig::builder_with_provider` explicitly. rustls' process-wide default
    /// panics if two providers are compiled in and neither was installed.
    pub const fn new(config: Arc<ClientConfig>) -> Self {
        Self {
            config,
            #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
            certificate: None,
            #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
            roots: None,
            is_unbuffered: false,
            timeout: Some(HANDSHAKE_TIMEOUT),
        }
    }

    /// Offers application protocols (ALPN, RFC 7301), the preferred one first; none by default.
    ///
    /// [`TlsInfo::alpn`] contains the server's choice, if it made one. A shared configuration is cloned; its
    /// session cache stays shared.
    ///
    /// # Panics
    ///
    /// If a name is empty or longer than 255 bytes, which TLS cannot express.
    #[must_use]
    pub fn with_alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        Arc::make_mut(&mut self.config).alpn_protocols = alpn_names(protocols);
        self.configured()
    }

    /// Resumes no sessions, so that each handshake verifies the server's certificate; by default sessions are resumed.
    #[must_use]
    pub fn without_resumption(mut self) -> Self {
        Arc::make_mut(&mut self.config).resumption = Resumption::disabled();
        self.configured()
    }

    /// Presents the certificate in the configuration as it is now.
    #[cfg_attr(
        not(any(feature = "aws-lc-rs", feature = "ring")),
        expect(unused_mut, reason = "there is no certificate of a store")
    )]
    fn configured(mut self) -> Self {
        #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
        if let Some(certificate) = self.certificate.take() {
            self.certificate = Some(Arc::new(certificate.in_config(&self.config)));
        }
        self
    }

    /// The application protocols (ALPN) to offer.
    pub fn alpn_protocols(&self) -> &[Vec<u8>] {
        &self.config.alpn_protocols
    }

    /// Uses rustls' unbuffered API, for connections that are forwarded or idle for long.
    ///
    /// It saves what [`TlsLayer::unbuffered`](crate::tls::TlsLayer::unbuffered) saves. In exchange there is no
    /// [`session`](TlsClientIo::session), so keys cannot be exported. By default the session is buffered.
    #[must_use]
    pub const fn unbuffered(mut self) -> Self {
        self.is_unbuffered = true;
        self
    }

    /// Sets the timeout of each handshake; 10 s by default, `None` disables it.
    #[must_use]
    pub fn with_handshake_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Performs the handshake with the server at the other end of `connection`.
    ///
    /// The server's certificate must be valid for `server_name`, a DNS name or an IP address, without a port
    /// and without brackets. A DNS name is also sent to the server (SNI, RFC 6066), without a trailing dot.
    ///
    /// # Errors
    ///
    /// [`TlsConnectError`] if `server_name` is invalid, the handshake fails or times out, or the certificate
    /// is rejected. The connection is closed.
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
        let Some((name, sni)) = parse(server_name) else {
            return Err(TlsConnectError::bad_name(server_name));
        };
        let config = self.current_config();
        let (io, rest) = connection.into_parts();
        rest.info.set_phase(Phase::Handshake);
        let negotiated = |session: &CommonState| {
            let provider = self.config.crypto_provider();
            rest.info.set_tls(tls_info(session, sni, provider));
            rest.info.set_phase(Phase::Serving);
            rest.info.clone()
        };
        let handshake = async {
            if self.is_unbuffered {
                let stream = unbuffered(config, name, io).await?;
                let info = negotiated(stream.state());
                return Ok(TlsClientIo::unbuffered(stream, info));
            }
            let connector = tokio_rustls::TlsConnector::from(config);
            let stream = connector.connect(name, io).into_fallible().await?;
            let info = negotiated(stream.get_ref().1);
            Ok(TlsClientIo::new(stream, info))
        };
        let bound = self.timeout.unwrap_or(Duration::MAX);
        let (error, io) = match timeout(bound, handshake).await {
            Ok(Ok(io)) => return Ok(rest.with_io(io)),
            Ok(Err(failed)) => failed,
            Err(_) => {
                let elapsed = Elapsed::new(TimeoutPhase::HANDSHAKE, bound);
                return Err(TlsConnectError::elapsed(server_name, elapsed));
            }
        };
        let close = rest.with_io(io).close_within(linger_for_alert());
        // Boxed, so that its buffer does not enlarge every handshake.
        let _ = Box::pin(close).await;
        Err(TlsConnectError::handshake(server_name, error))
    }

    /// Whether both have the same settings: they share a configuration, or trust the same roots and offer the same
    /// protocols, and present a certificate from the same files.
    #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let roots = self.roots.as_ref().zip(other.roots.as_ref());
        let is_trusting_same = roots.is_some_and(|(ours, theirs)| ours == theirs);
        let is_presenting_same = match (&self.certificate, &other.certificate) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => ours.is_same(theirs),
            _ => false,
        };
        (Arc::ptr_eq(&self.config, &other.config) || is_trusting_same)
            && is_presenting_same
            && self.alpn_protocols() == other.alpn_protocols()
            && self.is_unbuffered == other.is_unbuffered
            && self.timeout == other.timeout
    }

    /// Whether both share a configuration.
    #[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
            && self.is_unbuffered == other.is_unbuffered
            && self.timeout == other.timeout
    }

    /// With the client certificate as it is now.
    fn current_config(&self) -> Arc<ClientConfig> {
        #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
        if let Some(certificate) = &self.certificate {
            return certificate.config();
        }
        self.config.clone()
    }
}

/// Performs the handshake of an unbuffered session.
async fn unbuffered<IO>(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    io: IO,
) -> Result<Unbuffered<IO, UnbufferedClientConnection>, (io::Error, IO)>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let session = match UnbufferedClientConnection::new(config, name) {
        Ok(session) => session,
        Err(error) => return Err((invalid(error), io)),
    };
    let mut stream = Unbuffered::new(io, Records::new(session));
    match poll_fn(|cx| stream.poll_handshake(cx)).await {
        Ok(()) => Ok(stream),
        Err(error) => Err((error, stream.into_inner())),
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the configuration, because it may hold a key and its `Debug` output is up to the provider.
        let alpn = escaped_alpn(&self.config.alpn_protocols);
        f.debug_struct("TlsConnector")
            .field("alpn", &alpn)
            .field("handshake_timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The name to verify, and the one to send. A trailing dot marks a host name as complete, and is part neither
/// of SNI (RFC 6066, section 3) nor of the names in certificates.
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
