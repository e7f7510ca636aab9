//! The layer, and how it is set up.

use super::{
    Tls,
    resumption::Sessions,
    rustls::{ServerConfig, server::danger::ClientCertVerifier},
    slots::Slots,
};
use std::{fmt, sync::Arc, time::Duration};
use tower::Layer;

/// Layer for [`Tls`]; see the [module docs](super).
///
/// Clones share the configuration, with its session cache, and the cap on handshakes.
#[derive(Clone)]
pub struct TlsLayer {
    pub(super) config: Arc<ServerConfig>,
    sessions: Sessions,
    pub(super) timeout: Option<Duration>,
    pub(super) slots: Arc<Slots>,
}

impl TlsLayer {
    /// Terminates TLS as `config` says: client certificates, several host names, session stores.
    ///
    /// Give `ServerConfig::builder_with_provider` its provider explicitly: rustls' default for the
    /// process panics where two are compiled in and nobody chose one.
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
            slots: Arc::new(Slots::new(DEFAULT_MAX_HANDSHAKES)),
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
    /// A client that offers protocols but none of these is turned away with an alert. None are
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

    /// Bounds each handshake in time, the wait for its turn included; 10 s by default.
    ///
    /// `None` bounds nothing: then a silent client holds its slot for as long as it likes.
    #[must_use]
    pub fn with_handshake_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Bounds how many handshakes run at once; 256 by default, `usize::MAX` for no bound.
    ///
    /// Shared by all clones made from here on and the services they build. Connections beyond wait
    /// in order, without TLS state, within their own handshake timeout. A slot is free again as
    /// soon as its handshake is done or has failed.
    ///
    /// # Panics
    ///
    /// When `max` is zero.
    #[must_use]
    pub fn with_max_handshakes(mut self, max: usize) -> Self {
        assert!(max > 0, "with no handshake at all nobody is served");
        self.slots = Arc::new(Slots::new(max));
        self
    }

    /// Handshakes that run now, over all clones; keep a clone of the layer to ask.
    pub fn handshakes_in_flight(&self) -> usize {
        self.slots.in_flight()
    }

    /// Connections that wait for their turn to do a handshake now, over all clones.
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
            .field("max_handshakes", &self.slots.max())
            .finish_non_exhaustive()
    }
}

/// Ample on slow networks, and too short for hoarding slots.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// At some 64 KiB of input each, what strangers can make a server hold is 16 MiB.
const DEFAULT_MAX_HANDSHAKES: usize = 256;
