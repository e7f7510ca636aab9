//! First the handshake, then the inner service.

use super::TlsIo;
use crate::{BoxError, Connection};
use pin_project::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::Service;

/// Future of [`Tls`](super::Tls): the handshake, then the future `F` of the inner service.
///
/// The handshake has an allocation of its own, which is gone before the inner service's future
/// runs: what it needs does not weigh on the connections that are served.
#[pin_project]
pub struct TlsFuture<S, F, IO>(#[pin] State<S, F, IO>);

#[pin_project(project = StateProjection)]
enum State<S, F, IO> {
    Handshake { handshake: Handshake<IO>, inner: S },
    Serving(#[pin] F),
}

type Handshake<IO> = Pin<Box<dyn Future<Output = Result<Connection<TlsIo<IO>>, BoxError>> + Send>>;

impl<S, F, IO> TlsFuture<S, F, IO> {
    pub(super) const fn new(handshake: Handshake<IO>, inner: S) -> Self {
        Self(State::Handshake { handshake, inner })
    }
}

impl<S, IO> Future for TlsFuture<S, S::Future, IO>
where
    S: Service<Connection<TlsIo<IO>>, Error: Into<BoxError>>,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().0;
        loop {
            match state.as_mut().project() {
                StateProjection::Handshake { handshake, inner } => {
                    let connection = ready!(handshake.as_mut().poll(cx))?;
                    let serving = inner.call(connection);
                    state.set(State::Serving(serving));
                }
                StateProjection::Serving(serving) => return serving.poll(cx).map_err(Into::into),
            }
        }
    }
}

impl<S, F, IO> fmt::Debug for TlsFuture<S, F, IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.0 {
            State::Handshake { .. } => "handshake",
            State::Serving(_) => "serving",
        };
        f.debug_tuple("TlsFuture").field(&state).finish()
    }
}
