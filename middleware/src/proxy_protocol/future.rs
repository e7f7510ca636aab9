//! Future of the service.

use crate::{
    BoxError, Connection,
    error::Refused,
    first_then::{FirstStep, FirstThen},
    io::PrefixedIo,
};
use pin_project::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};
use tower::Service;

/// Future of [`ProxyProtocol`](super::ProxyProtocol): the header, then the inner service `S`.
///
/// Reading the header has its own allocation, which is freed before the inner service is called.
#[pin_project]
pub struct ProxyProtocolFuture<S: Service<Connection<PrefixedIo<IO>>>, IO>(
    #[pin] FirstThen<S, PrefixedIo<IO>>,
);

impl<S: Service<Connection<PrefixedIo<IO>>>, IO> ProxyProtocolFuture<S, IO> {
    pub(super) const fn receive(receiving: FirstStep<PrefixedIo<IO>>, inner: S) -> Self {
        Self(FirstThen::new(receiving, inner))
    }

    pub(super) const fn serve(connection: Connection<PrefixedIo<IO>>, inner: S) -> Self {
        Self(FirstThen::serve(connection, inner))
    }

    pub(super) const fn reject(refused: Refused) -> Self {
        Self(FirstThen::reject(refused))
    }
}

impl<S, IO> Future for ProxyProtocolFuture<S, IO>
where
    S: Service<Connection<PrefixedIo<IO>>, Error: Into<BoxError>>,
    IO: 'static,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().0.poll(cx)
    }
}

impl<S: Service<Connection<PrefixedIo<IO>>>, IO> fmt::Debug for ProxyProtocolFuture<S, IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state("receiving");
        f.debug_tuple("ProxyProtocolFuture").field(&state).finish()
    }
}
