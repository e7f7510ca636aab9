//! Reports the beginning and the end of each connection.
//!
//! [`TraceLayer`] gives each connection one [`tracing`] span, which is entered whenever its service
//! runs, and two lines: one when the connection is opened, one when it is closed, with its
//! [`Outcome`](crate::outcome::Outcome), its duration and its bytes. Two callbacks get the same,
//! for metrics or an access log.
//!
//! ```text
//! INFO connection{connection.id=1 server.name="echo" …}: echo: opened from 127.0.0.1:4242
//! INFO connection{connection.id=1 server.name="echo" …}: echo: closed: completed after 1.200 s, 64 bytes in, 64 bytes out
//! ```
//!
//! Every connection is reported by default, as in an access log, so clients decide how fast the log
//! grows. [`with_rate_limit`](TraceLayer::with_rate_limit) limits that.
//!
//! # Place
//!
//! Right inside [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer), outside of the rest: what it
//! does not enclose, it does not report. A layer inside that catches panics turns them into an
//! error, whose text stands in the last line; without one the outcome is the same, the panic goes
//! on, and its text is left to the panic hook.
//!
//! # Exactly once
//!
//! Each connection that was opened is closed once, whatever happens to it: when its service
//! returns or fails, when it panics (in `call`, in its future, or as that is dropped), and when its
//! future is dropped unfinished, by a timeout outside for example. The inner future is dropped
//! before the end is reported, so the socket is closed by then, unless another task has it:
//! that is [`HandedOff`](crate::outcome::Outcome::HandedOff), and what it moves later is not
//! reported. After a panic the end is reported when the future is dropped, which a tokio task does at
//! once.
//!
//! # Names
//!
//! The target is `portcullis::connection`, the span `connection`. Its fields are named after
//! OpenTelemetry's semantic conventions where those have a name:
//!
//! | Field | Value |
//! |---|---|
//! | `connection.id` | [number](crate::connection::ConnectionId) within the process |
//! | `server.name` | [name of the server](TraceLayer::with_name), else of the listener |
//! | `network.transport` | `tcp`, `unix`, or `pipe` (in memory) |
//! | `network.type` | `ipv4` or `ipv6` |
//! | `network.peer.address`, `network.peer.port` | other end of the socket: IP or path, and port |
//! | `network.local.address`, `network.local.port` | our end of the socket |
//! | `client.address`, `client.port` | the client behind a proxy, once known |
//! | `tls.protocol.version` | such as `1.3`, once known |
//! | `tls.cipher` | registered name, such as `TLS_AES_256_GCM_SHA384`, once known |
//! | `tls.next_protocol` | application protocol (ALPN), once known |
//! | `server.address` | host name that the TLS client asked for (SNI), once known |
//!
//! "Once known" is: from the next time on that the service runs, or at the end. The first line has
//! the field `peer`; the last one has `peer`, `outcome`, `duration` (in seconds), `bytes_in`,
//! `bytes_out` (of the socket: under TLS ciphertext), and `error`, which tells all causes. What a
//! peer chose is escaped, and error texts are cut after a kibibyte.
//!
//! # Cost
//!
//! Whether the span, the lines or a callback are enabled is checked once, when a connection
//! opens. If none is, the layer adds no work for that connection: nothing is
//! allocated or formatted, no clock is read, a connection takes some hundred instructions more, and a
//! poll next to none. So a subscriber that comes later, or a filter that is opened, is told of the
//! connections that open after it. (tracing's feature `log` does not count as a listener: without a
//! subscriber, nothing is written to the `log` crate.) Otherwise a connection takes one allocation, and the cost
//! of the subscriber.
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
