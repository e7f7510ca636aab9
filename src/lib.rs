//! The gate in front of a tower: everything that happens to a connection before an application sees
//! it.
//!
//! Each accepted connection becomes one call of a [`tower::Service`]`<TcpStream>`. Layers add connection
//! limits, timeouts, TLS, the peer's address, error handling and tracing. A small accept loop drives the
//! stack and shuts it down gracefully. The program `portcullis` (package `portcullis-cli`) is built from
//! it: a TCP and TLS front end with a configuration file.
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
//! # Modules
//!
//! * [`middleware`]: the layers, and the [`Connection`] that they pass on. Programs with their own accept
//!   loop use it alone.
//! * [`listener`]: TCP, Unix and in-memory listeners, and socket options.
//! * [`server`]: combines listeners and stacks, runs them, and shuts them down.
//! * [`service`]: innermost services, `HttpService` (feature `http`), `ForwardService` and a stream of
//!   connections; `Reload`, which replaces a stack while it serves.
//! * `axum`, `tonic` (features): extractors for handlers, and stacks under their servers.
//! * [`connect`]: outgoing connections; with the feature `http-client` under hyper's client.
//! * [`upstream`]: pools of servers to forward connections to.
//! * [`listener::accept_error`]: classifies accept errors.
//! * [`stack`]: the recommended stack from options, and what each of its layers is for.
//! * [Put a gate before a service](docs::gate): a chapter on forwarding, from ten lines to a pool of servers.
//! * [Write a layer in twenty lines](middleware::guide): a chapter on custom middleware. The module `testing`
//!   (feature) helps to test it.
//!
//! # Features
//!
//! | feature | for |
//! |---|---|
//! | `aws-lc-rs` (default), `ring`, `tls` | `TlsLayer` and `TlsConnector`, with one of the two crypto providers or your own |
//! | `native-roots`, `watch` | the system's root certificates; notice of changed certificate files |
//! | `http`, `axum`, `tonic`, `http-client` | `HttpService`, extractors, connection information for handlers, hyper's client |
//! | `proxy-protocol` | PROXY headers, from load balancers and to servers |
//! | `metrics` | metrics of connections, layers and pools |
//! | `dns` | pools that follow names by their time to live, and SRV records |
//! | `transcode` | charsets other than UTF-8 |
//! | `testing` | checks for custom layers and streams |
//! | `full` | all of them |
//!
//! # The order of layers
//!
//! The layer that is added first is the outermost and sees a connection first. The module [`stack`] says why each
//! layer is where it is, and builds the whole from options. From the outside in:
//!
//! 1. [`PeerAddrLayer`](middleware::peer_addr) turns the stream into a [`Connection`]. Put only layers that
//!    ignore the request outside of it (tower's limits, `MapErr`).
//! 2. [`TraceLayer`](middleware::observe::trace) and `MetricsLayer` (feature `metrics`), so that they cover all
//!    layers below.
//! 3. [`ConnectionLimitLayer`](middleware::limit::connection_limit), before any expensive work.
//! 4. `ProxyProtocolLayer` (feature `proxy-protocol`), before any layer that reads bytes or uses the client's
//!    address.
//! 5. [`AclLayer`](middleware::access::acl), [`RateLimitLayer`](middleware::limit::rate_limit) and
//!    [`KeyedLimitLayer`](middleware::limit::keyed_limit), in the order of their cost, which reject clients by
//!    their address before a handshake. Then
//!    [`ConnectionTimeoutLayer`](middleware::timeout::connection_timeout), so that waits for the client count.
//! 6. `TlsLayer` (feature `tls`), or `TlsOrPlainLayer` for plain clients on the same port. Where the first bytes choose between several services,
//!    [`PeekLayer`](middleware::peek) and a [`Router`](middleware::route), with TLS in the routes; where TLS begins on
//!    request, a [`PreludeLayer`](middleware::prelude) before it.
//! 7. [`IoTimeoutLayer`](middleware::timeout::io_timeout): inside TLS it limits the handler's reads and
//!    writes, outside those on the wire. Next to it goes
//!    [`HalfClosedTimeoutLayer`](middleware::timeout::half_closed), if a custom service forwards;
//!    [`ForwardService`](service::ForwardService) has this limit itself.
//!    [`BandwidthLayer`](middleware::limit::bandwidth) goes inside of it, so that its waits are not timeouts.
//! 8. [`OnErrorLayer`](middleware::handler::on_error), inside TLS so that its output is encrypted.
//! 9. Custom layers, and the service: `HttpService` (feature `http`) for axum, tonic and hyper.
//!
//! # Optional layers
//!
//! To switch a layer on by a flag or a configuration file, use
//! [`option_layer`](tower::ServiceBuilder::option_layer). If the layer wraps the stream, as TLS and timeouts
//! do, add [`box_io`](ServiceBuilderExt::box_io) right inside of it, so that the rest of the stack sees one
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

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "axum")]
pub mod axum;
pub mod connect;
#[cfg(any(doc, doctest))]
pub mod docs;
pub mod listener;
pub mod server;
pub mod service;
pub mod stack;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tonic")]
pub mod tonic;
pub mod upstream;

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
