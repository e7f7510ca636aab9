//! Write a layer in twenty lines.
//!
//! A layer stands between a client and a service and does one thing to each connection. Three ways
//! lead to one; take the first that is enough:
//!
//! | Way | Enough for |
//! |---|---|
//! | [a function](#a-function) | something before, after, or instead of the service |
//! | [a stream](#a-stream) | something with the bytes on their way |
//! | [a layer](#a-layer) | a type with a name and settings, no allocation, a say in `poll_ready` |
//!
//! The code on this page is compiled and run. It needs this much of `Cargo.toml`; with the package
//! `portcullis` read `portcullis::middleware` for `portcullis_middleware`.
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
//! [`from_fn`](fn@crate::handler::from_fn) makes a layer of a closure. It gets the connection, and the rest of the
//! stack as `next`. This one tells how long each client stayed:
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
//! It may answer by itself and never run `next`, or fail. What it cannot do is look at the bytes that
//! the service reads and writes.
//!
//! # A stream
//!
//! To look at the bytes, wrap the IO. A wrapper is a type with `AsyncRead` and `AsyncWrite`, and needs
//! nothing of this package. This one bounds how much a peer may send:
//!
//! ```
#![doc = include_str!("quota.rs")]
//! ```
//!
//! All but `poll_read` hands on what it gets. Do not leave out the last two methods: `AsyncWrite` has
//! defaults for them, which compile and lose vectored writes in silence.
//!
//! [`map_io`](fn@crate::stream::map_io) puts it around each connection. Addresses, extensions and permits of
//! the connection go along by themselves.
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
//! A layer that others are to use has a name and settings. That takes two types: the layer makes the
//! service, once, and the service is cloned and called for each connection. Without the type
//! definitions it is twenty lines:
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/quota.rs"));
#![doc = include_str!("layer.rs")]
//! # fn main() {}
//! ```
//!
//! It is generic over `IO`, so that it stands anywhere in a stack; it keeps the inner service's
//! response, error and future, since it adds none. A layer with a failure of its own has
//! `Error = BoxError`, and asks for `S::Error: Into<BoxError>`.
//!
//! # Tests
//!
//! The feature `testing` has what it takes, in the module `testing`:
//!
//! - `assert_transparent` puts the wrapper through thousands of operations, beside a bare stream. As long
//!   as the quota lasts, no operation may differ.
//! - `assert_contract` holds the layer to tower's contract: a service is called only when it is ready,
//!   a clone is not ready, nothing is lost when a future is dropped or panics.
//! - `Peer` is a client that follows a script. Time is paused: it leaps where everybody waits, so a test
//!   of minutes takes no time, and to the instant.
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
//! The package `portcullis` adds a `Harness`: a whole stack under its server, with clients that the
//! test drives and clients that follow scripts side by side, and a check that nothing is left at
//! the end. It is in `portcullis::testing`, under the feature of the same name.
//!
//! # What a layer owes
//!
//! - **Readiness, as late as possible.** Readiness belongs to one instance and may hold a permit, of a
//!   limit for example. A layer that waits for the client first, or for anything else, is always ready
//!   itself and asks a clone for readiness after the wait: a silent client then holds no permit.
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
//!   A layer that calls the inner service in `call` passes `poll_ready` on. One that must have the instance
//!   that was ready in its future takes that one along and leaves a clone, with
//!   `std::mem::replace(&mut self.inner, clone)`.
//! - **Its permits.** What a connection holds for as long as it lives, wherever it is by then, goes into
//!   [`Connection::hold`](crate::Connection::hold), not into the future: a connection may outlive that.
//! - **A bound** on everything that a peer controls: time, bytes, and how many wait.
//! - **A polite end** where it answers by itself: [`Connection::close`](crate::Connection::close). A mere
//!   drop may cost the client the answer.
//! - **A type** for each failure of its own, so that others can tell it apart;
//!   [`error::find`](crate::error::find) finds it again behind others.
