//! The future of the service.

use super::state::{HalfClosedState, SilenceTimer};
use pin_project::pin_project;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};
use tower::BoxError;

/// Future of [`HalfClosedTimeout`](super::HalfClosedTimeout).
///
/// It fails when the half-closed connection times out, whatever the inner future waits for. The inner future
/// is dropped first.
#[pin_project]
#[derive(Debug)]
pub struct HalfClosedTimeoutFuture<F> {
    #[pin]
    inner: Option<F>,
    state: Option<Arc<HalfClosedState>>,
    timer: SilenceTimer,
    /// The waker registered in the state.
    task: Option<Waker>,
}

impl<F> HalfClosedTimeoutFuture<F> {
    pub(super) const fn new(inner: F, state: Option<Arc<HalfClosedState>>) -> Self {
        Self {
            inner: Some(inner),
            state,
            timer: None,
            task: None,
        }
    }
}

impl<F, T, E> Future for HalfClosedTimeoutFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            panic!("`HalfClosedTimeoutFuture` polled after completion");
        };
        if let Poll::Ready(result) = inner.poll(cx) {
            this.inner.set(None);
            return Poll::Ready(result.map_err(Into::into));
        }
        let Some(state) = this.state else {
            return Poll::Pending;
        };
        // Register before checking the state, because another task may close a direction in between.
        if !this
            .task
            .as_ref()
            .is_some_and(|task| task.will_wake(cx.waker()))
        {
            *this.task = Some(cx.waker().clone());
            state.set_task(cx.waker());
        }
        if !state.is_half_closed() {
            return Poll::Pending;
        }
        let elapsed = ready!(state.poll_elapsed(this.timer, cx));
        this.inner.set(None);
        Poll::Ready(Err(elapsed.into()))
    }
}
