//! Erases the type of the stream.

use crate::{Connection, io::BoxIo};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::{Layer, Service};

/// Layer that erases the type of the stream, for deep stacks.
///
/// It shortens types and compile times, and costs one allocation per connection and one virtual call
/// per operation. See [`Connection::box_io`].
#[derive(Clone, Copy, Debug, Default)]
pub struct BoxIoLayer(());

impl BoxIoLayer {
    /// Boxes the stream of each connection.
    pub const fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for BoxIoLayer {
    type Service = BoxIoService<S>;

    fn layer(&self, inner: S) -> BoxIoService<S> {
        BoxIoService { inner }
    }
}

/// Calls `S` with connections over [`BoxIo`].
#[derive(Clone, Copy, Debug)]
pub struct BoxIoService<S> {
    inner: S,
}

impl<S, IO> Service<Connection<IO>> for BoxIoService<S>
where
    S: Service<Connection<BoxIo>>,
    IO: AsyncRead + AsyncWrite + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, connection: Connection<IO>) -> S::Future {
        self.inner.call(connection.box_io())
    }
}
