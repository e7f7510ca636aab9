//! Methods of [`ServiceBuilder`] for the layers with defaults.
//!
//! ```
//! use portcullis_middleware::{Connection, ServiceBuilderExt};
//! use tokio::io::AsyncWriteExt;
//! use tower::ServiceBuilder;
//!
//! let stack = ServiceBuilder::new()
//!     .peer_addr()
//!     .connection_limit(1000)
//!     .io_timeout()
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         connection.write_all(b"hello").await?;
//!         connection.close().await
//!     });
//! # fn serves<S: tower::Service<tokio::net::TcpStream>>(_: S) {}
//! # serves(stack);
//! ```

use crate::{
    BoxError, Connection,
    handler::{CatchPanicLayer, FromFnLayer, Next, OnErrorLayer, from_fn},
    limit::ConnectionLimitLayer,
    observe::{ByteCounter, CountBytesLayer, TraceLayer},
    peer_addr::PeerAddrLayer,
    stream::{BoxIoLayer, MapIoLayer, TryMapIoLayer, WriteBufferLayer},
    timeout::{HalfClosedTimeoutLayer, IoTimeoutLayer},
};
use tower::{ServiceBuilder, layer::util::Stack};

/// Adds portcullis' layers to [`ServiceBuilder`], with their default settings.
///
/// Add layers with other settings, and those without defaults (TLS, PROXY protocol, charsets), with
/// [`ServiceBuilder::layer`].
pub trait ServiceBuilderExt<L>: sealed::Sealed + Sized {
    /// Wraps raw streams in connections; see [`peer_addr`](crate::peer_addr).
    fn peer_addr(self) -> ServiceBuilder<Stack<PeerAddrLayer, L>>;

    /// Serves at most `limit` connections concurrently; the others wait in the kernel's accept queue.
    ///
    /// See [`connection_limit`](crate::limit::connection_limit).
    fn connection_limit(self, limit: usize) -> ServiceBuilder<Stack<ConnectionLimitLayer, L>>;

    /// Limits each read and each write to 60 seconds; see [`io_timeout`](crate::timeout::io_timeout).
    fn io_timeout(self) -> ServiceBuilder<Stack<IoTimeoutLayer, L>>;

    /// Ends half-closed connections after 60 seconds of silence; see [`half_closed`](crate::timeout::half_closed).
    fn half_closed_timeout(self) -> ServiceBuilder<Stack<HalfClosedTimeoutLayer, L>>;

    /// Buffers up to 8 KiB of small writes; see [`write_buffer`](mod@crate::stream::write_buffer).
    fn write_buffer(self) -> ServiceBuilder<Stack<WriteBufferLayer, L>>;

    /// Passes errors, and connections that are still open, to `handler`; see
    /// [`on_error`](crate::handler::on_error).
    fn on_error<H, IO, R, Fut>(self, handler: H) -> ServiceBuilder<Stack<OnErrorLayer<H>, L>>
    where
        H: Fn(BoxError, Option<Connection<IO>>) -> Fut,
        Fut: Future<Output = Result<R, BoxError>>;

    /// Turns panics into errors; see [`catch_panic`](crate::handler::catch_panic).
    #[doc(alias = "catch_panic")]
    fn catch_panics(self) -> ServiceBuilder<Stack<CatchPanicLayer, L>>;

    /// Traces the opening and closing of each connection under `name`; see
    /// [`trace`](crate::observe::trace).
    fn trace_connections(self, name: impl Into<String>) -> ServiceBuilder<Stack<TraceLayer, L>>;

    /// Counts the bytes of connections at this position; see
    /// [`count_bytes`](crate::observe::count_bytes).
    fn count_bytes(self, counter: ByteCounter) -> ServiceBuilder<Stack<CountBytesLayer, L>>;

    /// Adds middleware from an async function; see [`from_fn`](mod@crate::handler::from_fn).
    #[doc(alias = "from_fn")]
    fn connection_fn<F, In, Out, R, Fut>(
        self,
        function: F,
    ) -> ServiceBuilder<Stack<FromFnLayer<F, In, Out>, L>>
    where
        F: Fn(Connection<In>, Next<Out, R>) -> Fut,
        Fut: Future<Output = Result<R, BoxError>>;

    /// Wraps the stream of each connection; see [`map_io`](mod@crate::stream::map_io).
    fn map_io<F, In, Out>(self, wrap: F) -> ServiceBuilder<Stack<MapIoLayer<F>, L>>
    where
        F: Fn(In) -> Out;

    /// Wraps the stream of each connection asynchronously; see [`map_io`](mod@crate::stream::map_io).
    fn try_map_io<F, In, Out, E, Fut>(self, wrap: F) -> ServiceBuilder<Stack<TryMapIoLayer<F>, L>>
    where
        F: Fn(In) -> Fut,
        Fut: Future<Output = Result<Out, E>>;

    /// Erases the type of the stream; see [`map_io`](mod@crate::stream::map_io).
    fn box_io(self) -> ServiceBuilder<Stack<BoxIoLayer, L>>;
}

impl<L> ServiceBuilderExt<L> for ServiceBuilder<L> {
    fn peer_addr(self) -> ServiceBuilder<Stack<PeerAddrLayer, L>> {
        self.layer(PeerAddrLayer::new())
    }

    fn connection_limit(self, limit: usize) -> ServiceBuilder<Stack<ConnectionLimitLayer, L>> {
        self.layer(ConnectionLimitLayer::new(limit))
    }

    fn io_timeout(self) -> ServiceBuilder<Stack<IoTimeoutLayer, L>> {
        self.layer(IoTimeoutLayer::new())
    }

    fn half_closed_timeout(self) -> ServiceBuilder<Stack<HalfClosedTimeoutLayer, L>> {
        self.layer(HalfClosedTimeoutLayer::new())
    }

    fn write_buffer(self) -> ServiceBuilder<Stack<WriteBufferLayer, L>> {
        self.layer(WriteBufferLayer::default())
    }

    fn on_error<H, IO, R, Fut>(self, handler: H) -> ServiceBuilder<Stack<OnErrorLayer<H>, L>>
    where
        H: Fn(BoxError, Option<Connection<IO>>) -> Fut,
        Fut: Future<Output = Result<R, BoxError>>,
    {
        self.layer(OnErrorLayer::new(handler))
    }

    fn catch_panics(self) -> ServiceBuilder<Stack<CatchPanicLayer, L>> {
        self.layer(CatchPanicLayer::new())
    }

    fn trace_connections(self, name: impl Into<String>) -> ServiceBuilder<Stack<TraceLayer, L>> {
        self.layer(TraceLayer::new().with_name(name))
    }

    fn count_bytes(self, counter: ByteCounter) -> ServiceBuilder<Stack<CountBytesLayer, L>> {
        self.layer(CountBytesLayer::new(counter))
    }

    fn connection_fn<F, In, Out, R, Fut>(
        self,
        function: F,
    ) -> ServiceBuilder<Stack<FromFnLayer<F, In, Out>, L>>
    where
        F: Fn(Connection<In>, Next<Out, R>) -> Fut,
        Fut: Future<Output = Result<R, BoxError>>,
    {
        self.layer(from_fn(function))
    }

    fn map_io<F, In, Out>(self, wrap: F) -> ServiceBuilder<Stack<MapIoLayer<F>, L>>
    where
        F: Fn(In) -> Out,
    {
        self.layer(MapIoLayer::new(wrap))
    }

    fn try_map_io<F, In, Out, E, Fut>(self, wrap: F) -> ServiceBuilder<Stack<TryMapIoLayer<F>, L>>
    where
        F: Fn(In) -> Fut,
        Fut: Future<Output = Result<Out, E>>,
    {
        self.layer(TryMapIoLayer::new(wrap))
    }

    fn box_io(self) -> ServiceBuilder<Stack<BoxIoLayer, L>> {
        self.layer(BoxIoLayer::new())
    }
}

mod sealed {
    #[expect(unnameable_types, reason = "it seals the trait")]
    pub trait Sealed {}

    impl<L> Sealed for tower::ServiceBuilder<L> {}
}
