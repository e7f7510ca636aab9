//! The layer and its service.

use super::{
    ConnectionTimeoutFuture,
    checks::{ConnectionChecks, QUARTERS, moved},
};
use crate::{Connection, ConnectionInfo, guard::Observer, timeout::SHORTEST_BY_CLOCK};
use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower::{BoxError, Layer, Service};

/// Layer for [`ConnectionTimeout`]; see the [module docs](super).
#[derive(Clone, Debug, Default)]
pub struct ConnectionTimeoutLayer {
    limits: ConnectionLimits,
    /// `None` if the limits apply.
    observer: Option<Arc<Observer>>,
}

/// The limits of each connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionLimits {
    pub(super) first_byte: Option<Duration>,
    pub(super) idle: Option<Duration>,
    pub(super) lifetime: Option<Duration>,
    /// Longest random part of the lifetime, which is added to it.
    pub(super) jitter: Duration,
    /// Time between the end of the lifetime and the end of the connection.
    pub(super) grace: Duration,
    /// Of both directions together, of reads, and of writes.
    pub(super) throughput: [Option<Throughput>; Throughput::COUNTS],
    /// An observer notes too slow connections alone, and the other limits apply.
    pub(super) observes_throughput_alone: bool,
}

impl ConnectionLimits {
    pub(super) fn is_empty(&self) -> bool {
        let times = [self.first_byte, self.idle, self.lifetime];
        times.iter().all(Option::is_none) && self.throughput.iter().all(Option::is_none)
    }

    /// Whether no check notices that a server's clock is usually late by up to 50 ms.
    fn fit_a_clock(&self) -> bool {
        let quarter = self.idle.map(|idle| idle / QUARTERS);
        let half = (!self.grace.is_zero()).then(|| self.grace / 2);
        let windows = self.throughput.iter().flatten();
        let pauses = [self.first_byte, self.lifetime, quarter, half];
        let mut pauses = pauses
            .into_iter()
            .flatten()
            .chain(windows.map(|throughput| throughput.window));
        pauses.all(|pause| pause >= SHORTEST_BY_CLOCK)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Throughput {
    pub(super) bytes: u64,
    pub(super) window: Duration,
    /// The bytes moved so far.
    pub(super) count: fn(&ConnectionInfo) -> u64,
}

impl Throughput {
    pub(super) const COUNTS: usize = 3;

    fn new(bytes: u64, window: Duration, count: fn(&ConnectionInfo) -> u64) -> Option<Self> {
        assert!(!window.is_zero(), "a window of no time");
        Some(Self {
            bytes,
            window,
            count,
        })
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
            grace: Duration::ZERO,
            throughput: [None; Throughput::COUNTS],
            observes_throughput_alone: false,
        };
        let observer = None;
        Self { limits, observer }
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

    /// Keeps the connection open for `grace` after its lifetime, in which it shuts down gracefully; none by default.
    ///
    /// [`drain`](ConnectionInfo::drain) of this connection resolves at the end of the lifetime, as at a shutdown of
    /// the server. After half of the grace period, connections without work are asked to close
    /// ([`DrainStage::Closing`](crate::drain::DrainStage::Closing)), and after all of it the connection times out.
    ///
    /// If several such layers enclose each other, only the outermost one has a grace period.
    #[must_use]
    pub const fn with_lifetime_grace(mut self, grace: Duration) -> Self {
        self.limits.grace = grace;
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
        self.limits.throughput[0] = Throughput::new(bytes, window, moved);
        self
    }

    /// Requires at least `bytes` read from the client in each `window`, for uploads.
    ///
    /// # Panics
    ///
    /// Panics if `window` is zero.
    #[must_use]
    pub fn with_min_read_throughput(mut self, bytes: u64, window: Duration) -> Self {
        self.limits.throughput[1] = Throughput::new(bytes, window, ConnectionInfo::bytes_read);
        self
    }

    /// Requires at least `bytes` written to the client in each `window`, for downloads.
    ///
    /// # Panics
    ///
    /// Panics if `window` is zero.
    #[must_use]
    pub fn with_min_write_throughput(mut self, bytes: u64, window: Duration) -> Self {
        self.limits.throughput[2] = Throughput::new(bytes, window, ConnectionInfo::bytes_written);
        self
    }

    /// Only counts, logs and notes the connections that exceed a limit, once per limit, and keeps them open; off by
    /// default.
    ///
    /// The log has up to five lines per second, at INFO. Clones made afterwards share the count.
    #[must_use]
    pub fn with_observe(mut self, observe: bool) -> Self {
        self.limits.observes_throughput_alone = false;
        self.observer = observe.then(|| Arc::new(Observer::new(NAME)));
        self
    }

    /// Like [`with_observe`](Self::with_observe), for the least throughput alone. The other limits apply.
    #[must_use]
    pub fn with_throughput_observe(mut self, observe: bool) -> Self {
        self = self.with_observe(observe);
        self.limits.observes_throughput_alone = observe;
        self
    }

    /// Number of exceeded limits that had no effect only because the layer [observes](Self::with_observe).
    pub fn observed(&self) -> u64 {
        let observer = self.observer.as_ref();
        observer.map_or(0, |observer| observer.observed())
    }
}

impl<S> Layer<S> for ConnectionTimeoutLayer {
    type Service = ConnectionTimeout<S>;

    fn layer(&self, inner: S) -> ConnectionTimeout<S> {
        let (layer, by_clock) = (self.clone(), self.limits.fit_a_clock());
        ConnectionTimeout {
            inner,
            layer,
            by_clock,
        }
    }
}

/// Limits how long each call of the inner service may be silent, slow, or take.
#[derive(Clone, Debug)]
pub struct ConnectionTimeout<S> {
    inner: S,
    layer: ConnectionTimeoutLayer,
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
        let ConnectionTimeoutLayer { limits, observer } = &self.layer;
        let checks = ConnectionChecks::new(limits, observer.clone(), connection.info());
        ConnectionTimeoutFuture::new(self.inner.call(connection), checks, self.by_clock)
    }
}

/// The layer's name in logs and metrics.
const NAME: &str = "connection_timeout";
