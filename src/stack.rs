//! What a server can drive: a tower service for the streams of a listener.

use portcullis_middleware::BoxError;
use std::task::{Context, Poll};
use tower::Service;

/// A layered service that takes the bare streams of a listener.
///
/// Implemented for every `tower::Service<Io>` that can be cloned and sent between threads and whose
/// error converts into [`BoxError`]; there is nothing to implement by hand. It is cloned for each
/// connection, so what it shares belongs behind an `Arc`, as tower's own layers do.
#[diagnostic::on_unimplemented(
    message = "this stack cannot serve the `{Io}` that the listener yields",
    label = "not a `Service<{Io}> + Clone + Send + 'static` with `Error: Into<BoxError>` and a `Send` future",
    note = "a listener yields bare streams; what lies inside takes a `Connection`: begin the stack with `PeerAddrLayer`, as in `ServiceBuilder::new().layer(PeerAddrLayer::new())`"
)]
pub trait Stack<Io>: Clone + Send + 'static {
    /// What the service answers; it is dropped.
    type Response;
    /// How it fails.
    type Error: Into<BoxError>;
    /// One connection being served.
    type Future: Future<Output = Result<Self::Response, Self::Error>> + Send + 'static;

    /// [`Service::poll_ready`].
    ///
    /// # Errors
    ///
    /// As the service.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>>;

    /// [`Service::call`].
    fn call(&mut self, io: Io) -> Self::Future;
}

impl<S, Io> Stack<Io> for S
where
    S: Service<Io, Error: Into<BoxError>, Future: Send + 'static> + Clone + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Service::poll_ready(self, cx)
    }

    fn call(&mut self, io: Io) -> S::Future {
        Service::call(self, io)
    }
}
