//! First the header, then the inner service.

use super::ProxyProtocolLayer;
use crate::io::PrefixedIo;
use crate::{BoxError, Connection, error::Refused, when_ready::WhenReady};
use pin_project::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::Service;

/// Future of [`ProxyProtocol`](super::ProxyProtocol): the header, then the inner service `S`.
///
/// Reading the header has an allocation of its own, which is gone before the inner service's future
/// runs.
#[pin_project]
pub struct ProxyProtocolFuture<S: Service<Connection<PrefixedIo<IO>>>, IO>(#[pin] State<S, IO>);

#[pin_project(project = StateProjection)]
enum State<S: Service<Connection<PrefixedIo<IO>>>, IO> {
    Receiving {
        receiving: Receiving<IO>,
        inner: Option<S>,
    },
    Serving(#[pin] WhenReady<S, PrefixedIo<IO>>),
    Refused {
        reason: &'static str,
    },
}

type Receiving<IO> =
    Pin<Box<dyn Future<Output = Result<Connection<PrefixedIo<IO>>, BoxError>> + Send>>;

impl<S: Service<Connection<PrefixedIo<IO>>>, IO> ProxyProtocolFuture<S, IO> {
    pub(super) const fn receiving(receiving: Receiving<IO>, inner: S) -> Self {
        let inner = Some(inner);
        Self(State::Receiving { receiving, inner })
    }

    pub(super) const fn serving(connection: Connection<PrefixedIo<IO>>, inner: S) -> Self {
        Self(State::Serving(WhenReady::new(inner, connection)))
    }

    pub(super) const fn refused(reason: &'static str) -> Self {
        Self(State::Refused { reason })
    }
}

impl<S, IO> Future for ProxyProtocolFuture<S, IO>
where
    S: Service<Connection<PrefixedIo<IO>>, Error: Into<BoxError>>,
    IO: 'static,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().0;
        loop {
            match state.as_mut().project() {
                StateProjection::Receiving { receiving, inner } => {
                    let connection = ready!(receiving.as_mut().poll(cx))?;
                    let inner = inner.take().expect("not polled after the header");
                    state.set(State::Serving(WhenReady::new(inner, connection)));
                }
                StateProjection::Serving(serving) => return serving.poll(cx),
                StateProjection::Refused { reason } => {
                    let refused = Refused::new(ProxyProtocolLayer::NAME, reason);
                    return Poll::Ready(Err(refused.into()));
                }
            }
        }
    }
}

impl<S: Service<Connection<PrefixedIo<IO>>>, IO> fmt::Debug for ProxyProtocolFuture<S, IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.0 {
            State::Receiving { .. } => "receiving",
            State::Serving(_) => "serving",
            State::Refused { .. } => "refused",
        };
        f.debug_tuple("ProxyProtocolFuture").field(&state).finish()
    }
}
