//! The service and its future.

use super::{Detector, PeekLayer, receive::receive};
use crate::{BoxError, Connection, first_then::FirstThen, io::PrefixedIo};
use pin_project::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::AsyncRead;
use tower::Service;

/// Examines the first bytes of each connection, then calls the inner service.
///
/// It is always ready, and waits for the inner service after the first bytes.
#[derive(Clone, Debug)]
pub struct Peek<S, D> {
    inner: S,
    layer: PeekLayer<D>,
}

impl<S, D> Peek<S, D> {
    pub(super) const fn new(inner: S, layer: PeekLayer<D>) -> Self {
        Self { inner, layer }
    }
}

impl<S, D, IO> Service<Connection<IO>> for Peek<S, D>
where
    S: Service<Connection<PrefixedIo<IO>>, Error: Into<BoxError>> + Clone,
    D: Detector + Send + 'static,
    IO: AsyncRead + Unpin + Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = PeekFuture<S, IO>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        let receiving = Box::pin(receive(self.layer.clone(), connection));
        PeekFuture(FirstThen::new(receiving, self.inner.clone()))
    }
}

/// Future of [`Peek`]: the first bytes, then the inner service `S`.
///
/// Reading them has its own allocation, which is freed before the inner service is called.
#[pin_project]
pub struct PeekFuture<S: Service<Connection<PrefixedIo<IO>>>, IO>(
    #[pin] FirstThen<S, PrefixedIo<IO>>,
);

impl<S, IO> Future for PeekFuture<S, IO>
where
    S: Service<Connection<PrefixedIo<IO>>, Error: Into<BoxError>>,
    IO: 'static,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().0.poll(cx)
    }
}

impl<S: Service<Connection<PrefixedIo<IO>>>, IO> fmt::Debug for PeekFuture<S, IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state("peeking");
        f.debug_tuple("PeekFuture").field(&state).finish()
    }
}
