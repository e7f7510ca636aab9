use super::Refusing;
use crate::BoxError;
use pin_project::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Future of a guard: that of the inner service, or the rejection.
///
/// # Cancel safety
///
/// Dropping the future drops the connection, unless the inner service moved it to another task.
#[pin_project]
pub struct GuardFuture<F>(#[pin] State<F>);

#[pin_project(project = StateProjection)]
enum State<F> {
    Served(#[pin] F),
    Refusing(Refusing),
}

impl<F> GuardFuture<F> {
    pub(super) const fn served(future: F) -> Self {
        Self(State::Served(future))
    }

    pub(super) const fn refusing(refusing: Refusing) -> Self {
        Self(State::Refusing(refusing))
    }
}

impl<F, T, E> Future for GuardFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().0.project() {
            StateProjection::Served(future) => future.poll(cx).map_err(Into::into),
            StateProjection::Refusing(refusing) => {
                let refused = ready!(Pin::new(refusing).poll(cx));
                Poll::Ready(Err(refused.into()))
            }
        }
    }
}

impl<F> fmt::Debug for GuardFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.0 {
            State::Served(_) => "Served",
            State::Refusing(_) => "Refusing",
        };
        f.debug_tuple("GuardFuture")
            .field(&format_args!("{state}"))
            .finish()
    }
}
