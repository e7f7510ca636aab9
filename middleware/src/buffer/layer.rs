//! The layer and its service.

use super::BufferIo;
use crate::Connection;
use std::task::{Context, Poll};
use tower::{Layer, Service};

/// Layer for [`Buffer`]; see the [module docs](super).
#[derive(Clone, Copy, Debug)]
pub struct BufferLayer {
    bytes: usize,
}

impl BufferLayer {
    /// Buffers up to `bytes` of output per connection; zero buffers nothing.
    pub const fn new(bytes: usize) -> Self {
        Self { bytes }
    }
}

impl Default for BufferLayer {
    /// Buffers up to 8 KiB of output per connection.
    fn default() -> Self {
        Self::new(8 * 1024)
    }
}

impl<S> Layer<S> for BufferLayer {
    type Service = Buffer<S>;

    fn layer(&self, inner: S) -> Buffer<S> {
        let bytes = self.bytes;
        Buffer { inner, bytes }
    }
}

/// Calls the inner service with a [`BufferIo`] inside each connection.
#[derive(Clone, Copy, Debug)]
pub struct Buffer<S> {
    inner: S,
    bytes: usize,
}

impl<S, IO> Service<Connection<IO>> for Buffer<S>
where
    S: Service<Connection<BufferIo<IO>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, connection: Connection<IO>) -> S::Future {
        let buffered = connection.map_io(|io| BufferIo::new(io, self.bytes));
        self.inner.call(buffered)
    }
}
