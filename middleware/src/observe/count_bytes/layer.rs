//! The layer and its service.

use super::{ByteCounter, CountedIo};
use crate::connection::Connection;
use std::task::{Context, Poll};
use tower::{Layer, Service};

/// Layer for [`CountBytes`]; see the [module docs](super).
#[derive(Clone, Debug)]
pub struct CountBytesLayer {
    counter: ByteCounter,
}

impl CountBytesLayer {
    /// Adds to `counter`, which several layers may share.
    pub const fn new(counter: ByteCounter) -> Self {
        Self { counter }
    }

    /// Creates a layer and the counter of its totals.
    pub fn pair() -> (Self, ByteCounter) {
        let counter = ByteCounter::new();
        (Self::new(counter.clone()), counter)
    }
}

impl<S> Layer<S> for CountBytesLayer {
    type Service = CountBytes<S>;

    fn layer(&self, inner: S) -> CountBytes<S> {
        let counter = self.counter.clone();
        CountBytes { inner, counter }
    }
}

/// Calls the inner service with a [`CountedIo`] inside each connection.
#[derive(Clone, Debug)]
pub struct CountBytes<S> {
    inner: S,
    counter: ByteCounter,
}

impl<S, IO> Service<Connection<IO>> for CountBytes<S>
where
    S: Service<Connection<CountedIo<IO>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, connection: Connection<IO>) -> S::Future {
        let counted = connection.map_io(|io| CountedIo::new(io, self.counter.clone()));
        self.inner.call(counted)
    }
}
