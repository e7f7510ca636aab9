//! Traces the opening and closing of each connection.
//!
//! [`TraceLayer`] gives each connection one [`tracing`] span, which is entered whenever its service runs, and two
//! events: one when the connection is opened, and one when it is closed, with its
//! [`Outcome`](crate::outcome::Outcome), duration and byte counts. Two callbacks get the same information, for
//! metrics or an access log. The names of the span, the events and their fields are listed in
//! [`telemetry`](crate::telemetry).
//!
//! ```text
//! INFO connection{connection.id=1 server.name="echo" …}: echo: opened from 127.0.0.1:4242
//! INFO connection{connection.id=1 server.name="echo" …}: echo: closed: completed after 1.200 s, 64 bytes in, 64 bytes out
//! ```
//!
//! Every connection is logged by default, as in an access log, so clients determine how fast the log grows.
//! Limit the rate with [`with_rate_limit`](TraceLayer::with_rate_limit).
//!
//! Facts that layers inside discover (the client behind a proxy, TLS parameters) are added to the span the next
//! time that the service runs, or at the end. Untrusted text is escaped, and error texts are truncated after 1024
//! characters.
//!
//! # Position in the stack
//!
//! Right inside of [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer) and outside of the others, because it
//! reports only what it encloses. With a layer inside that catches panics, the closing event contains the text of
//! the panic. Without one, the outcome is the same, the panic propagates, and its text is left to the panic hook.
//!
//! # Errors and outcomes
//!
//! The layer never fails on its own. Each opened connection is closed exactly once: when its service returns or
//! fails, when it panics (in `call`, in its future, or in the drop of the future), and when its future is dropped
//! unfinished, for example by a timeout outside. After a panic, the closing is reported when the future is
//! dropped, which a tokio task does immediately.
//!
//! The outcome describes the service that the layer encloses. A server determines the outcome of the whole stack
//! in the same way, so both are equal if the layers outside of the trace pass errors on. They differ if a layer
//! outside replaces the result, such as an error handler, or drops the future, such as a timeout.
//!
//! # Cancellation and drop
//!
//! Dropping the future drops the inner future first and then reports the closing. At that time the socket is
//! closed, unless another task has the connection. In that case the outcome is
//! [`HandedOff`](crate::outcome::Outcome::HandedOff), and later data is not counted.
//!
//! # Performance
//!
//! Whether the span, the events or a callback are enabled is checked once, when a connection opens. If none is
//! enabled, the layer adds some hundred instructions per connection and almost none per poll; it neither
//! allocates, formats nor reads the clock. A subscriber or filter that is enabled later applies to connections
//! opened after that. Enabling tracing's `log` feature alone does not count as a subscriber. With a subscriber or
//! callback, a connection takes one allocation in addition to the cost of the subscriber.
//!
//! # Example
//!
//! ```
//! use portcullis_middleware::{Connection, outcome::Outcome, observe::TraceLayer};
//! use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
//! use tokio::io::AsyncWriteExt;
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower::BoxError> {
//! let completed = Arc::new(AtomicUsize::new(0));
//! let count = completed.clone();
//! let trace = TraceLayer::new().with_name("hello").on_close(move |closed| {
//!     if closed.outcome() == Outcome::Completed {
//!         count.fetch_add(1, Ordering::Relaxed);
//!     }
//! });
//! let mut stack = ServiceBuilder::new()
//!     .layer(trace)
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         connection.write_all(b"hello").await
//!     });
//!
//! let (ours, _theirs) = tokio::io::duplex(64);
//! stack.call(Connection::accept(ours)).await?;
//!
//! assert_eq!(completed.load(Ordering::Relaxed), 1);
//! # Ok(())
//! # }
//! ```

mod closed;
mod future;
mod layer;
mod open;
mod report;
mod service;
#[cfg(test)]
pub(crate) mod tests;

pub use self::{closed::Closed, future::TraceFuture, layer::TraceLayer, service::Trace};
