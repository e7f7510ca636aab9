use super::{ConnectionLimit, LimitHandle, Refusal, limiter::Limiter};
use crate::{
    Connection, ConnectionInfo,
    error::Refused,
    guard::{Held, Refusing},
};
use std::{sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Layer;

/// Layer for [`ConnectionLimit`]; see the [module docs](super).
///
/// Clones and their services share one limit.
#[derive(Clone, Debug)]
pub struct ConnectionLimitLayer {
    policy: LimitPolicy,
}

/// Settings shared by all services of a layer.
#[derive(Clone, Debug)]
pub(super) struct LimitPolicy {
    pub(super) limiter: Arc<Limiter>,
    pub(super) when_full: WhenFull,
    pub(super) observe: bool,
    pub(super) refusal: Refusal,
    pub(super) held: Arc<Held>,
}

impl LimitPolicy {
    /// Rejects `connection`, immediately or in the returned future.
    pub(super) fn refuse<IO>(&self, connection: Connection<IO>, reason: &'static str) -> Refusing
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.limiter.count_refused();
        let refused = Refused::new(ConnectionLimitLayer::NAME, reason);
        self.refusal.refuse(connection, &self.held, refused)
    }

    /// Observes that `connection` is beyond the limit.
    pub(super) fn observe(&self, info: &ConnectionInfo) {
        let reason = ConnectionLimitLayer::FULL;
        let observer = &self.limiter.observer;
        observer.observe(
            info,
            reason,
            Refused::new(ConnectionLimitLayer::NAME, reason),
        );
    }
}

/// What to do with a connection when the limit is reached.
#[derive(Clone, Copy, Debug)]
pub(super) enum WhenFull {
    Wait,
    WaitUpTo {
        timeout: Duration,
        max_waiting: usize,
    },
    Refuse,
}

impl ConnectionLimitLayer {
    /// The reason of a [`Refused`](crate::error::Refused) when the limit is reached.
    pub const FULL: &'static str = "limit reached";
    /// The reason when the limit is reached and the queue of waiting connections is full.
    pub const TOO_MANY_WAITING: &'static str = "limit reached and too many wait already";
    /// The reason when no permit became free within the timeout.
    pub const WAITED_TOO_LONG: &'static str = "limit reached for too long";
    const NAME: &'static str = "connection_limit";

    /// Serves at most `limit` connections concurrently; when full, services are not ready.
    ///
    /// With a limit of zero, connections wait until [`LimitHandle::set_limit`] raises it.
    pub fn new(limit: usize) -> Self {
        let policy = LimitPolicy {
            limiter: Arc::new(Limiter::new(Self::NAME, limit)),
            when_full: WhenFull::Wait,
            observe: false,
            refusal: Refusal::Close,
            held: Arc::default(),
        };
        Self { policy }
    }

    /// Like [`new`](Self::new), and also returns the handle of the limit.
    pub fn pair(limit: usize) -> (Self, LimitHandle) {
        let layer = Self::new(limit);
        let handle = layer.handle();
        (layer, handle)
    }

    /// Returns a handle that reads and changes the limit.
    pub fn handle(&self) -> LimitHandle {
        LimitHandle::new(self.policy.limiter.clone())
    }

    /// When full, lets up to `max_waiting` connections wait for up to `timeout` and rejects the others.
    ///
    /// `max_waiting` includes services of the same limit that wait before accepting. A waiting connection is
    /// in [`Phase::Waiting`](crate::connection::Phase::Waiting). A connection that gets its slot exactly at
    /// the timeout is served.
    #[must_use]
    pub fn wait_up_to(mut self, timeout: Duration, max_waiting: usize) -> Self {
        self.policy.when_full = WhenFull::WaitUpTo {
            timeout,
            max_waiting,
        };
        self
    }

    /// When full, rejects connections immediately.
    #[must_use]
    pub fn refuse(mut self) -> Self {
        self.policy.when_full = WhenFull::Refuse;
        self
    }

    /// When full, serves connections all the same, and counts, logs and notes those beyond the limit; off by
    /// default.
    ///
    /// No connection waits or is rejected then. The log has up to five lines per second, at INFO.
    #[must_use]
    pub const fn with_observe(mut self, observe: bool) -> Self {
        self.policy.observe = observe;
        self
    }

    /// Sets how connections are rejected; by default they are [closed](Refusal::Close).
    ///
    /// It applies together with [`refuse`](Self::refuse) or [`wait_up_to`](Self::wait_up_to).
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
