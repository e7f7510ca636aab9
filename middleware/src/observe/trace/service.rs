//! The service.

use super::{TraceFuture, layer::TraceSettings, open::Open};
use crate::connection::Connection;
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tower::{BoxError, Service};

/// Reports each connection that the inner service is called with.
///
/// It adds no failure, and its error is [`BoxError`] all the same: to tell the
/// [outcome](crate::outcome::Outcome::of) it looks for the types of failures behind the error, and
/// of an inner service's own type of error nothing is known but that it becomes a `BoxError`.
#[derive(Clone, Debug)]
pub struct Trace<S> {
    inner: S,
    settings: Arc<TraceSettings>,
}

impl<S> Trace<S> {
    pub(super) const fn new(inner: S, settings: Arc<TraceSettings>) -> Self {
        Self { inner, settings }
    }
}

impl<S, IO> Service<Connection<IO>> for Trace<S>
where
    S: Service<Connection<IO>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = TraceFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        match Open::new(connection.info(), &self.settings) {
            None => TraceFuture::new(self.inner.call(connection), None),
            Some(mut open) => {
                let inner = open.run(|| self.inner.call(connection));
                TraceFuture::new(inner, Some(open))
            }
        }
    }
}
