use super::{ConnectionLimit, LimitHandle, Refusal, limiter::Limiter};
use std::{sync::Arc, time::Duration};
use tower::Layer;

/// Layer for [`ConnectionLimit`]; see the [module docs](super).
///
/// Clones, and the services that they make, share one limit.
#[derive(Clone, Debug)]
pub struct ConnectionLimitLayer {
    policy: Policy,
}

/// What all services of a layer have in common.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) limiter: Arc<Limiter>,
    pub(super) when_full: WhenFull,
    pub(super) refusal: Refusal,
}

/// What becomes of a connection for which there is no room.
#[derive(Clone, Copy, Debug)]
pub(super) enum WhenFull {
    Wait,
    WaitUpTo { bound: Duration, max_waiting: usize },
    Refuse,
}

impl ConnectionLimitLayer {
    /// The reason of a [`Refused`](crate::error::Refused) when the limit is reached.
    pub const FULL: &'static str = "limit reached";
    /// The reason when the limit is reached and the queue of waiting connections is full.
    pub const TOO_MANY_WAITING: &'static str = "limit reached and too many wait already";
    /// The reason when no permit became free within the timeout.
    pub const WAITED_TOO_LONG: &'static str = "limit reached for too long";
    pub(super) const NAME: &'static str = "connection_limit";

    /// Serves at most `limit` connections at once; when full, no service is ready.
    ///
    /// With a limit of zero nothing is served until [`LimitHandle::set_limit`] raises it.
    pub fn new(limit: usize) -> Self {
        let policy = Policy {
            limiter: Arc::new(Limiter::new(limit)),
            when_full: WhenFull::Wait,
            refusal: Refusal::Close,
        };
        Self { policy }
    }

    /// Like [`new`](Self::new), together with the handle of the limit.
    pub fn pair(limit: usize) -> (Self, LimitHandle) {
        let layer = Self::new(limit);
        let handle = layer.handle();
        (layer, handle)
    }

    /// The handle of the limit: watches and changes it.
    pub fn handle(&self) -> LimitHandle {
        LimitHandle::new(self.policy.limiter.clone())
    }

    /// When full, lets up to `max_waiting` connections wait for up to `bound` each, and refuses
    /// the others.
    ///
    /// All that wait on this limit count, those that wait before accepting included. A connection
    /// that waits is in [`Phase::Waiting`](crate::connection::Phase::Waiting). One that gets its
    /// slot at the very bound is served.
    #[must_use]
    pub fn wait_up_to(mut self, bound: Duration, max_waiting: usize) -> Self {
        self.policy.when_full = WhenFull::WaitUpTo { bound, max_waiting };
        self
    }

    /// When full, refuses connections at once.
    #[must_use]
    pub fn refuse(mut self) -> Self {
        self.policy.when_full = WhenFull::Refuse;
        self
    }

    /// Sets how connections are refused; by default they are [closed](Refusal::Close).
    ///
    /// Without [`refuse`](Self::refuse) and [`wait_up_to`](Self::wait_up_to) none ever is.
    #[must_use]
    pub fn with_refusal(mut self, refusal: Refusal) -> Self {
        self.policy.refusal = refusal;
        self
    }
}

impl<S> Layer<S> for ConnectionLimitLayer {
    type Service = ConnectionLimit<S>;

    fn layer(&self, inner: S) -> ConnectionLimit<S> {
        ConnectionLimit::new(inner, Arc::new(self.policy.clone()))
    }
}
