//! The layer and its service.

use super::WriteBufferIo;
use crate::Connection;
use std::task::{Context, Poll};
use tower::{Layer, Service};

/// Layer for [`WriteBuffer`]; see the [module docs](super).
#[derive(Clone, Copy, Debug)]
pub struct WriteBufferLayer {
    bytes: usize,
}

impl WriteBufferLayer {
    /// Buffers up to `bytes` of output per connection; zero disables the buffer.
    pub const fn new(bytes: usize) -> Self {
        Self { bytes }
    }
}

impl Default for WriteBufferLayer {
    /// Buffers up to 8 KiB of output per connection.
    fn default() -> Self {
        Self::new(DEFAULT_BYTES)
    }
}

impl<S> Layer<S> for WriteBufferLayer {
    type Service = WriteBuffer<S>;

    fn layer(&self, inner: S) -> WriteBuffer<S> {
        let bytes = self.bytes;
        WriteBuffer { inner, bytes }
    }
}

/// Calls the inner service with a [`WriteBufferIo`] inside each connection.
#[derive(Clone, Copy, Debug)]
pub struct WriteBuffer<S> {
    inner: S,
    bytes: usize,
}

impl<S, IO> Service<Connection<IO>> for WriteBuffer<S>
where
    S: Service<Connection<WriteBufferIo<IO>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, connection: Connection<IO>) -> S::Future {
        let buffered = connection.map_io(|io| WriteBufferIo::new(io, self.bytes));
        self.inner.call(buffered)
    }
}

/// Default size of an output buffer, also that of transcoded output.
pub(crate) const DEFAULT_BYTES: usize = 8 * 1024;
