//! Changes the IO of each connection.
//!
//! The way to a layer that wraps the bytes: write a type with `AsyncRead` and `AsyncWrite`, and name
//! its constructor here. What is known of the connection, its extensions and its guards go along by
//! themselves. Three layers:
//!
//! - [`map_io`] wraps with a closure, adds no error and no allocation;
//! - [`try_map_io`] wraps with an async closure that can fail, such as a handshake, or a look at the
//!   first bytes;
//! - [`BoxIoLayer`] erases the type, where a stack gets deep.
//!
//! They stand anywhere inside [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer); a wrapper outside a
//! TLS layer sees ciphertext, one inside plaintext. A wrapper should forward `poll_write_vectored`,
//! `is_write_vectored`, `poll_flush` and `poll_shutdown`: the defaults of the first two lose vectored
//! writes in silence.
//!
//! ```
//! use portcullis_middleware::{BoxError, Connection, stream::{BoxIoLayer, map_io, try_map_io}};
//! use std::io;
//! use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufStream};
//! use tower::{Service, ServiceBuilder};
//!
//! /// Wants a magic number before anything else is said.
//! async fn magic<IO: AsyncRead + Unpin>(mut io: IO) -> io::Result<IO> {
//!     match io.read_u16().await? {
//!         0xCAFE => Ok(io),
//!         _ => Err(io::ErrorKind::InvalidData.into()),
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let mut stack = ServiceBuilder::new()
//!     .layer(map_io(BufStream::new))
//!     .layer(try_map_io(magic))
//!     .layer(BoxIoLayer::new())
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         connection.write_all(b"hello").await?;
//!         connection.close().await
//!     });
//!
//! let (ours, mut client) = tokio::io::duplex(64);
//! client.write_u16(0xBABE).await?;
//! let error = stack.call(Connection::accept(ours)).await.unwrap_err();
//! assert_eq!(error.downcast::<io::Error>()?.kind(), io::ErrorKind::InvalidData);
//! # Ok(())
//! # }
//! ```
//!
//! # Optional layers
//!
//! tower's [`option_layer`](tower::ServiceBuilder::option_layer) adds a layer that a flag turns on. A
//! layer that wraps the stream, such as TLS or a timeout, makes the inner service see another type with it
//! than without it. [`box_io`](crate::ServiceBuilderExt::box_io) right inside the optional layers gives
//! both the same type, for one allocation per connection and dynamic dispatch for each operation. The
//! service must fail with [`BoxError`](crate::BoxError), because both variants need the same error, too.
//!
//! ```
//! use portcullis_middleware::{
//!     BoxError, Connection, ServiceBuilderExt, stream::WriteBufferLayer,
//!     limit::ConnectionLimitLayer, timeout::io_timeout::IoTimeoutLayer,
//! };
//! use std::time::Duration;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! // From the command line, for example.
//! let (max, read_timeout, buffer) = (Some(1000), Some(Duration::from_secs(30)), None);
//!
//! let stack = ServiceBuilder::new()
//!     .option_layer(max.map(ConnectionLimitLayer::new)) // does not wrap the stream
//!     .option_layer(read_timeout.map(|limit| IoTimeoutLayer::new().with_read_timeout(limit)))
//!     .option_layer(buffer.map(WriteBufferLayer::new))
//!     .box_io()
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         connection.write_all(b"hello").await?;
//!         connection.close().await?;
//!         Ok::<_, BoxError>(())
//!     });
//!
//! let (ours, mut client) = tokio::io::duplex(64);
//! let serve = stack.oneshot(Connection::accept(ours));
//! let mut received = String::new();
//! let receive = async { Ok(client.read_to_string(&mut received).await?) };
//! tokio::try_join!(serve, receive)?;
//! assert_eq!(received, "hello");
//! # Ok(())
//! # }
//! ```
//!
//! # Types of closures
//!
//! A closure that calls methods of the IO itself needs its type written out; a generic function, like
//! `magic`, takes whatever the stack has there.

mod box_io;
#[cfg(test)]
mod tests;
mod try_map_io;

pub use self::{
    box_io::{BoxIoLayer, BoxIoService},
    try_map_io::{TryMapIo, TryMapIoLayer, try_map_io},
};

use crate::Connection;
use std::{
    fmt,
    task::{Context, Poll},
};
use tower::{Layer, Service};

/// Wraps the IO of each connection with `wrap`; short for [`MapIoLayer::new`].
pub fn map_io<F, In, Out>(wrap: F) -> MapIoLayer<F>
where
    F: Fn(In) -> Out,
{
    MapIoLayer::new(wrap)
}

/// Layer for [`MapIo`]; see the [module docs](self).
#[derive(Clone, Copy)]
pub struct MapIoLayer<F> {
    wrap: F,
}

impl<F> MapIoLayer<F> {
    /// Wraps the IO of each connection with `wrap`, called once for each.
    pub fn new<In, Out>(wrap: F) -> Self
    where
        // Tells the compiler what the closure's argument is.
        F: Fn(In) -> Out,
    {
        Self { wrap }
    }
}

impl<F: Clone, S> Layer<S> for MapIoLayer<F> {
    type Service = MapIo<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        let wrap = self.wrap.clone();
        MapIo { inner, wrap }
    }
}

impl<F> fmt::Debug for MapIoLayer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapIoLayer").finish_non_exhaustive()
    }
}

/// Calls `S` with connections whose IO went through `F`.
#[derive(Clone, Copy)]
pub struct MapIo<S, F> {
    inner: S,
    wrap: F,
}

impl<S, F, In, Out> Service<Connection<In>> for MapIo<S, F>
where
    S: Service<Connection<Out>>,
    F: Fn(In) -> Out,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, connection: Connection<In>) -> S::Future {
        self.inner.call(connection.map_io(&self.wrap))
    }
}

impl<S: fmt::Debug, F> fmt::Debug for MapIo<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapIo")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
