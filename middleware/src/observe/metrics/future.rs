//! The future, and the end of a connection.

use super::handles::Handles;
use crate::{connection::ConnectionInfo, outcome::Outcome};
use pin_project::{pin_project, pinned_drop};
use std::{
    error::Error,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tower::BoxError;

/// Future of [`Metrics`](super::Metrics).
///
/// # Cancel safety
///
/// Dropping it drops the inner future and then counts the end.
#[pin_project(PinnedDrop)]
#[derive(Debug)]
pub struct MetricsFuture<F> {
    /// `None` after it has ended, because it is dropped before the end is counted.
    #[pin]
    inner: Option<F>,
    open: Open,
}

impl<F> MetricsFuture<F> {
    pub(super) const fn new(inner: F, open: Open) -> Self {
        let inner = Some(inner);
        Self { inner, open }
    }
}

impl<F, T, E> Future for MetricsFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
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
impl<F> PinnedDrop for MetricsFuture<F> {
    fn drop(self: Pin<&mut Self>) {
        let mut this = self.project();
        if this.inner.is_some() {
            this.open.run(|| this.inner.set(None));
        }
        // `open` is dropped next and counts the end.
    }
}

/// A connection whose end is counted once, at the latest on drop.
#[derive(Debug)]
pub(super) struct Open {
    info: ConnectionInfo,
    handles: Arc<Handles>,
    /// True while the service runs, so that it stays true after a panic.
    panicked: bool,
    closed: bool,
}

impl Open {
    pub(super) const fn new(info: ConnectionInfo, handles: Arc<Handles>) -> Self {
        Self {
            info,
            handles,
            panicked: false,
            closed: false,
        }
    }

    /// Runs a part of the service and records whether it panics.
    #[inline]
    pub(super) fn run<T>(&mut self, service: impl FnOnce() -> T) -> T {
        let panicked = mem::replace(&mut self.panicked, true);
        let result = service();
        self.panicked = panicked;
        result
    }

    fn close(&mut self, error: Option<&(dyn Error + 'static)>) {
        self.closed = true;
        let outcome = Outcome::of(&self.info, error);
        self.handles.close(&self.info, outcome, error);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.closed {
            let outcome = if self.panicked {
                Outcome::Panicked
            } else {
                Outcome::of_unfinished(&self.info)
            };
            self.handles.close(&self.info, outcome, None);
        }
    }
}

const ENDED: &str = "`MetricsFuture` polled after completion";
