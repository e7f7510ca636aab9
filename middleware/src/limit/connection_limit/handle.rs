use super::limiter::Limiter;
use std::sync::Arc;

/// Reads a connection limit and changes it at run time; clones share the limit.
///
/// Each number is exact at the time of the call.
#[derive(Clone, Debug)]
pub struct LimitHandle(Arc<Limiter>);

impl LimitHandle {
    pub(super) const fn new(limiter: Arc<Limiter>) -> Self {
        Self(limiter)
    }

    /// Maximum number of concurrent connections.
    pub fn limit(&self) -> usize {
        self.0.state().limit()
    }

    /// Changes the maximum number of concurrent connections.
    ///
    /// Raising it admits waiting connections immediately. Lowering it keeps the connections above the new limit
    /// open; further ones are admitted once enough of them have ended.
    pub fn set_limit(&self, limit: usize) {
        self.0.set_limit(limit);
    }

    /// Number of slots in use, by connections and by services that are ready for one.
    pub fn active(&self) -> usize {
        self.0.state().active()
    }

    /// Number of connections and services that wait for a slot.
    pub fn waiting(&self) -> usize {
        self.0.state().waiting()
    }

    /// Number of connections beyond the limit that were served only because the layer
    /// [observes](super::ConnectionLimitLayer::with_observe).
    pub fn observed(&self) -> u64 {
        self.0.observer.observed()
    }

    /// Number of connections rejected so far.
    pub fn refused(&self) -> u64 {
        self.0.state().refused()
    }
}
