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

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.as_mut().project();
        let inner = this.inner.as_pin_mut().expect(ENDED);
        let polled = match this.open {
            None => inner.poll(cx),
            Some(open) => open.run(|| inner.poll(cx)),
        };
        let result = ready!(polled);
        Poll::Ready(self.end(result))
    }
}

impl<F> TraceFuture<F> {
    /// Drops the inner future and reports the closing. Out of line, because a future is polled more often.
    #[inline(never)]
    fn end<T, E: Into<BoxError>>(
        self: Pin<&mut Self>,
        result: Result<T, E>,
    ) -> Result<T, BoxError> {
        let mut this = self.project();
        let end = || {
            // Unlike async blocks, other futures may still hold the connection.
            this.inner.set(None);
            result.map_err(Into::into)
        };
        let Some(open) = this.open else {
            return end();
        };
        let result = open.run(end);
        open.close(result.as_ref().err().map(|error| &**error as _));
        result
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
