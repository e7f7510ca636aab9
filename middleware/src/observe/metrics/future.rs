//! The future.

use super::handles::Handles;
use crate::observe::until_end::UntilEnd;
use pin_project::pin_project;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tower::BoxError;

/// Future of [`Metrics`](super::Metrics).
///
/// # Cancel safety
///
/// Dropping it drops the inner future and then counts the end.
#[pin_project]
#[derive(Debug)]
pub struct MetricsFuture<F>(#[pin] pub(super) UntilEnd<F, Arc<Handles>>);

impl<F, T, E> Future for MetricsFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().0.poll(cx)
    }
}
