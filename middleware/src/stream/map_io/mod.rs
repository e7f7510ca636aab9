//! Wraps the stream of each connection.
//!
//! Implement `AsyncRead` and `AsyncWrite` for a type and pass its constructor to one of these layers. The info of
//! the connection, its extensions and its guards are kept.
//!
//! - [`map_io`] wraps with a closure and adds neither errors nor allocations.
//! - [`try_map_io`] wraps with an async closure that can fail, such as a handshake or a check of the first bytes.
//! - [`BoxIoLayer`] erases the type of the stream, for deep stacks.
//!
//! A closure that calls methods of the stream needs the type of its argument written out. A generic function,
//! like `magic` below, accepts any stream.
//!
//! # Position in the stack
//!
//! Anywhere inside of [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer). A wrapper outside of a TLS layer
//! processes ciphertext, one inside plaintext.
//!
//! # Errors and outcomes
//!
//! [`try_map_io`] fails with the error of its closure, inside a [`BoxError`](crate::BoxError). The other two add no
//! errors.
//!
//! # Cancellation and drop
//!
//! Dropping the future of [`try_map_io`] drops the future of the closure, then the stream and the guards of the
//! connection.
//!
//! # Limitations
//!
//! A wrapper should forward `poll_write_vectored`, `is_write_vectored`, `poll_flush` and `poll_shutdown`. The
//! default implementations of the first two silently disable vectored writes.
//!
//! # Performance
//!
//! [`map_io`] costs the closure. [`try_map_io`] allocates its future. [`BoxIoLayer`] allocates once per connection
//! and adds dynamic dispatch to each operation.
//!
//! # Example
//! ```
//! use portcullis_middleware::{BoxError, Connection, stream::{BoxIoLayer, map_io, try_map_io}};
//! use std::io;
//! use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufStream};
//! use tower::{Service, ServiceBuilder};
//!
//! /// Requires a magic number first.
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
//! ## Optional layers
//!
//! tower's [`option_layer`](tower::ServiceBuilder::option_layer) enables a layer by a flag. A
//! layer that wraps the stream, such as TLS or a timeout, changes the type that the inner service gets. Place
//! [`box_io`](crate::ServiceBuilderExt::box_io) right inside of the optional layers, so that both variants have
//! the same type. Their error types must be equal as well, so the service must fail with
//! [`BoxError`](crate::BoxError).
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

/// Wraps the stream of each connection with `wrap`; short for [`MapIoLayer::new`].
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
    /// Wraps the stream of each connection with `wrap`.
    pub fn new<In, Out>(wrap: F) -> Self
    where
        // Lets the compiler infer the closure's argument.
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

/// Calls `S` with connections whose stream is wrapped by `F`.
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
