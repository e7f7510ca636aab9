//! Connection-level (layer 4) middleware for tower: what happens to a connection before an
//! application sees it.
//!
//! The layers here work under any accept loop: a stack begins with
//! [`PeerAddrLayer`], which takes a bare stream, and everything inside of it
//! is a `tower::Service<Connection<IO>>`.
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
//! This loop ends with the first failure of accept. The package `portcullis` has it done well: a policy
//! for such failures, limits that reach the kernel's queue, a drain, a handle.
//!
//! # Custom middleware
//!
//! There are three ways, from short to long:
//!
//! * [`from_fn`](fn@from_fn): an async function with the connection and the rest of the stack.
//! * [`map_io`](fn@map_io): a custom stream around the connection's bytes. It only needs `AsyncRead`
//!   and `AsyncWrite`.
//! * A [`Layer`](tower::Layer) and a [`Service`](tower::Service) by hand, generic over `IO`:
//!   `impl<S: Service<Connection<IO>>, IO> Service<Connection<IO>> for Mine<S>`.
//!
//! The chapter [Write a layer in twenty lines](guide) goes through them, and tests the result. The
//! example `custom_middleware` shows all three in one program. With the feature `testing`, the module
//! `testing` has peers that follow a script, and checks for layers and IO wrappers.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod builder_ext;
pub mod connection;
mod departure;
pub mod drain;
pub mod error;
#[cfg(any(feature = "proxy-protocol", feature = "tls"))]
#[cfg_attr(
    not(feature = "proxy-protocol"),
    allow(dead_code, reason = "each layer uses a part of it")
)]
mod first_then;
pub mod guide;
pub mod handler;
#[doc(hidden)]
pub mod internal;
pub mod io;
pub mod limit;
pub mod log_limit;
mod log_text;
pub mod observe;
pub mod outcome;
pub mod peer_addr;
#[cfg(feature = "proxy-protocol")]
pub mod proxy_protocol;
pub mod stream;
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
