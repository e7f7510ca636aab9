//! Connection-level (layer 4) middleware for tower.
//!
//! The layers process a connection before an application gets it. They provide limits, timeouts, TLS, client
//! addresses, error handling and tracing, and work under any accept loop. A stack begins with [`PeerAddrLayer`],
//! which takes a raw stream, and everything inside of it is a `tower::Service<Connection<IO>>`.
//!
//! ```no_run
//! use portcullis_middleware::{BoxError, Connection, ServiceBuilderExt};
//! use tokio::{io::AsyncWriteExt, net::TcpListener};
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let stack = ServiceBuilder::new()
//!     .peer_addr()
//!     .connection_limit(1000)
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         connection.write_all(b"Hello!\n").await?;
//!         connection.close().await
//!     });
//!
//! let listener = TcpListener::bind("127.0.0.1:4242").await?;
//! loop {
//!     let (stream, _peer) = listener.accept().await?;
//!     let mut stack = stack.clone();
//!     let call = stack.ready().await?.call(stream);
//!     tokio::spawn(async move {
//!         if let Err(error) = call.await {
//!             eprintln!("connection failed: {error}");
//!         }
//!     });
//! }
//! # }
//! ```
//!
//! This loop stops at the first accept error. The package `portcullis` provides a production-ready server with
//! accept-error handling, backpressure into the kernel's accept queue, graceful shutdown and a control handle.
//!
//! # Modules
//!
//! | module | contents |
//! |---|---|
//! | [`connection`] | the request type, and the facts known about a connection |
//! | [`peer_addr`], `proxy_protocol`, `tls` | layers that establish the connection |
//! | [`access`], [`limit`], [`timeout`], [`observe`], [`stream`], [`handler`] | the other layers, by family |
//! | [`guard`] | how guards reject connections, or only observe |
//! | [`peek`], [`route`] | the protocol by the first bytes, and the service by the protocol |
//! | [`prelude`] | the plain text before TLS: STARTTLS and PostgreSQL |
//! | [`error`], [`outcome`], [`drain`] | what layers report, and the shutdown signal that they receive |
//! | [`ip_set`] | sets of networks, for lists of addresses |
//! | [`telemetry`], [`log_limit`] | names of spans, events and fields, and rate limits for logs |
//! | [`guide`], `testing` | how to write and test a layer |
//!
//! # Custom middleware
//!
//! There are three ways, from short to long:
//!
//! * [`from_fn`](fn@from_fn), for an async function with the connection and the rest of the stack.
//! * [`map_io`](fn@map_io), for a custom stream that implements `AsyncRead` and `AsyncWrite`.
//! * A [`Layer`](tower::Layer) and a [`Service`](tower::Service), generic over `IO`, with
//!   `impl<S: Service<Connection<IO>>, IO> Service<Connection<IO>> for Mine<S>`.
//!
//! The chapter [Write a layer in twenty lines](guide) explains and tests each of them. The example
//! `custom_middleware` shows all three in one program. With the feature `testing`, the module `testing` contains
//! scripted peers, and checks for layers and stream wrappers.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod access;
pub mod builder_ext;
pub mod connection;
mod departure;
pub mod drain;
pub mod error;
mod file;
mod first_then;
pub mod guard;
pub mod guide;
pub mod handler;
#[doc(hidden)]
pub mod internal;
pub mod io;
pub mod ip_set;
pub mod limit;
pub mod log_limit;
mod log_text;
mod meter;
pub mod observe;
pub mod outcome;
pub mod peek;
pub mod peer_addr;
pub mod prelude;
#[cfg(feature = "proxy-protocol")]
pub mod proxy_protocol;
pub mod route;
pub mod stream;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod timeout;
#[cfg(feature = "tls")]
pub mod tls;
mod when_ready;

#[cfg(feature = "proxy-protocol")]
pub use self::proxy_protocol::ProxyProtocolLayer;
#[cfg(feature = "tls")]
pub use self::tls::TlsLayer;
pub use self::{
    builder_ext::ServiceBuilderExt,
    connection::{Connection, ConnectionInfo, Extensions},
    handler::{CatchPanicLayer, OnErrorLayer, from_fn},
    limit::ConnectionLimitLayer,
    observe::TraceLayer,
    peer_addr::PeerAddrLayer,
    stream::map_io,
    timeout::IoTimeoutLayer,
};
pub use tower::BoxError;
