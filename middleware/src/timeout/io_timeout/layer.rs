//! The layer and its service.

use super::{TimeoutIo, turn::Turn};
use crate::{Connection, timeout::DEFAULT};
use pin_project::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tower::{Layer, Service};

/// Layer for [`IoTimeout`]; see the [module docs](super).
#[derive(Clone, Copy, Debug)]
pub struct IoTimeoutLayer {
    limits: IoTimeouts,
}

impl IoTimeoutLayer {
    /// Limits each read and each write to 60 seconds.
    pub const fn new() -> Self {
        let limits = IoTimeouts {
            read: Some(DEFAULT),
            write: Some(DEFAULT),
        };
        Self { limits }
    }

    /// Sets how long a read may wait; `None` disables the timeout.
    ///
    /// With zero, a read fails unless it is ready immediately.
    #[must_use]
    pub fn with_read_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.limits.read = limit.into();
        self
    }

    /// Disables the read timeout, for HTTP, forwarding and other protocols with silent clients.
    #[must_use]
    pub const fn without_read_timeout(mut self) -> Self {
        self.limits.read = None;
        self
    }

    /// Sets how long a write, flush or shutdown may wait; `None` disables the timeout.
    ///
    /// With zero, a write fails unless it is ready immediately.
    #[must_use]
    pub fn with_write_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
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
    limits: IoTimeouts,
}

impl<S, IO> Service<Connection<IO>> for IoTimeout<S>
where
    S: Service<Connection<TimeoutIo<IO>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = IoTimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        let IoTimeouts { read, write } = self.limits;
        let info = connection.info().clone();
        let with_timeouts = |io| {
            TimeoutIo::new(io)
                .with_read_timeout(read)
                .with_write_timeout(write)
                .with_info(info)
        };
        IoTimeoutFuture {
            inner: self.inner.call(connection.map_io(with_timeouts)),
            turn: Turn::of_new_future(),
        }
    }
}

/// Future of [`IoTimeout`].
///
/// It counts its polls, so that an operation can determine whether the handler was waiting for it.
#[pin_project]
#[derive(Debug)]
pub struct IoTimeoutFuture<F> {
    #[pin]
    inner: F,
    turn: Turn,
}

impl<F: Future> Future for IoTimeoutFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _turn = this.turn.begin(cx);
        this.inner.poll(cx)
    }
}

#[derive(Clone, Copy, Debug)]
struct IoTimeouts {
    read: Option<Duration>,
    write: Option<Duration>,
}
