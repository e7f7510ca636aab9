//! The layer and its settings.

use super::{
    Tls, TlsIo,
    common::{HANDSHAKE_TIMEOUT, alpn_names, escaped_alpn},
    configs::{ConfigSource, Configs, HandshakeConfig, without_verifier},
    handshake::handshake,
    handshake_limit::HandshakeLimit,
    metrics::HandshakeMetrics,
    rustls::{self, ServerConfig, server::danger::ClientCertVerifier},
    unfinished::Unfinished,
};
use crate::{BoxError, Connection, ConnectionInfo, error::Refused};
use std::{fmt, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Layer;

/// Layer for [`Tls`]; see the [module docs](super).
///
/// Clones share the configuration, with its session cache, and the limits on handshakes.
#[derive(Clone)]
pub struct TlsLayer {
    pub(super) source: ConfigSource,
    pub(super) is_unbuffered: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) slots: Arc<HandshakeLimit>,
    pub(super) unfinished: Arc<Unfinished>,
    pub(super) metrics: Arc<HandshakeMetrics>,
}

impl TlsLayer {
    /// The reason of a [`Refused`] that made a place free for another unfinished handshake.
    ///
    /// [`Refused`]: crate::error::Refused
    pub const TOO_MANY_HANDSHAKES: &'static str = "too many TLS handshakes are unfinished";

    pub(super) const fn too_many_handshakes() -> Refused {
        Refused::new("tls", Self::TOO_MANY_HANDSHAKES)
    }

    /// Terminates TLS with `config`, for custom verifiers and session stores.
    ///
    /// Pass a provider to `ServerConfig::builder_with_provider` explicitly. rustls' process-wide default
    /// panics if two providers are compiled in and none was chosen.
    ///
    /// Resumption with client certificates and early data are disabled; see [`HandshakeConfig`].
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self::with_source(ConfigSource::Fixed(HandshakeConfig::new(config)))
    }

    /// Terminates TLS with the configuration that `configs` chooses for each client.
    ///
    /// A fixed configuration saves a step of each handshake, the separate look at the ClientHello.
    pub fn choosing(configs: impl Configs) -> Self {
        Self::with_source(ConfigSource::Chosen(Arc::new(configs)))
    }

    fn with_source(source: ConfigSource) -> Self {
        Self {
            source,
            is_unbuffered: false,
            timeout: Some(HANDSHAKE_TIMEOUT),
            slots: Arc::new(HandshakeLimit::for_this_machine()),
            unfinished: Arc::new(Unfinished::new(DEFAULT_MAX_HANDSHAKES)),
            metrics: Arc::new(HandshakeMetrics::new()),
        }
    }

    /// Lets clients with certificates resume sessions, and verifies their certificates again each time.
    ///
    /// Pass the verifier that the configuration was built with. rustls verifies client certificates in full
    /// handshakes only, so a resumed session would outlive the certificate (RFC 8446, section 4.6.1). With
    /// this setting, a session is resumed only if `verifier` accepts its certificates. It rejects them once
    /// they have expired, were revoked or come from an untrusted root. The handshake then becomes a full one,
    /// which fails with the verifier's reason unless the client presents another certificate.
    ///
    /// Also use this if several configurations share a session store or a ticketer and request different
    /// client certificates. Otherwise one accepts the anonymous sessions of another.
    ///
    /// By default, clients with certificates perform a full handshake each time. A resumed handshake saves
    /// the signatures of a full one; the chain is verified in both.
    ///
    /// # Panics
    ///
    /// If the layer [chooses](Self::choosing) its configuration. Set the verifier there.
    #[must_use]
    pub fn with_client_verifier(self, verifier: Arc<dyn ClientCertVerifier>) -> Self {
        self.map_config(|config| config.with_client_verifier(verifier))
    }

    /// Offers application protocols (ALPN, RFC 7301), the preferred one first.
    ///
    /// A client that offers only other protocols is rejected with an alert. By default the server offers none,
    /// and accepts every client without negotiating a protocol.
    ///
    /// A shared configuration is cloned; its session cache stays shared.
    ///
    /// # Panics
    ///
    /// If a name is empty or longer than 255 bytes, which TLS cannot express, or if the layer
    /// [chooses](Self::choosing) its configuration. Set the protocols there.
    #[must_use]
    pub fn with_alpn<P: Into<Vec<u8>>>(self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.map_config(|config| config.with_alpn(alpn_names(protocols)))
    }

    fn map_config(mut self, map: impl FnOnce(HandshakeConfig) -> HandshakeConfig) -> Self {
        self.source = match self.source {
            ConfigSource::Fixed(config) => ConfigSource::Fixed(map(config)),
            ConfigSource::Chosen(_) => panic!(
                "the layer chooses a configuration for each client: set this in the configurations"
            ),
        };
        self
    }

    /// Uses rustls' unbuffered API, for connections that are forwarded or idle for long.
    ///
    /// An idle connection then takes 4 kB less, because it holds no buffer. Data takes fewer system calls, because
    /// one read may return several records, and one write sends up to eight. See
    /// [performance](crate::tls#performance).
    ///
    /// In exchange there is no [`session`](TlsIo::session), so keys cannot be exported. tonic's `peer_certs()`
    /// returns `None`, while [`TlsInfo`](crate::connection::TlsInfo) is complete. By default the session is buffered.
    #[must_use]
    pub const fn unbuffered(mut self) -> Self {
        self.is_unbuffered = true;
        self
    }

    /// Sets the timeout of each handshake, the wait for its turn to compute included; 10 s by default.
    ///
    /// `None` disables the timeout. A silent client then stays until it disconnects or is displaced; see
    /// [`with_max_handshakes`](Self::with_max_handshakes).
    #[must_use]
    pub fn with_handshake_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Limits the connections with an unfinished handshake; 5,000 by default, `usize::MAX` for no limit.
    ///
    /// This limits the memory and the file descriptors that clients can use before they have a session. At
    /// the limit, a new connection takes the place of the one that has waited longest for its client, which
    /// is reset. An active client answers within a round trip and so keeps its place, however many others are
    /// silent. If all unfinished connections wait to [compute](Self::with_max_computing), the new one is
    /// reset instead. Both fail with [`Refused`].
    ///
    /// If a connection limit outside counts these connections too, set this limit lower, to half of it for
    /// example. Otherwise silent clients fill the limit outside, and the connections that would displace them
    /// are kept out. Each unfinished handshake holds a file descriptor, so also keep this well below the
    /// process's limit on open files (`ulimit -n`). That is often 1,024, lower than the default here.
    ///
    /// All clones made from here on share the limit, and so do the services they build.
    ///
    /// # Panics
    ///
    /// When `max` is zero.
    ///
    /// [`Refused`]: crate::error::Refused
    #[must_use]
    pub fn with_max_handshakes(mut self, max: usize) -> Self {
        assert!(max > 0, "`max` must be at least 1");
        self.unfinished = Arc::new(Unfinished::new(max));
        self
    }

    /// Limits concurrently computing handshakes; four for each processor by default, `usize::MAX` for no
    /// limit.
    ///
    /// A handshake computes when it signs, exchanges keys or verifies certificates. The limit keeps processor
    /// time for established connections, which wait behind at most `max` handshakes. A handshake takes its
    /// turn when input to compute with has arrived (the whole ClientHello, or part of the last flight), and
    /// ends it before its response is sent. Silent and slow clients hold no turns, because turns end before
    /// any wait for a client. Handshakes beyond the limit wait in order.
    ///
    /// All clones made from here on share the limit, and so do the services they build.
    ///
    /// # Panics
    ///
    /// When `max` is zero.
    #[must_use]
    pub fn with_max_computing(mut self, max: usize) -> Self {
        assert!(max > 0, "`max` must be at least 1");
        self.slots = Arc::new(HandshakeLimit::new(max));
        self
    }

    /// Performs the handshake with the client at the other end of `connection`.
    ///
    /// Use it in the middle of a handler, for protocols that start in plain text and switch to TLS on request
    /// (STARTTLS). It is the mirror of [`TlsConnector::connect`](super::TlsConnector::connect), and has the
    /// settings and limits of the layer. Take the connection out of a buffered reader with
    /// [`unbuffered`](crate::io::unbuffered), which rejects bytes that the client sent before the switch. An attacker
    /// may have inserted them (CVE-2011-0411).
    ///
    /// # Errors
    ///
    /// As the layer: [`HandshakeError`](crate::error::HandshakeError), [`Elapsed`](crate::error::Elapsed) or
    /// [`Refused`]. The connection is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection without an alert.
    ///
    /// # Example
    ///
    #[cfg_attr(any(feature = "aws-lc-rs", feature = "ring"), doc = "```")]
    #[cfg_attr(not(any(feature = "aws-lc-rs", feature = "ring")), doc = "```ignore")]
    /// use portcullis_middleware::{BoxError, Connection, tls::TlsLayer};
    /// use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
    /// # use portcullis_middleware::tls::TlsConnector;
    ///
    /// /// Talks in plain text until the client sends a line, then in TLS.
    /// async fn serve<Io>(mut connection: Connection<Io>, tls: TlsLayer) -> Result<(), BoxError>
    /// where
    ///     Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    /// {
    ///     let mut line = [0; 9];
    ///     connection.read_exact(&mut line).await?; // Reads no byte behind the line.
    ///     connection.write_all(b"ready\n").await?;
    ///     connection.flush().await?;
    ///     let mut connection = tls.accept(connection).await?;
    ///     connection.write_all(b"in private").await?;
    ///     Ok(connection.close().await?)
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// # let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    /// # let (chain, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    /// # let tls = TlsLayer::from_pem(chain.as_bytes(), key.as_bytes())?;
    /// # let (ours, theirs) = tokio::io::duplex(4096);
    /// # let server = tokio::spawn(serve(Connection::accept(ours), tls));
    /// # let mut client = Connection::accept(theirs);
    /// # client.write_all(b"starttls\n").await?;
    /// # client.read_exact(&mut [0; 6]).await?;
    /// # let connector = TlsConnector::with_roots_pem(chain.as_bytes())?;
    /// # let mut client = connector.connect("localhost", client).await?;
    /// # let mut output = String::new();
    /// # client.read_to_string(&mut output).await?;
    /// # assert_eq!(output, "in private");
    /// # client.close().await?;
    /// # server.await??;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn accept<IO>(
        &self,
        connection: Connection<IO>,
    ) -> Result<Connection<TlsIo<IO>>, BoxError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        handshake(self.clone(), connection).await
    }

    /// Verifies the client's certificates of an established connection again, by the roots, revocation lists and
    /// the time of now.
    ///
    /// A handshake verifies them once, and a connection may last for days. Go through the connections of this layer
    /// from time to time, and after a reload:
    ///
    /// ```no_run
    /// # use portcullis_middleware::{ConnectionInfo, tls::TlsLayer};
    /// # fn recheck(connections: Vec<ConnectionInfo>, tls: &TlsLayer) {
    /// for info in connections { // `portcullis` has `Handle::connections`.
    ///     if tls.verify_again(&info).is_err() {
    ///         info.force_close(); // or `Handle::close`
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// The verifier is the one of a [`TlsProfile`](super::TlsProfile), of
    /// [`with_client_verifier`](Self::with_client_verifier) or of [`Configs::current`]. For connections without TLS or
    /// with an unfinished handshake, the result is `Ok`. It takes the time of one verification, about as long as the
    /// signatures of the chain.
    ///
    /// # Errors
    ///
    /// The verifier's reason, such as an expired or revoked certificate, or that a required one is missing. It also
    /// fails if the client has presented a certificate and no verifier is known.
    pub fn verify_again(&self, info: &ConnectionInfo) -> Result<(), rustls::Error> {
        let config = match &self.source {
            ConfigSource::Fixed(config) => Some(config.clone()),
            ConfigSource::Chosen(configs) => configs.current(),
        };
        let Some(tls) = info.tls() else {
            return Ok(());
        };
        match config {
            Some(config) => config.verify_again(tls),
            None => without_verifier(tls),
        }
    }

    /// The number of unfinished handshakes, over all clones; keep a clone of the layer to read it.
    ///
    /// Includes silent clients and handshakes that wait to compute.
    pub fn handshakes_in_flight(&self) -> usize {
        self.unfinished.count()
    }

    /// The number of handshakes that wait for their turn to compute.
    pub fn handshakes_waiting(&self) -> usize {
        self.slots.waiting()
    }
}

impl<S> Layer<S> for TlsLayer {
    type Service = Tls<S>;

    fn layer(&self, inner: S) -> Tls<S> {
        Tls::new(inner, self.clone())
    }
}

impl fmt::Debug for TlsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the configuration, because it holds the key and its `Debug` output is up to the provider.
        let mut f = f.debug_struct("TlsLayer");
        if let ConfigSource::Fixed(config) = &self.source {
            f.field("alpn", &escaped_alpn(&config.get().alpn_protocols));
        }
        f.field("handshake_timeout", &self.timeout)
            .field("max_handshakes", &self.unfinished.max())
            .field("max_computing", &self.slots.max())
            .finish_non_exhaustive()
    }
}

/// A client is displaced if this many others connect within its round trip. Silent clients take about 2 kB
/// each besides their sockets, 10 MB in total. With an incomplete ClientHello they take 80 MiB at most.
const DEFAULT_MAX_HANDSHAKES: usize = 5_000;
