//! The layer and its service.

use super::{HalfClosedTimeoutFuture, HalfClosedTimeoutIo};
use crate::{Connection, timeout::DEFAULT};
use std::{
    task::{Context, Poll},
    time::Duration,
};
use tower::{BoxError, Layer, Service};

/// Layer for [`HalfClosedTimeout`]; see the [module docs](super).
#[derive(Clone, Copy, Debug)]
pub struct HalfClosedTimeoutLayer {
    timeout: Duration,
}

impl HalfClosedTimeoutLayer {
    /// Ends half-closed connections after 60 seconds of silence.
    pub const fn new() -> Self {
        Self { timeout: DEFAULT }
    }

    /// Sets how long a half-closed connection may be silent.
    #[must_use]
    pub const fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout }
    }
}

impl Default for HalfClosedTimeoutLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for HalfClosedTimeoutLayer {
    type Service = HalfClosedTimeout<S>;

    fn layer(&self, inner: S) -> HalfClosedTimeout<S> {
        let timeout = self.timeout;
        HalfClosedTimeout { inner, timeout }
    }
}

/// Calls the inner service with a [`HalfClosedTimeoutIo`] inside each connection.
#[derive(Clone, Copy, Debug)]
pub struct HalfClosedTimeout<S> {
    inner: S,
    timeout: Duration,
}

impl<S, IO> Service<Connection<IO>> for HalfClosedTimeout<S>
where
    S: Service<Connection<HalfClosedTimeoutIo<IO>>, Error: Into<BoxError>>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = HalfClosedTimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        let mut state = None;
        let connection = connection.map_io(|io| {
            let io = HalfClosedTimeoutIo::within(self.timeout, io);
            state = Some(io.state());
            io
        });
        HalfClosedTimeoutFuture::new(self.inner.call(connection), state)
    }
}
