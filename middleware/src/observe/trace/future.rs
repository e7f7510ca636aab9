//! The future.

use super::open::Open;
use pin_project::{pin_project, pinned_drop};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::BoxError;

/// Future of [`Trace`](super::Trace).
///
/// # Cancel safety
///
/// Dropping it drops the inner future and then reports the closing.
#[pin_project(PinnedDrop)]
#[derive(Debug)]
pub struct TraceFuture<F> {
    /// `None` after it has ended, because it is dropped before the closing is reported.
    #[pin]
    inner: Option<F>,
    /// `None` without a subscriber or callback.
    open: Option<Box<Open>>,
}

impl<F> TraceFuture<F> {
    pub(super) const fn new(inner: F, open: Option<Box<Open>>) -> Self {
        let inner = Some(inner);
        Self { inner, open }
    }
}

impl<F, T, E> Future for TraceFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let inner = this.inner.as_mut().as_pin_mut().expect(ENDED);
        let polled = match this.open {
            None => inner.poll(cx),
            Some(open) => open.run(|| inner.poll(cx)),
        };
        let result = ready!(polled);
        let end = || {
            // Unlike async blocks, other futures may still hold the connection.
            this.inner.set(None);
            result.map_err(Into::into)
        };
        let Some(open) = this.open else {
            return Poll::Ready(end());
        };
        let result = open.run(end);
        open.close(result.as_ref().err().map(|error| &**error as _));
        Poll::Ready(result)
    }
}

#[pinned_drop]
impl<F> PinnedDrop for TraceFuture<F> {
    fn drop(self: Pin<&mut Self>) {
        let mut this = self.project();
        if let Some(open) = this.open
            && this.inner.is_some()
        {
            open.run(|| this.inner.set(None));
        }
        // `open` is dropped next and reports the closing.
    }
}

const ENDED: &str = "`TraceFuture` polled after completion";
