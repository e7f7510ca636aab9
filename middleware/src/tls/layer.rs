//! The layer and its settings.

use super::{
    Tls,
    common::{HANDSHAKE_TIMEOUT, alpn_names, escaped_alpn},
    handshake_limit::HandshakeLimit,
    resumption::Sessions,
    rustls::{ServerConfig, server::danger::ClientCertVerifier},
    unfinished::Unfinished,
};
use crate::error::Refused;
use std::{fmt, sync::Arc, time::Duration};
use tower::Layer;

/// Layer for [`Tls`]; see the [module docs](super).
///
/// Clones share the configuration, with its session cache, and the limits on handshakes.
#[derive(Clone)]
pub struct TlsLayer {
    pub(super) config: Arc<ServerConfig>,
    sessions: Sessions,
    pub(super) timeout: Option<Duration>,
    pub(super) slots: Arc<HandshakeLimit>,
    pub(super) unfinished: Arc<Unfinished>,
}

impl TlsLayer {
    /// The reason of a [`Refused`] that made a place free for another unfinished handshake.
    ///
    /// [`Refused`]: crate::error::Refused
    pub const TOO_MANY_HANDSHAKES: &'static str = "too many TLS handshakes are unfinished";

    pub(super) const fn too_many_handshakes() -> Refused {
        Refused::new("tls", Self::TOO_MANY_HANDSHAKES)
    }

    /// Terminates TLS with `config`, for client certificates, several host names or custom session stores.
    ///
    /// Pass a provider to `ServerConfig::builder_with_provider` explicitly. rustls' process-wide default
    /// panics if two providers are compiled in and none was chosen.
    ///
    /// Two settings of `config` are overridden:
    ///
    /// - Clients that present a certificate cannot resume a session unless
    ///   [`with_client_verifier`](Self::with_client_verifier) is called.
    /// - Early data (0-RTT) is rejected, because an attacker can replay it (RFC 8446, section 8). Clients
    ///   send it again after the handshake. If `max_early_data_size` is set, a warning is logged.
    pub fn new(mut config: Arc<ServerConfig>) -> Self {
        let sessions = Sessions::of(&config);
        let own = Arc::make_mut(&mut config);
        sessions.guard(own, None);
        if own.max_early_data_size > 0 {
            tracing::warn!(
                "TLS early data (max_early_data_size) is not supported and was disabled"
            );
            own.max_early_data_size = 0;
        }
        Self {
            config,
            sessions,
            timeout: Some(HANDSHAKE_TIMEOUT),
            slots: Arc::new(HandshakeLimit::for_this_machine()),
            unfinished: Arc::new(Unfinished::new(DEFAULT_MAX_HANDSHAKES)),
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
    #[must_use]
    pub fn with_client_verifier(mut self, verifier: Arc<dyn ClientCertVerifier>) -> Self {
        let config = Arc::make_mut(&mut self.config);
        self.sessions.guard(config, Some(verifier));
        self
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
    /// If a name is empty or longer than 255 bytes, which TLS cannot express.
    #[must_use]
    pub fn with_alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        Arc::make_mut(&mut self.config).alpn_protocols = alpn_names(protocols);
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
        let alpn = escaped_alpn(&self.config.alpn_protocols);
        f.debug_struct("TlsLayer")
            .field("alpn", &alpn)
            .field("handshake_timeout", &self.timeout)
            .field("max_handshakes", &self.unfinished.max())
            .field("max_computing", &self.slots.max())
            .finish_non_exhaustive()
    }
}

/// A client is displaced if this many others connect within its round trip. Silent clients take about 2 kB
/// each besides their sockets, 10 MB in total. With an incomplete ClientHello they take 80 MiB at most.
const DEFAULT_MAX_HANDSHAKES: usize = 5_000;
