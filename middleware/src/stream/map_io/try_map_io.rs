//! Changes the IO by something that takes time and can fail.

use crate::{BoxError, Connection, when_ready::WhenReady};
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};
use tower::{Layer, Service};

/// Wraps the IO of each connection with the async `wrap`; short for [`TryMapIoLayer::new`].
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
    /// Wraps the IO of each connection with the async `wrap`, called once for each.
    ///
    /// Nothing bounds the time that it takes: a peer that says nothing holds the connection until
    /// a timeout of `wrap` itself or of a layer outside.
    pub fn new<In, Out, E, Fut>(wrap: F) -> Self
    where
        // Tells the compiler what the closure's argument is.
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

/// Calls `S` with connections whose IO went through `F`, where that succeeded.
///
/// It is always ready: it waits for `S` after `F`, so a peer that `F` waits for takes no permit of a limit
/// inside.
///
/// Fails with the error of `F` where it did not: the IO is dropped by then, and the guards of the
/// connection are released. One allocation per connection, for the future.
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
            // `wrapped` comes first, so that a drop at any time drops the IO before the guards.
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
