//! First the handshake, then the inner service.

use super::TlsIo;
use crate::{BoxError, Connection, when_ready::WhenReady};
use pin_project::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::Service;

/// Future of [`Tls`](super::Tls): the handshake, then the inner service `S`.
///
/// The handshake has an allocation of its own, which is gone before the inner service's future
/// runs: what it needs does not weigh on the connections that are served.
#[pin_project]
pub struct TlsFuture<S: Service<Connection<TlsIo<IO>>>, IO>(#[pin] State<S, IO>);

#[pin_project(project = StateProjection)]
enum State<S: Service<Connection<TlsIo<IO>>>, IO> {
    Handshake {
        handshake: Handshake<IO>,
        inner: Option<S>,
    },
    Serving(#[pin] WhenReady<S, TlsIo<IO>>),
}

type Handshake<IO> = Pin<Box<dyn Future<Output = Result<Connection<TlsIo<IO>>, BoxError>> + Send>>;

impl<S: Service<Connection<TlsIo<IO>>>, IO> TlsFuture<S, IO> {
    pub(super) const fn new(handshake: Handshake<IO>, inner: S) -> Self {
        let inner = Some(inner);
        Self(State::Handshake { handshake, inner })
    }
}

impl<S, IO> Future for TlsFuture<S, IO>
where
    S: Service<Connection<TlsIo<IO>>, Error: Into<BoxError>>,
    IO: 'static,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().0;
        loop {
            match state.as_mut().project() {
                StateProjection::Handshake { handshake, inner } => {
                    let connection = ready!(handshake.as_mut().poll(cx))?;
                    let inner = inner.take().expect("not polled after the handshake");
                    state.set(State::Serving(WhenReady::new(inner, connection)));
                }
                StateProjection::Serving(serving) => return serving.poll(cx),
            }
        }
    }
}

impl<S: Service<Connection<TlsIo<IO>>>, IO> fmt::Debug for TlsFuture<S, IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.0 {
            State::Handshake { .. } => "handshake",
            State::Serving(_) => "serving",
        };
        f.debug_tuple("TlsFuture").field(&state).finish()
    }
}
