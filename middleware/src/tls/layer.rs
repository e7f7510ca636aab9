//! The layer, and how it is set up.

use super::{
    Tls,
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

    /// Terminates TLS as `config` says: client certificates, several host names, session stores.
    ///
    /// Give `ServerConfig::builder_with_provider` its provider explicitly: rustls' default for the
    /// process panics if two are compiled in and none was chosen.
    ///
    /// Two settings of `config` are overridden:
    ///
    /// - Clients that present a certificate cannot resume a session unless
    ///   [`with_client_verifier`](Self::with_client_verifier) is called.
    /// - Early data (0-RTT) is refused, because an attacker can replay it (RFC 8446, section 8). Clients
    ///   send refused data again after the handshake. If `max_early_data_size` is set, a line at level
    ///   WARN says so.
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
            timeout: Some(DEFAULT_TIMEOUT),
            slots: Arc::new(HandshakeLimit::for_this_machine()),
            unfinished: Arc::new(Unfinished::new(DEFAULT_MAX_HANDSHAKES)),
        }
    }

    /// Lets clients with certificates resume sessions, and verifies their certificates again each time.
    ///
    /// Pass the verifier that the configuration was built with. rustls itself verifies client
    /// certificates in full handshakes only, so a resumed session would outlive the certificate (RFC
    /// 8446, section 4.6.1). With this setting, a session whose certificates `verifier` rejects, because
    /// they have expired, were revoked or come from a root that is no longer trusted, is not resumed. The
    /// handshake becomes a full one, which fails with the verifier's reason unless the client presents
    /// another certificate.
    ///
    /// Also use this if several configurations share a session store or a ticketer and differ in the
    /// client certificates that they ask for. Otherwise one accepts the anonymous sessions of another.
    ///
    /// By default, clients with certificates do a full handshake each time. A resumed handshake saves
    /// the signatures of a full one, and costs the same verification of the chain.
    #[must_use]
    pub fn with_client_verifier(mut self, verifier: Arc<dyn ClientCertVerifier>) -> Self {
        let config = Arc::make_mut(&mut self.config);
        self.sessions.guard(config, Some(verifier));
        self
    }

    /// Offers application protocols (ALPN, RFC 7301), the preferred one first.
    ///
    /// A client that offers protocols but none of these is rejected with an alert. None are
    /// offered by default; whatever the client wants is then served without agreement.
    ///
    /// A configuration that others hold too is cloned; its session cache stays shared.
    ///
    /// # Panics
    ///
    /// When a name is empty or longer than 255 bytes, which TLS cannot express. Names are fixed
    /// when a program is written, so this is found when it first starts.
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

    /// Sets the timeout of each handshake, the wait for its turn to compute included; 10 s by default.
    ///
    /// `None` disables the timeout. A silent client then stays until it leaves or loses its place to
    /// another connection; see [`with_max_handshakes`](Self::with_max_handshakes).
    #[must_use]
    pub fn with_handshake_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Limits how many connections may be unfinished, from their accept to the end of their handshake;
    /// 5,000 by default, `usize::MAX` for no limit.
    ///
    /// This limits the memory and the file descriptors that clients can take before they have a session.
    /// When the limit is reached, a new connection takes the place of the one that has waited for its
    /// client the longest, which is reset. A client that takes part in its handshake answers within a round
    /// trip and so keeps its place, however many others are silent. Only where all unfinished connections
    /// wait to [compute](Self::with_max_computing) is the new one reset. Both fail with [`Refused`].
    ///
    /// Where a limit on connections outside counts them too, set this one lower, to half of it for example.
    /// Otherwise silent clients fill the limit outside, and no connection arrives for which they make room.
    /// Each unfinished handshake holds a file descriptor, so keep this well below the process's limit on open
    /// files (`ulimit -n`), too; a limit of 1,024 is common, and lower than the default here.
    ///
    /// Shared by all clones made from here on and the services they build.
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

    /// Limits how many handshakes compute at once: sign, agree on keys, verify certificates; four for each
    /// processor by default, `usize::MAX` for no limit.
    ///
    /// This keeps processor time for the connections that are established: they wait behind at most `max`
    /// handshakes. A handshake takes its turn when input to compute with has arrived (the whole
    /// ClientHello, or some of the last flight), and gives it back before its answer is sent. It never holds
    /// it while it waits for the client, so clients that are silent or slow take no turns from others. Handshakes beyond the limit wait in order.
    ///
    /// Shared by all clones made from here on and the services they build.
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

    /// Connections whose handshake is unfinished now, over all clones; keep a clone of the layer to ask.
    ///
    /// Silent ones and those that wait for their turn count too.
    pub fn handshakes_in_flight(&self) -> usize {
        self.unfinished.count()
    }

    /// How many of those wait for their turn to compute now.
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
        // Not the configuration: it holds the key, and what a provider prints of it is not ours.
        let alpn = self.config.alpn_protocols.iter();
        let alpn: Vec<_> = alpn.map(|name| name.escape_ascii().to_string()).collect();
        f.debug_struct("TlsLayer")
            .field("alpn", &alpn)
            .field("handshake_timeout", &self.timeout)
            .field("max_handshakes", &self.unfinished.max())
            .field("max_computing", &self.slots.max())
            .finish_non_exhaustive()
    }
}

/// Ample on slow networks, and short for those who only hold on.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// A client loses its place where this many connect within its round trip. Silent ones take some 2 kB
/// each besides their sockets, 10 MB in all; with an incomplete ClientHello, 80 MiB at most.
const DEFAULT_MAX_HANDSHAKES: usize = 5_000;
