//! Middleware from an async function.
//!
//! A closure gets each connection and [`Next`], the rest of the stack. The code before [`Next::run`] runs before
//! the application gets the connection, and the code after it runs when the application is done. The closure may
//!
//! - inspect the connection, read and write, or store a value in its
//!   [extensions](Connection::extensions_mut) for the services inside,
//! - wrap the stream and pass on a connection of another type,
//! - skip the rest of the stack and answer, close or fail,
//! - inspect the result and replace it.
//!
//! # Position in the stack
//!
//! Anywhere inside of [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer).
//!
//! # Errors and outcomes
//!
//! The layer adds no errors. Errors of the inner service keep their type, inside a [`BoxError`]. Panics of the
//! closure propagate.
//!
//! # Cancellation and drop
//!
//! Dropping the future drops the connection, wherever in the stack it is.
//!
//! # Limitations
//!
//! A connection that was passed on does not return to the closure; use
//! [`OnErrorLayer`](crate::handler::OnErrorLayer) for that. To wrap only the stream,
//! [`map_io`](fn@crate::stream::map_io) is shorter. Write a `Layer` and a `Service` to decide in `poll_ready`, to
//! keep the error type, or to save the allocations.
//!
//! # Performance
//!
//! Two allocations per connection that is passed on, one for [`Next`] and one for its future.
//!
//! # Example
//! ```
//! use portcullis_middleware::{BoxError, Connection, handler::from_fn};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let mut stack = ServiceBuilder::new()
//!     // A greeting, before the application runs.
//!     .layer(from_fn(|mut connection, next| async move {
//!         connection.write_all(b"220 ready\r\n").await?;
//!         next.run(connection).await
//!     }))
//!     // Buffers, which change the type of the stream.
//!     .layer(from_fn(|connection, next| async move {
//!         next.run(connection.map_io(tokio::io::BufStream::new)).await
//!     }))
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         connection.write_all(b"bye\r\n").await?;
//!         connection.close().await
//!     });
//!
//! let (ours, mut client) = tokio::io::duplex(64);
//! let (served, received) = tokio::join!(stack.call(Connection::accept(ours)), async {
//!     let mut received = String::new();
//!     client.read_to_string(&mut received).await?;
//!     client.shutdown().await.map(|()| received)
//! });
//!
//! served?;
//! assert_eq!(received?, "220 ready\r\nbye\r\n");
//! # Ok(())
//! # }
//! ```
//!
//! An access check that answers rejected clients and skips the rest of the stack:
//!
//! ```
//! use portcullis_middleware::handler::from_fn;
//! use tokio::io::AsyncWriteExt;
//! # use {portcullis_middleware::Connection, tower::{Service, ServiceBuilder}};
//!
//! let local_only = from_fn(|mut connection, next| async move {
//!     if connection.peer_addr().is_some_and(|peer| !peer.ip().is_loopback()) {
//!         connection.write_all(b"not from there\n").await?;
//!         connection.close().await?;
//!         return Ok(());
//!     }
//!     next.run(connection).await
//! });
//! # let stack = ServiceBuilder::new().layer(local_only)
//! #     .service_fn(|_: Connection<_>| async { std::io::Result::Ok(()) });
//! # fn is_stack(_: impl Service<Connection<tokio::io::DuplexStream>>) {}
//! # is_stack(stack);
//! ```

use crate::{BoxError, Connection, when_ready::WhenReady};
use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};
use tower::{Layer, Service};

/// Makes a layer from an async function; see the [module docs](self).
///
/// The function is called once for each connection, and connections run concurrently. Keep shared state in an
/// `Arc` and clone it per connection. In a stack that ends in a service, types are inferred.
pub fn from_fn<F, In, Out, R, Fut>(function: F) -> FromFnLayer<F, In, Out>
where
    // Lets the compiler infer the closure's arguments.
    F: Fn(Connection<In>, Next<Out, R>) -> Fut,
    Fut: Future<Output = Result<R, BoxError>>,
{
    let types = PhantomData;
    FromFnLayer { function, types }
}

/// Layer for [`FromFn`], made by [`from_fn`].
///
/// `In` is the stream of the connections that the function gets, `Out` of those that it passes on.
pub struct FromFnLayer<F, In, Out> {
    function: F,
    types: PhantomData<fn(In) -> Out>,
}

impl<F: Clone, In, Out, S> Layer<S> for FromFnLayer<F, In, Out> {
    type Service = FromFn<F, In, Out, S>;

    fn layer(&self, inner: S) -> Self::Service {
        let layer = self.clone();
        FromFn { layer, inner }
    }
}

impl<F: Clone, In, Out> Clone for FromFnLayer<F, In, Out> {
    fn clone(&self) -> Self {
        Self {
            function: self.function.clone(),
            types: PhantomData,
        }
    }
}

impl<F, In, Out> fmt::Debug for FromFnLayer<F, In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFnLayer").finish_non_exhaustive()
    }
}

/// Calls the function with each connection and the inner service.
///
/// It is always ready, because [`Next::run`] waits for the inner service. A connection takes a permit of a
/// limit inside only after that, whatever the function waits for before.
pub struct FromFn<F, In, Out, S> {
    layer: FromFnLayer<F, In, Out>,
    inner: S,
}

impl<F, In, Out, S, Fut> Service<Connection<In>> for FromFn<F, In, Out, S>
where
    F: Fn(Connection<In>, Next<Out, S::Response>) -> Fut,
    Fut: Future<Output = Result<S::Response, BoxError>>,
    S: Service<Connection<Out>, Error: Into<BoxError>, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
    Out: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Fut;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, connection: Connection<In>) -> Fut {
        let inner = self.inner.clone();
        let next = Next::new(move |connection| WhenReady::new(inner, connection));
        (self.layer.function)(connection, next)
    }
}

impl<F: Clone, In, Out, S: Clone> Clone for FromFn<F, In, Out, S> {
    fn clone(&self) -> Self {
        Self {
            layer: self.layer.clone(),
            inner: self.inner.clone(),
        }
    }
}

impl<F, In, Out, S: fmt::Debug> fmt::Debug for FromFn<F, In, Out, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// The rest of the stack, for one connection.
///
/// It takes a [`Connection<IO>`](Connection) and returns `R`, which is `()` in a whole stack.
pub struct Next<IO, R = ()>(Box<RunNext<IO, R>>);

type RunNext<IO, R> = dyn FnOnce(Connection<IO>) -> NextFuture<R> + Send;
type NextFuture<R> = Pin<Box<dyn Future<Output = Result<R, BoxError>> + Send>>;

impl<IO, R> Next<IO, R> {
    pub(crate) fn new<Fut>(run: impl FnOnce(Connection<IO>) -> Fut + Send + 'static) -> Self
    where
        Fut: Future<Output = Result<R, BoxError>> + Send + 'static,
    {
        Self(Box::new(move |connection| Box::pin(run(connection))))
    }

    /// Waits until the inner service is ready, passes `connection` on, and waits for the result.
    ///
    /// # Errors
    ///
    /// The error of the inner service, of which the type is kept for a downcast or
    /// [`find`](crate::error::find). While it waits for readiness, it fails with
    /// [`ForcedClose`](crate::connection::ForcedClose) if the connection is closed from outside, and with an
    /// I/O error if the client disconnects.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection and the future of the inner service.
    pub async fn run(self, connection: Connection<IO>) -> Result<R, BoxError> {
        (self.0)(connection).await
    }
}

impl<IO, R> fmt::Debug for Next<IO, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Refused;
    use std::{io, sync::Arc};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream, DuplexStream, duplex};
    use tokio_test::{assert_pending, assert_ready, task};
    use tower::{ServiceBuilder, ServiceExt};

    type Io = crate::connection::Socket<DuplexStream>;

    fn in_memory() -> (Connection<Io>, DuplexStream) {
        let (ours, theirs) = duplex(64);
        (Connection::accept(ours), theirs)
    }

    #[tokio::test]
    async fn the_io_may_change_on_the_way_and_nothing_needs_a_type() {
        let stack = ServiceBuilder::new()
            .layer(from_fn(|conn, next| async move { next.run(conn).await }))
            .layer(from_fn(|conn, next| async move {
                next.run(conn.map_io(BufStream::new)).await
            }))
            .service_fn(|mut conn: Connection<_>| async move {
                let _: &BufStream<Io> = conn.get_ref();
                conn.write_all(b"hi").await?;
                conn.flush().await?;
                io::Result::Ok(conn.id())
            });
        let (connection, mut theirs) = in_memory();
        let id = connection.id();
        assert_eq!(stack.oneshot(connection).await.unwrap(), id);
        let mut received = String::new();
        theirs.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "hi");
    }

    #[tokio::test]
    async fn the_rest_need_not_run() {
        let (inner, mut handle) = tower_test::mock::pair::<Connection<Io>, ()>();
        handle.allow(1);
        let stack = ServiceBuilder::new()
            .layer(from_fn(|_, _next: Next<Io>| async {
                Err(Refused::new("test", "told to").into())
            }))
            .service(inner);
        let (connection, _theirs) = in_memory();
        let error = stack.oneshot(connection).await.unwrap_err();
        assert!(error.is::<Refused>());
        assert!(handle.next_request().await.is_none());
    }

    #[tokio::test]
    async fn the_error_within_keeps_its_type_and_may_be_replaced() {
        let fail =
            |_: Connection<Io>| async { Err::<u8, _>(io::Error::from(io::ErrorKind::Other)) };
        let kept = from_fn(|conn, next| async move { next.run(conn).await });
        let stack = ServiceBuilder::new().layer(kept).service_fn(fail);
        let error = stack.oneshot(in_memory().0).await.unwrap_err();
        assert!(error.is::<io::Error>());

        let replaced = from_fn(|conn, next| async move { next.run(conn).await.or(Ok(7)) });
        let stack = ServiceBuilder::new().layer(replaced).service_fn(fail);
        assert_eq!(stack.oneshot(in_memory().0).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn the_rest_becomes_ready_when_it_is_to_run_and_not_before() {
        let (inner, mut handle) = tower_test::mock::pair::<Connection<Io>, ()>();
        let layer = from_fn(|conn, next| async move {
            tokio::task::yield_now().await;
            next.run(conn).await
        });
        let mut service = task::spawn(layer.layer(inner));
        let mut poll_ready = || service.enter(|cx, mut service| service.poll_ready(cx));
        handle.allow(0);
        assert_ready!(poll_ready()).unwrap();
        let mut served = task::spawn(service.call(in_memory().0));
        assert_pending!(served.poll());
        assert_pending!(served.poll());
        handle.allow(1);
        assert!(served.is_woken());
        assert_pending!(served.poll()); // the mock panics when it is called without being ready
        let (_connection, answer) = handle.next_request().await.unwrap();
        answer.send_response(());
        assert_ready!(served.poll()).unwrap();
    }

    #[test]
    fn dropping_the_future_drops_the_connection() {
        let mut stack = ServiceBuilder::new()
            .layer(from_fn(|conn, next| async move { next.run(conn).await }))
            .service_fn(|mut conn: Connection<Io>| async move { conn.read_u8().await });
        let (mut connection, mut theirs) = in_memory();
        let guard = Arc::new(());
        connection.hold(guard.clone());
        let mut future = task::spawn(stack.call(connection));
        assert_pending!(future.poll());
        drop(future);
        assert_eq!(Arc::strong_count(&guard), 1);
        assert!(assert_ready!(task::spawn(theirs.read_u8()).poll()).is_err());
    }

    #[test]
    fn a_stack_is_send_and_can_be_cloned_and_printed() {
        fn check(_: &(impl Clone + fmt::Debug + Send + 'static)) {}
        let layer =
            from_fn(|conn: Connection<Io>, next: Next<Io>| async move { next.run(conn).await });
        check(&layer);
        let (inner, _handle) = tower_test::mock::pair::<Connection<Io>, ()>();
        let mut stack = layer.layer(inner.map_err(|error| error));
        fn send(_: impl Send) {}
        send(stack.call(in_memory().0));
        assert!(format!("{:?}", layer.layer(1)).contains("inner: 1"));
    }
}
