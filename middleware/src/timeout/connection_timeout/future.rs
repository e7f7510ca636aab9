//! The future.

use super::{checks::ConnectionChecks, handed_off};
use crate::internal::note_timer;
use pin_project::pin_project;
use std::{
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};
use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};
use tower::BoxError;

/// Future of [`ConnectionTimeout`](super::ConnectionTimeout).
#[pin_project]
#[derive(Debug)]
pub struct ConnectionTimeoutFuture<F> {
    /// `None` after it has ended, because the connection is closed before the error is seen.
    #[pin]
    inner: Option<F>,
    /// `None` without any limit.
    checks: Option<Box<ConnectionChecks>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<F> ConnectionTimeoutFuture<F> {
    pub(super) const fn new(inner: F, checks: Option<Box<ConnectionChecks>>) -> Self {
        Self {
            inner: Some(inner),
            checks,
            timer: None,
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
            if let Some(checks) = this.checks.take() {
                // An async block has dropped the connection by now, unless another task has it.
                this.inner.set(None);
                handed_off::go_on(checks);
            }
            return Poll::Ready(result.map_err(Into::into));
        }
        let Some(checks) = this.checks else {
            return Poll::Pending;
        };
        loop {
            let timer = match this.timer {
                Some(timer) => timer,
                None => {
                    let Some(next) = checks.next() else {
                        return Poll::Pending;
                    };
                    note_timer();
                    this.timer.insert(Box::pin(sleep_until(next)))
                }
            };
            // Without tokio's budget, which a busy connection uses up in each poll.
            ready!(pin!(unconstrained(timer.as_mut())).poll(cx));
            if let Err(elapsed) = checks.check(Instant::now()) {
                this.inner.set(None);
                return Poll::Ready(Err(elapsed.into()));
            }
            match checks.next() {
                Some(next) => timer.as_mut().reset(next),
                // Nothing is left to check.
                None => {
                    *this.checks = None;
                    *this.timer = None;
                    return Poll::Pending;
                }
            }
        }
    }
}

const ENDED: &str = "`ConnectionTimeoutFuture` polled after completion";
