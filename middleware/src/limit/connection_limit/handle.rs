use super::limiter::Limiter;
use std::sync::Arc;

/// Watches a limit and changes it while connections are served; clones see the same limit.
///
/// Each number is exact at the moment of the call.
#[derive(Clone, Debug)]
pub struct LimitHandle(Arc<Limiter>);

impl LimitHandle {
    pub(super) const fn new(limiter: Arc<Limiter>) -> Self {
        Self(limiter)
    }

    /// How many connections may be served at once.
    pub fn limit(&self) -> usize {
        self.0.state().limit()
    }

    /// Changes how many connections may be served at once, from now on.
    ///
    /// Raising it lets waiting connections in at once. Lowering it ends none: those above the new
    /// limit are served to their end, and no other comes in until enough have left.
    pub fn set_limit(&self, limit: usize) {
        self.0.set_limit(limit);
    }

    /// How many slots are taken: by connections, and by services that are ready for one.
    pub fn active(&self) -> usize {
        self.0.state().active()
    }

    /// How many wait for a slot: connections, and services that are not ready for one.
    pub fn waiting(&self) -> usize {
        self.0.state().waiting()
    }

    /// How many connections were refused so far.
    pub fn refused(&self) -> u64 {
        self.0.state().refused()
    }
}
