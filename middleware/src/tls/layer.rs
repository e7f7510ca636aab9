//! The layer, and how it is set up.

use super::{Tls, rustls::ServerConfig, slots::Slots};
use std::{fmt, sync::Arc, time::Duration};
use tower::Layer;

/// Layer for [`Tls`]; see the [module docs](super).
///
/// Clones share the configuration, with its session cache, and the cap on handshakes.
#[derive(Clone)]
pub struct TlsLayer {
    pub(super) config: Arc<ServerConfig>,
    pub(super) timeout: Option<Duration>,
    pub(super) slots: Arc<Slots>,
}

impl TlsLayer {
    /// Terminates TLS as `config` says: client certificates, several host names, session stores.
    ///
    /// Give `ServerConfig::builder_with_provider` its provider explicitly: rustls' default for the
    /// process panics where two are compiled in and nobody chose one.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self {
            config,
            timeout: Some(DEFAULT_TIMEOUT),
            slots: Arc::new(Slots::new(DEFAULT_MAX_HANDSHAKES)),
        }
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
