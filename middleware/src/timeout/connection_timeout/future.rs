//! The future.

use super::{checks::ConnectionChecks, handed_off, timer::CheckTimer};
use pin_project::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::Instant;
use tower::BoxError;

/// Future of [`ConnectionTimeout`](super::ConnectionTimeout).
#[pin_project]
#[derive(Debug)]
pub struct ConnectionTimeoutFuture<F> {
    /// `None` after it has ended, because the connection is closed before the error is seen.
    #[pin]
    inner: Option<F>,
    /// `None` without any limit, and once nothing is left to check.
    watch: Option<Box<Watch>>,
}

/// The limits of a call, and what wakes it to check them.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) checks: ConnectionChecks,
    timer: CheckTimer,
    /// Whether a server's clock is exact enough.
    by_clock: bool,
}

impl<F> ConnectionTimeoutFuture<F> {
    pub(super) fn new(inner: F, checks: Option<ConnectionChecks>, by_clock: bool) -> Self {
        let watch = |checks| {
            Box::new(Watch {
                checks,
                timer: CheckTimer::Unset,
                by_clock,
            })
        };
        Self {
            inner: Some(inner),
            watch: checks.map(watch),
        }
    }
}

impl<F, T, E> Future for ConnectionTimeoutFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    /// # Panics
    ///
    /// Panics if it is polled after it has completed.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let inner = this.inner.as_mut().as_pin_mut().expect(ENDED);
        if let Poll::Ready(result) = inner.poll(cx) {
            if let Some(watch) = this.watch.take() {
                // An async block has dropped the connection by now, unless another task has it.
                this.inner.set(None);
                handed_off::go_on(watch);
            }
            return Poll::Ready(result.map_err(Into::into));
        }
        let Some(watch) = this.watch else {
            return Poll::Pending;
        };
        if watch.timer.is_armed(watch.checks.info(), cx) {
            return Poll::Pending;
        }
        loop {
            let Some(next) = watch.checks.next() else {
                // Nothing is left to check.
                *this.watch = None;
                return Poll::Pending;
            };
            let info = watch.checks.info();
            ready!(watch.timer.poll(info, next, watch.by_clock, cx));
            if let Err(elapsed) = watch.checks.check(Instant::now()) {
                this.inner.set(None);
                return Poll::Ready(Err(elapsed.into()));
            }
        }
    }
}

impl Watch {
    /// Takes the next check of the call back.
    pub(super) fn clear(&mut self) {
        self.timer.clear(self.checks.info());
    }
}

impl Drop for Watch {
    /// Otherwise the clock would wake a task that no longer waits, and keep its memory until then.
    fn drop(&mut self) {
        self.clear();
    }
}

const ENDED: &str = "`ConnectionTimeoutFuture` polled after completion";
