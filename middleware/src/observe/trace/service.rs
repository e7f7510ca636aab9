//! The service.

use super::{TraceFuture, layer::TraceSettings, open::Open};
use crate::connection::Connection;
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tower::{BoxError, Service};

/// Traces each connection that the inner service is called with.
///
/// This layer never fails on its own. Its error type is still [`BoxError`], because it determines the
/// [outcome](crate::outcome::Outcome::of) by downcasting the error and its sources.
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
