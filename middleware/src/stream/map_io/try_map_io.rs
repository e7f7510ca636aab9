//! Wraps the stream asynchronously.

use crate::{BoxError, Connection, when_ready::WhenReady};
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};
use tower::{Layer, Service};

/// Wraps the stream of each connection with the async `wrap`; short for [`TryMapIoLayer::new`].
pub fn try_map_io<F, In, Out, E, Fut>(wrap: F) -> TryMapIoLayer<F>
where
    F: Fn(In) -> Fut,
    Fut: Future<Output = Result<Out, E>>,
{
    TryMapIoLayer::new(wrap)
}

/// Layer for [`TryMapIo`]; see the [module docs](super).
#[derive(Clone, Copy)]
pub struct TryMapIoLayer<F> {
    wrap: F,
}

impl<F> TryMapIoLayer<F> {
    /// Wraps the stream of each connection with the async `wrap`.
    ///
    /// It has no timeout, so set one in `wrap` or in a layer outside.
    pub fn new<In, Out, E, Fut>(wrap: F) -> Self
    where
        // Lets the compiler infer the closure's argument.
        F: Fn(In) -> Fut,
        Fut: Future<Output = Result<Out, E>>,
    {
        Self { wrap }
    }
}

impl<F: Clone, S> Layer<S> for TryMapIoLayer<F> {
    type Service = TryMapIo<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        let wrap = self.wrap.clone();
        TryMapIo { inner, wrap }
    }
}

impl<F> fmt::Debug for TryMapIoLayer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryMapIoLayer").finish_non_exhaustive()
    }
}

/// Calls `S` with connections whose stream is wrapped by `F`.
///
/// It is always ready and waits for `S` after `F`, so a connection takes a permit of a limit inside only when
/// `F` is done.
///
/// If `F` fails, the service fails with the same error. By then the stream is dropped and the guards of the
/// connection are released.
#[derive(Clone, Copy)]
pub struct TryMapIo<S, F> {
    inner: S,
    wrap: F,
}

impl<S, F, In, Out, E, Fut> Service<Connection<In>> for TryMapIo<S, F>
where
    S: Service<Connection<Out>, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    F: Fn(In) -> Fut,
    Fut: Future<Output = Result<Out, E>> + Send + 'static,
    Out: Send + 'static,
    E: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, connection: Connection<In>) -> Self::Future {
        let inner = self.inner.clone();
        let (io, rest) = connection.into_parts();
        let wrapped = (self.wrap)(io);
        Box::pin(async move {
            // `wrapped` comes first, so that a drop at any time drops the stream before the guards.
            let io = wrapped.await.map_err(Into::into)?;
            WhenReady::new(inner, rest.with_io(io)).await
        })
    }
}

impl<S: fmt::Debug, F> fmt::Debug for TryMapIo<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryMapIo")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
