//! The layer and its service.

use super::{TimeoutIo, bound::DEFAULT};
use crate::Connection;
use std::{
    task::{Context, Poll},
    time::Duration,
};
use tower::{Layer, Service};

/// Layer for [`IoTimeout`]; see the [module docs](super).
#[derive(Clone, Copy, Debug)]
pub struct IoTimeoutLayer {
    limits: Limits,
}

impl IoTimeoutLayer {
    /// At most 60 seconds for each read and for each write.
    pub const fn new() -> Self {
        let limits = Limits {
            read: Some(DEFAULT),
            write: Some(DEFAULT),
        };
        Self { limits }
    }

    /// Sets how long a read may wait; `None` is for ever.
    ///
    /// Zero fails each read that is not ready at once.
    #[must_use]
    pub fn with_read(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.limits.read = limit.into();
        self
    }

    /// Sets how long a write, flush or shutdown may wait; `None` is for ever.
    ///
    /// Zero fails each write that is not ready at once.
    #[must_use]
    pub fn with_write(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.limits.write = limit.into();
        self
    }
}

impl Default for IoTimeoutLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for IoTimeoutLayer {
    type Service = IoTimeout<S>;

    fn layer(&self, inner: S) -> IoTimeout<S> {
        let limits = self.limits;
        IoTimeout { inner, limits }
    }
}

/// Calls the inner service with a [`TimeoutIo`] inside each connection.
#[derive(Clone, Copy, Debug)]
pub struct IoTimeout<S> {
    inner: S,
    limits: Limits,
}

impl<S, IO> Service<Connection<IO>> for IoTimeout<S>
where
    S: Service<Connection<TimeoutIo<IO>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, connection: Connection<IO>) -> S::Future {
        let Limits { read, write } = self.limits;
        let bounded = |io| TimeoutIo::new(io).with_read(read).with_write(write);
        self.inner.call(connection.map_io(bounded))
    }
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    read: Option<Duration>,
    write: Option<Duration>,
}
