//! Write a layer in twenty lines.
//!
//! A layer is placed between a client and a service and does one thing to each connection. There are three ways
//! to write one. Use the first that suffices:
//!
//! | write | to |
//! |---|---|
//! | [a function](#a-function) | run code before, after, or instead of the service |
//! | [a stream](#a-stream) | process the bytes that the service reads and writes |
//! | [a layer](#a-layer) | have a named type with settings, avoid allocations, or control `poll_ready` |
//!
//! The code on this page is compiled and run, with the following `Cargo.toml`. With the package `portcullis`,
//! write `portcullis::middleware` instead of `portcullis_middleware`.
//!
//! ```toml
//! [dependencies]
//! portcullis-middleware = "0.1"
//! tokio = "1"
//! tower = { version = "0.5", features = ["util"] }
//!
//! [dev-dependencies]
//! portcullis-middleware = { version = "0.1", features = ["testing"] }
//! tokio = { version = "1", features = ["full", "test-util"] }
//! ```
//!
//! # A function
//!
//! [`from_fn`](fn@crate::handler::from_fn) makes a layer from a closure. The closure gets the connection, and the
//! rest of the stack as `next`. This one measures how long each client is connected:
//!
//! ```
//! use portcullis_middleware::{BoxError, Connection, ServiceBuilderExt, handler::from_fn};
//! use tokio::{io::{AsyncWriteExt, duplex}, time::Instant};
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let timed = from_fn(|connection, next| async move {
//!     let (id, begun) = (connection.id(), Instant::now());
//!     let result = next.run(connection).await;
//!     println!("connection {id} took {:?}", begun.elapsed());
//!     result
//! });
//!
//! let mut stack = ServiceBuilder::new()
//!     .peer_addr()
//!     .layer(timed)
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         connection.write_all(b"hello\n").await?;
//!         connection.close().await
//!     });
//!
//! let (ours, mut client) = duplex(64);
//! client.shutdown().await?;
//! stack.call(ours).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The closure may also answer on its own or fail, without running `next`. To inspect the bytes that the service
//! reads and writes, write a stream.
//!
//! # A stream
//!
//! To inspect the bytes, wrap the stream. A wrapper is a type that implements `AsyncRead` and `AsyncWrite`, and
//! is independent of this package. This one limits how much a peer may send:
//!
//! ```
#![doc = include_str!("quota.rs")]
//! ```
//!
//! All methods except `poll_read` forward to the inner stream. Do not omit the last two methods, because their
//! default implementations compile and silently disable vectored writes.
//!
//! [`map_io`](fn@crate::stream::map_io) wraps the stream of each connection and keeps its addresses, extensions
//! and permits.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/quota.rs"));
//! # use portcullis_middleware::{Connection, ServiceBuilderExt};
//! # use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
//! # use tower::{Service, ServiceBuilder};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> io::Result<()> {
//! let mut stack = ServiceBuilder::new()
//!     .peer_addr()
//!     .map_io(|io| Quota { io, left: 1024 })
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         connection.read_to_end(&mut Vec::new()).await
//!     });
//!
//! let (ours, mut client) = duplex(2048);
//! client.write_all(&[0; 1025]).await?;
//! drop(client);
//! let error = stack.call(ours).await.unwrap_err();
//! assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
//! # Ok(())
//! # }
//! ```
//!
//! # A layer
//!
//! A layer for public use has a name and settings. It consists of two types. The layer creates the service once,
//! and the service is cloned and called for each connection. Without the type definitions, this takes twenty
//! lines:
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/quota.rs"));
#![doc = include_str!("layer.rs")]
//! # fn main() {}
//! ```
//!
//! The service is generic over `IO`, so that it can be placed anywhere in a stack. It keeps the response, error
//! and future types of the inner service. A layer that adds an error has `Error = BoxError` and requires
//! `S::Error: Into<BoxError>`.
//!
//! # Tests
//!
//! The module `testing` (feature `testing`) contains checks and scripted clients:
//!
//! - `assert_transparent` runs thousands of operations on the wrapper and on a bare stream, and compares the
//!   results. Within the quota, all of them must be equal.
//! - `assert_contract` checks the layer against tower's contract. Services are called only when ready, clones
//!   become ready on their own, and permits are released when a future is dropped or panics.
//! - `Peer` is a client that follows a script. Paused time advances when all tasks wait, so minutes pass
//!   immediately and timing is exact.
//!
//! ```rust,test_harness
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/quota.rs"));
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/layer.rs"));
//! # fn main() {}
//! # #[cfg(feature = "testing")]
//! #[cfg(test)]
//! mod tests {
//!     use super::*;
//!     use portcullis_middleware::testing::{Peer, assert_contract, assert_transparent};
//!     use std::time::Duration;
//!     use tokio::{io::AsyncReadExt, time::Instant};
//!     use tower::{ServiceExt, service_fn};
//!
//!     #[test]
//!     fn a_quota_that_lasts_is_not_noticed() {
//!         assert_transparent(|io| Quota { io, left: usize::MAX });
//!     }
//!
//!     #[tokio::test(start_paused = true)]
//!     async fn the_layer_keeps_the_contract() {
//!         assert_contract(QuotaLayer(8)).await;
//!     }
//!
//!     #[tokio::test(start_paused = true)]
//!     async fn a_peer_may_send_its_quota_and_no_more() {
//!         let minute = Duration::from_secs(60);
//!         for (sends, expected) in [(8, Ok(8)), (9, Err(io::ErrorKind::QuotaExceeded))] {
//!             let (connection, seen) = Peer::new()
//!                 .dribbles(vec![b'x'; sends], 1, minute)
//!                 .half_closes()
//!                 .connection();
//!             let reader = service_fn(|mut connection: Connection<_>| async move {
//!                 connection.read_to_end(&mut Vec::new()).await
//!             });
//!
//!             let begun = Instant::now();
//!             let read = QuotaLayer(8).layer(reader).oneshot(connection).await;
//!             assert_eq!(read.map_err(|error| error.kind()), expected);
//!             assert_eq!(begun.elapsed(), minute * sends as u32);
//!             assert!(seen.is_dropped());
//!         }
//!     }
//! }
//! ```
//!
//! The package `portcullis` adds a `Harness` in `portcullis::testing`, under the feature of the same name. It runs
//! a whole stack under its server, with clients that the test drives and clients that follow scripts, and
//! checks at the end that all connections and tasks are gone.
//!
//! # Rules for layers
//!
//! - **Become ready as late as possible.** Readiness belongs to one instance and may hold a permit, for example
//!   of a limit. A layer that waits for the client, or for anything else, should always be ready and wait for
//!   the readiness of a clone after that. Then silent clients hold no permit.
//!
//! ```rust,test_harness
//! # use portcullis_middleware::Connection;
//! # use std::{pin::Pin, task::{Context, Poll}, time::Duration};
//! # use tower::{Service, ServiceExt};
//! # #[derive(Clone)]
//! # struct Delay<S> {
//! #     inner: S,
//! # }
//! # impl<S, IO> Service<Connection<IO>> for Delay<S>
//! # where
//! #     S: Service<Connection<IO>, Future: Send> + Clone + Send + 'static,
//! #     IO: Send + 'static,
//! # {
//! #     type Response = S::Response;
//! #     type Error = S::Error;
//! #     type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;
//! fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
//!     Poll::Ready(Ok(()))
//! }
//!
//! fn call(&mut self, connection: Connection<IO>) -> Self::Future {
//!     let mut inner = self.inner.clone();
//!     Box::pin(async move {
//!         tokio::time::sleep(Duration::from_millis(100)).await;
//!         inner.ready().await?;
//!         inner.call(connection).await
//!     })
//! }
//! # }
//! # fn main() {}
//! # #[cfg(feature = "testing")]
//! # #[tokio::test(start_paused = true)]
//! # async fn the_layer_keeps_the_contract() {
//! #     let layer = tower::layer::layer_fn(|inner| Delay { inner });
//! #     portcullis_middleware::testing::assert_contract(layer).await;
//! # }
//! ```
//!
//!   A layer that calls the inner service in `call` forwards `poll_ready`. If its future needs the ready
//!   instance, it moves that instance and leaves a clone, with `std::mem::replace(&mut self.inner, clone)`.
//! - **Keep permits in the connection.** Pass everything that a connection holds for its lifetime to
//!   [`Connection::hold`](crate::Connection::hold), because a connection may outlive the future.
//! - **Limit everything that a peer controls**: time, bytes, and the number of waiting connections.
//! - **Close gracefully** after an answer, with [`Connection::close`](crate::Connection::close). After a mere
//!   drop, the client may lose the answer.
//! - **Define an error type** for each failure, so that callers can distinguish it;
//!   [`error::find`](crate::error::find) finds it behind other errors.
