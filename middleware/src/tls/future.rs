//! Future of the service.

use super::TlsIo;
use crate::{
    BoxError, Connection,
    first_then::{FirstStep, FirstThen},
};
use pin_project::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};
use tower::Service;

/// Future of [`Tls`](super::Tls): the handshake, then the inner service `S`.
///
/// The handshake has its own allocation, which is freed before the inner service is called. Connections that
/// are being served do not carry its memory.
#[pin_project]
pub struct TlsFuture<S: Service<Connection<TlsIo<IO>>>, IO>(#[pin] FirstThen<S, TlsIo<IO>>);

impl<S: Service<Connection<TlsIo<IO>>>, IO> TlsFuture<S, IO> {
    pub(super) const fn new(handshake: FirstStep<TlsIo<IO>>, inner: S) -> Self {
        Self(FirstThen::new(handshake, inner))
    }
}

impl<S, IO> Future for TlsFuture<S, IO>
where
    S: Service<Connection<TlsIo<IO>>, Error: Into<BoxError>>,
    IO: 'static,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().0.poll(cx)
    }
}

impl<S: Service<Connection<TlsIo<IO>>>, IO> fmt::Debug for TlsFuture<S, IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state("handshake");
        f.debug_tuple("TlsFuture").field(&state).finish()
    }
}
