//! Limits on handshakes that several layers share.

use super::{TlsLayer, handshake_limit::HandshakeLimit, unfinished::Unfinished};
use std::sync::Arc;

/// Limits on handshakes that several layers share, such as those of several host names on one port, or a layer and
/// the one that replaces it.
///
/// Each layer has limits of its own by default. Pass the same ones to [`TlsLayer::with_limits`]; clones share them.
///
/// ```
/// use portcullis_middleware::tls::{HandshakeLimits, TlsLayer};
///
/// fn share(shop: TlsLayer, blog: TlsLayer) -> [TlsLayer; 2] {
///     let limits = HandshakeLimits::new(1_000);
///     [shop, blog].map(|layer| layer.with_limits(limits.clone()))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct HandshakeLimits {
    unfinished: Arc<Unfinished>,
    slots: Arc<HandshakeLimit>,
}

impl HandshakeLimits {
    /// Limits the connections with an unfinished handshake, as [`TlsLayer::with_max_handshakes`], and the computing
    /// handshakes to four for each processor.
    ///
    /// # Panics
    ///
    /// When `max_handshakes` is zero.
    pub fn new(max_handshakes: usize) -> Self {
        Self {
            unfinished: unfinished(max_handshakes),
            slots: Arc::new(HandshakeLimit::for_this_machine()),
        }
    }

    /// Replaces the limit on unfinished handshakes; see [`TlsLayer::with_max_handshakes`].
    ///
    /// The result counts its own unfinished handshakes from zero, and shares the limit on computing ones.
    ///
    /// # Panics
    ///
    /// When `max` is zero.
    #[must_use]
    pub fn with_max_handshakes(mut self, max: usize) -> Self {
        self.unfinished = unfinished(max);
        self
    }

    /// Replaces the limit on computing handshakes; see [`TlsLayer::with_max_computing`].
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
}

fn unfinished(max: usize) -> Arc<Unfinished> {
    assert!(max > 0, "`max` must be at least 1");
    Arc::new(Unfinished::new(max))
}

impl TlsLayer {
    /// Uses limits that are shared with other layers, in place of its own.
    #[must_use]
    pub fn with_limits(mut self, limits: HandshakeLimits) -> Self {
        self.unfinished = limits.unfinished;
        self.slots = limits.slots;
        self
    }
}
