//! The tower services that a server can drive.

use portcullis_middleware::BoxError;
use tower::Service;

/// A layered service that takes the bare streams of a listener.
///
/// This is a trait alias. Every `tower::Service<Io>` implements it that can be cloned and sent between threads,
/// whose error converts into [`BoxError`], and whose future is [`Send`]. The service is cloned for each
/// connection, so put shared state behind an `Arc`, as tower's own layers do.
#[diagnostic::on_unimplemented(
    message = "this stack cannot serve the `{Io}` that the listener yields",
    label = "not a `Service<{Io}> + Clone + Send + 'static` with `Error: Into<BoxError>` and a `Send` future",
    note = "a listener yields bare streams; the services inside take a `Connection`: begin the stack with `PeerAddrLayer`, as in `ServiceBuilder::new().layer(PeerAddrLayer::new())`"
)]
pub trait Stack<Io>:
    Service<Io, Error: Into<BoxError>, Future: Send + 'static> + Clone + Send + 'static
{
}

impl<S, Io> Stack<Io> for S where
    S: Service<Io, Error: Into<BoxError>, Future: Send + 'static> + Clone + Send + 'static
{
}
