//! The future, which runs the inner service and then the handler.

use super::lend::Lender;
use crate::{BoxError, Connection, handler::catch_panic::CatchPanicFuture};
use pin_project::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Future of [`OnError`](super::OnError).
///
/// The inner future is dropped before the handler is called.
#[pin_project]
pub struct OnErrorFuture<F, H, IO, Fut> {
    #[pin]
    state: OnErrorState<F, Fut>,
    /// After `state`, so that the stream has returned when the lender is dropped.
    waiting: Option<(H, Lender<IO>)>,
}

#[pin_project(project = OnErrorStateProj)]
enum OnErrorState<F, Fut> {
    Serving(#[pin] CatchPanicFuture<F>),
    Handling(#[pin] Fut),
}

impl<F, H, IO, Fut> OnErrorFuture<F, H, IO, Fut> {
    pub(super) fn new(call: impl FnOnce() -> F, handler: H, lender: Lender<IO>) -> Self {
        Self {
            state: OnErrorState::Serving(CatchPanicFuture::new(call)),
            waiting: Some((handler, lender)),
        }
    }
}

impl<F, H, IO, Fut, T, E> Future for OnErrorFuture<F, H, IO, Fut>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
    H: Fn(BoxError, Option<Connection<IO>>) -> Fut,
    Fut: Future<Output = Result<T, BoxError>>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                OnErrorStateProj::Serving(inner) => {
                    let served = ready!(inner.poll(cx));
                    let (handler, lender) = this.waiting.take().expect("served only once");
                    let Err(error) = served else {
                        return Poll::Ready(served);
                    };
                    let connection = lender.take_back(&error);
                    this.state
                        .set(OnErrorState::Handling(handler(error, connection)));
                }
                OnErrorStateProj::Handling(handling) => return handling.poll(cx),
            }
        }
    }
}

impl<F, H, IO, Fut> fmt::Debug for OnErrorFuture<F, H, IO, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnErrorFuture")
            .field("handling", &matches!(self.state, OnErrorState::Handling(_)))
            .finish_non_exhaustive()
    }
}
