//! The layer and its service.

use super::{
    ConnectionTimeoutFuture,
    checks::{ConnectionChecks, QUARTERS},
};
use crate::{Connection, timeout::SHORTEST_BY_CLOCK};
use std::{
    task::{Context, Poll},
    time::Duration,
};
use tower::{BoxError, Layer, Service};

/// Layer for [`ConnectionTimeout`]; see the [module docs](super).
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionTimeoutLayer {
    limits: ConnectionLimits,
}

/// The limits of each connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionLimits {
    pub(super) first_byte: Option<Duration>,
    pub(super) idle: Option<Duration>,
    pub(super) lifetime: Option<Duration>,
    /// Longest random part of the lifetime, which is added to it.
    pub(super) jitter: Duration,
    pub(super) throughput: Option<Throughput>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Throughput {
    pub(super) bytes: u64,
    pub(super) window: Duration,
}

impl ConnectionLimits {
    /// Whether no check notices that a server's clock is usually late by up to 50 ms.
    fn fit_a_clock(&self) -> bool {
        let quarter = self.idle.map(|idle| idle / QUARTERS);
        let window = self.throughput.map(|throughput| throughput.window);
        let mut pauses = [self.first_byte, self.lifetime, quarter, window]
            .into_iter()
            .flatten();
        pauses.all(|pause| pause >= SHORTEST_BY_CLOCK)
    }
}

impl ConnectionTimeoutLayer {
    /// Without any limit.
    pub const fn new() -> Self {
        let limits = ConnectionLimits {
            first_byte: None,
            idle: None,
            lifetime: None,
            jitter: Duration::ZERO,
            throughput: None,
        };
        Self { limits }
    }

    /// Sets how long after the accept the client must have sent a byte; `None` disables the limit.
    ///
    /// Disable it for protocols in which the server speaks first.
    #[must_use]
    pub fn with_first_byte_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.limits.first_byte = limit.into();
        self
    }

    /// Sets how long no byte may move in either direction; `None` disables the limit.
    #[must_use]
    pub fn with_idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.limits.idle = limit.into();
        self
    }

    /// Sets how long after the accept the connection may be open; `None` disables the limit.
    #[must_use]
    pub fn with_max_lifetime(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.limits.lifetime = limit.into();
        self
    }

    /// Adds a random time of up to `jitter` to the lifetime of each connection. By default it is zero.
    #[must_use]
    pub const fn with_lifetime_jitter(mut self, jitter: Duration) -> Self {
        self.limits.jitter = jitter;
        self
    }

    /// Requires at least `bytes` in each `window`, in both directions together. The first window begins
    /// with the call.
    ///
    /// # Panics
    ///
    /// Panics if `window` is zero.
    #[must_use]
    pub fn with_min_throughput(mut self, bytes: u64, window: Duration) -> Self {
        assert!(!window.is_zero(), "a window of no time");
        self.limits.throughput = Some(Throughput { bytes, window });
        self
    }
}

impl<S> Layer<S> for ConnectionTimeoutLayer {
    type Service = ConnectionTimeout<S>;

    fn layer(&self, inner: S) -> ConnectionTimeout<S> {
        let (limits, by_clock) = (self.limits, self.limits.fit_a_clock());
        ConnectionTimeout {
            inner,
            limits,
            by_clock,
        }
    }
}

/// Limits how long each call of the inner service may be silent, slow, or take.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionTimeout<S> {
    inner: S,
    limits: ConnectionLimits,
    by_clock: bool,
}

impl<S, IO> Service<Connection<IO>> for ConnectionTimeout<S>
where
    S: Service<Connection<IO>, Error: Into<BoxError>>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ConnectionTimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        let checks = ConnectionChecks::new(self.limits, connection.info());
        ConnectionTimeoutFuture::new(self.inner.call(connection), checks, self.by_clock)
    }
}
