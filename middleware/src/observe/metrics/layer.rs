//! The layer and its service.

use super::{MetricsFuture, handles::Handles};
use crate::{
    connection::{Connection, ConnectionInfo},
    observe::until_end::UntilEnd,
    outcome::Outcome,
};
use std::{
    error::Error,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower::{BoxError, Layer, Service};

/// Layer for [`Metrics`]; see the [module docs](super).
#[derive(Clone, Debug)]
pub struct MetricsLayer {
    pub(super) handles: Arc<Handles>,
}

impl MetricsLayer {
    /// Registers the metrics of the listener `listener` with the installed recorder.
    ///
    /// Layers with the same name add to the same metrics. Without a recorder, nothing is counted.
    pub fn new(listener: impl Into<String>) -> Self {
        let handles = Arc::new(Handles::new(listener.into()));
        Self { handles }
    }

    /// Counts a connection that opens, from a callback in place of the layer.
    ///
    /// A stack whose trace has callbacks anyway saves the layer's future: see the [module docs](super#without-the-layer).
    pub fn count_opened(&self) {
        self.handles.opened();
    }

    /// Counts the end of a connection that [`count_opened`](Self::count_opened) has counted.
    pub fn count_closed(
        &self,
        info: &ConnectionInfo,
        duration: Duration,
        outcome: Outcome,
        error: Option<&(dyn Error + 'static)>,
    ) {
        self.handles.ended_after(duration, info, outcome, error);
        self.handles.left();
    }
}

impl<S> Layer<S> for MetricsLayer {
    type Service = Metrics<S>;

    fn layer(&self, inner: S) -> Metrics<S> {
        let handles = self.handles.clone();
        Metrics { inner, handles }
    }
}

/// Counts each connection that the inner service is called with.
///
/// This layer never fails on its own. Its error type is still [`BoxError`], because it determines the
/// [outcome](crate::outcome::Outcome::of) by downcasting the error and its sources.
#[derive(Clone, Debug)]
pub struct Metrics<S> {
    inner: S,
    handles: Arc<Handles>,
}

impl<S, IO> Service<Connection<IO>> for Metrics<S>
where
    S: Service<Connection<IO>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = MetricsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut connection: Connection<IO>) -> Self::Future {
        connection.hold_slot(self.handles.open());
        let (info, handles) = (connection.info().clone(), self.handles.clone());
        MetricsFuture(UntilEnd::call(info, handles, || {
            self.inner.call(connection)
        }))
    }
}
