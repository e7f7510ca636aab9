//! The gate in front of a tower: everything that happens to a connection before an application sees
//! it.
//!
//! Each accepted connection becomes one call of a [`tower::Service`]`<TcpStream>`. Layers give it a
//! limit, timeouts, TLS, its peer's address, error handling, a trace; a small accept loop drives the
//! stack and shuts it down gracefully.
//!
//! ```no_run
//! use portcullis::{BoxError, Connection, Server, ServiceBuilderExt, listener::TcpListener};
//! use tokio::io::AsyncWriteExt;
//! use tower::ServiceBuilder;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), BoxError> {
//!     let stack = ServiceBuilder::new()
//!         .peer_addr()
//!         .connection_limit(1000)
//!         .io_timeout()
//!         .service_fn(|mut connection: Connection<_>| async move {
//!             connection.write_all(b"Hello!\n").await?;
//!             connection.close().await
//!         });
//!     let listener = TcpListener::bind("127.0.0.1:4242")?;
//!     Server::new().listen(listener, stack).stop_on_signals().run().await?;
//!     Ok(())
//! }
//! ```
//!
//! # Where to look
//!
//! * [`middleware`]: the layers, and the [`Connection`] that they speak. A program with an accept loop
//!   of its own uses them without the rest.
//! * [`listener`]: where connections come from, and the options of sockets.
//! * [`server`]: puts listeners and stacks together, runs them, and ends them.
//! * [`service`]: where stacks end: your own, `HttpService` (feature `http`), a stream of connections.
//! * `axum`, `tonic` (features): what handlers there may ask of a connection, and stacks under their servers.
//! * [`connect`]: the client side of the same idea; with the feature `http-client` under hyper's client.
//! * [`listener::accept_error`]: what follows on failures of accept.
//! * [Write a layer in twenty lines](middleware::guide): a chapter on custom middleware. With the
//!   feature `testing`, the module `testing` has what its tests need.
//!
//! # The order of layers
//!
//! The first layer added is the outermost: it sees a connection first. From the outside in:
//!
//! 1. [`PeerAddrLayer`](middleware::peer_addr) turns the stream into a [`Connection`]; outside of it
//!    belongs only what does not look at the request (tower's limits, `MapErr`).
//! 2. [`TraceLayer`](middleware::observe::trace), so that it sees all that follows.
//! 3. [`ConnectionLimitLayer`](middleware::limit::connection_limit), before anything costs something.
//! 4. `ProxyProtocolLayer` (feature `proxy-protocol`), before anything looks at bytes or asks for the
//!    client's address.
//! 5. `TlsLayer` (feature `tls`).
//! 6. [`IoTimeoutLayer`](middleware::timeout::io_timeout): inside TLS it bounds what the handler waits for,
//!    outside what the wire does.
//!    For forwarding, [`HalfClosedTimeoutLayer`](middleware::timeout::half_closed) goes next to it.
//! 7. [`OnErrorLayer`](middleware::handler::on_error), inside TLS so that what it says is encrypted.
//! 8. Your own, and the service: `HttpService` (feature `http`) for axum, tonic and hyper.
//!
//! # Optional layers
//!
//! A layer that a flag or a configuration file turns on is added with
//! [`option_layer`](tower::ServiceBuilder::option_layer). If it wraps the stream, as TLS and timeouts do,
//! [`box_io`](ServiceBuilderExt::box_io) goes right inside of it, so that the rest of the stack sees one
//! type; see [`map_io`](mod@middleware::stream::map_io).
//!
#![cfg_attr(feature = "tls", doc = "```no_run")]
#![cfg_attr(not(feature = "tls"), doc = "```ignore")]
//! use portcullis::{
//!     BoxError, Connection, Server, ServiceBuilderExt,
//!     listener::TcpListener, middleware::tls::TlsLayer,
//! };
//! use tokio::io::AsyncWriteExt;
//! use tower::ServiceBuilder;
//!
//! async fn serve(tls: Option<TlsLayer>) -> Result<(), BoxError> {
//!     let stack = ServiceBuilder::new()
//!         .peer_addr()
//!         .connection_limit(1000)
//!         .option_layer(tls)
//!         .box_io()
//!         .service_fn(|mut connection: Connection<_>| async move {
//!             connection.write_all(b"Hello!\n").await?;
//!             connection.close().await?;
//!             Ok::<_, BoxError>(())
//!         });
//!     let listener = TcpListener::bind("127.0.0.1:4242")?;
//!     Server::new().listen(listener, stack).stop_on_signals().run().await?;
//!     Ok(())
//! }
//! ```
//!
//! # Rules for services
//!
//! A stack is cloned for each connection; what it shares belongs behind an `Arc`, as tower's layers do.
//! A service that is done with a connection ends it with [`Connection::close`]: a mere drop with input
//! unread makes the kernel send a reset, and the client may lose the answer.
//!
//! A graceful shutdown waits for every connection, until its deadline. `HttpService` closes idle connections; a
//! service of your own that keeps a connection open watches [`ConnectionInfo::drain`]:
//!
//! ```
//! use portcullis::{Connection, Server, ServiceBuilderExt, listener::MemoryListener};
//! use std::{io, pin::pin};
//! use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
//! use tower::ServiceBuilder;
//!
//! async fn echo(mut connection: Connection<impl AsyncRead + AsyncWrite + Unpin>) -> io::Result<()> {
//!     let mut drain = pin!(connection.info().drain());
//!     let mut buffer = [0; 1024];
//!     loop {
//!         tokio::select! {
//!             read = connection.read(&mut buffer) => match read? {
//!                 0 => break,
//!                 read => connection.write_all(&buffer[..read]).await?,
//!             },
//!             () = &mut drain => break, // after the exchange in progress
//!         }
//!     }
//!     connection.close().await
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis::BoxError> {
//! let (listener, connector) = MemoryListener::pair();
//! let stack = ServiceBuilder::new().peer_addr().service_fn(echo);
//! let server = Server::new().listen(listener, stack).spawn()?;
//!
//! let mut client = connector.connect()?;
//! client.write_all(b"hello").await?;
//! client.read_exact(&mut [0; 5]).await?;
//! server.stop();
//! assert_eq!(client.read(&mut [0; 5]).await?, 0);
//! drop(client);
//! assert!(server.wait().await.force_closed().is_empty());
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "axum")]
pub mod axum;
pub mod connect;
#[cfg(any(doc, doctest))]
pub mod docs;
pub mod listener;
pub mod server;
pub mod service;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tonic")]
pub mod tonic;

pub use self::server::Server;
pub use portcullis_middleware as middleware;
#[cfg(feature = "proxy-protocol")]
pub use portcullis_middleware::ProxyProtocolLayer;
#[cfg(feature = "tls")]
pub use portcullis_middleware::TlsLayer;
pub use portcullis_middleware::{
    BoxError, CatchPanicLayer, Connection, ConnectionInfo, ConnectionLimitLayer, IoTimeoutLayer,
    OnErrorLayer, PeerAddrLayer, ServiceBuilderExt, TraceLayer, connection, from_fn, io, map_io,
};

/// Compiles the programs in the README.
#[cfg(all(doctest, feature = "aws-lc-rs", feature = "http"))]
#[doc = include_str!("../README.md")]
struct Readme;
