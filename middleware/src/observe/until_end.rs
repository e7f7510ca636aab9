//! Polls a service's future and reports the end of its connection, exactly once.

use crate::{connection::ConnectionInfo, outcome::Outcome};
use pin_project::{pin_project, pinned_drop};
use std::{
    error::Error,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::BoxError;

/// What is called at the end of a connection.
pub(super) trait OnEnd {
    fn ended(&self, info: &ConnectionInfo, outcome: Outcome, error: Option<&(dyn Error + 'static)>);
}

/// Polls `F`, drops it when it is done, and then reports the end.
#[pin_project(PinnedDrop)]
#[derive(Debug)]
pub(super) struct UntilEnd<F, E: OnEnd> {
    /// `None` after it has ended, because it is dropped before the end is reported.
    #[pin]
    inner: Option<F>,
    open: Open<E>,
}

impl<F, E: OnEnd> UntilEnd<F, E> {
    /// Calls `service`, and reports the end to `end` even if it panics.
    pub(super) fn call(info: ConnectionInfo, end: E, service: impl FnOnce() -> F) -> Self {
        let mut open = Open {
            info,
            end,
            panicked: false,
            closed: false,
        };
        let inner = Some(open.run(service));
        Self { inner, open }
    }
}

impl<F, T, E, R> Future for UntilEnd<F, R>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
    R: OnEnd,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let result = ready!(this.open.run(|| {
            let inner = this.inner.as_mut().as_pin_mut().expect(ENDED);
            let result = ready!(inner.poll(cx)).map_err(Into::into);
            // Unlike async blocks, other futures may still hold the connection.
            this.inner.set(None);
            Poll::Ready(result)
        }));
        let error = result.as_ref().err().map(|error: &BoxError| &**error as _);
        this.open.close(error);
        Poll::Ready(result)
    }
}

#[pinned_drop]
impl<F, E: OnEnd> PinnedDrop for UntilEnd<F, E> {
    fn drop(self: Pin<&mut Self>) {
        let mut this = self.project();
        if this.inner.is_some() {
            this.open.run(|| this.inner.set(None));
        }
        // `open` is dropped next and reports the end.
    }
}

/// A connection whose end is reported once, at the latest on drop.
#[derive(Debug)]
struct Open<E: OnEnd> {
    info: ConnectionInfo,
    end: E,
    /// True while the service runs, so that it stays true after a panic.
    panicked: bool,
    closed: bool,
}

impl<E: OnEnd> Open<E> {
    /// Runs a part of the service and records whether it panics.
    #[inline]
    fn run<T>(&mut self, service: impl FnOnce() -> T) -> T {
        let panicked = mem::replace(&mut self.panicked, true);
        let result = service();
        self.panicked = panicked;
        result
    }

    fn close(&mut self, error: Option<&(dyn Error + 'static)>) {
        self.closed = true;
        let outcome = Outcome::of(&self.info, error);
        self.end.ended(&self.info, outcome, error);
    }
}

impl<E: OnEnd> Drop for Open<E> {
    fn drop(&mut self) {
        if !self.closed {
            let outcome = if self.panicked {
                Outcome::Panicked
            } else {
                Outcome::of_unfinished(&self.info)
            };
            self.end.ended(&self.info, outcome, None);
        }
    }
}

const ENDED: &str = "future polled after completion";
