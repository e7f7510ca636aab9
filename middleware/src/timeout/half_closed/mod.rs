//! Limits how long a half-closed connection may be silent.
//!
//! A connection is half-closed when one side has ended its direction and the other has not: the peer's
//! end was read, or the service shut its own direction down. By default such a connection fails after
//! 60 seconds in which no byte moved in either direction; each byte starts the time anew. While both
//! directions are open, and after both have ended, there is no limit.
//!
//! It is for services that keep a connection open on behalf of another one, above all for forwarding.
//! There the read timeout of [`io_timeout`](crate::timeout::io_timeout) does not fit, and a client that ended its
//! side would hold its place for as long as the server says nothing.
//!
//! # Position in the stack
//!
//! It is placed inside of TLS, next to the service, so that it sees the ends that
//! the service sees. The order relative to [`IoTimeoutLayer`](crate::timeout::IoTimeoutLayer) does
//! not matter. It needs a tokio runtime with time enabled.
//!
//! # Errors and outcomes
//!
//! An operation that is pending at the limit fails with an [`io::Error`](std::io::Error) of kind
//! [`TimedOut`](std::io::ErrorKind::TimedOut) with [`Elapsed`](crate::error::Elapsed) of the phase
//! [`HALF_CLOSED`](crate::error::TimeoutPhase::HALF_CLOSED) as source. Ready data always wins.
//!
//! A forwarder usually waits for the other connection by then, so the layer's future fails too, with the
//! same [`Elapsed`](crate::error::Elapsed), unless the service has failed by itself. The outcome is
//! [`TimedOut`](crate::outcome::Outcome::TimedOut).
//!
//! # Cancellation and drop
//!
//! When the layer's future fails, the service's future is dropped, and the connection with it. Operations
//! may be dropped at any time. The limit applies to split halves in several tasks as well. After a
//! hand-off, where the service has finished and the connection lives on elsewhere, only pending
//! operations fail. A [`HalfClosedTimeoutIo`] without the layer, on a connection to an upstream for
//! example, works like that too.
//!
//! # Limitations
//!
//! A service that needs longer than the limit to answer a client that has ended its side is cut off as
//! well. Set a longer timeout there, or leave the layer out.
//!
//! It does not detect that a peer vanished, and it does not limit a half-closed connection that keeps
//! sending.
//!
//! # Performance
//!
//! While both directions are open, an operation costs a check of two flags, one that waits a comparison
//! of wakers, and no clock is looked at. A connection takes one allocation, and one for each timer once
//! it is half-closed.
//!
//! # Example
//!
//! ```
//! use portcullis_middleware::{
//!     BoxError, Connection,
//!     error::{Elapsed, TimeoutPhase, find},
//!     timeout::HalfClosedTimeoutLayer,
//!     peer_addr::PeerAddrLayer,
//! };
//! use tokio::io::{AsyncWriteExt, copy_bidirectional, duplex};
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let mut stack = ServiceBuilder::new()
//!     .layer(PeerAddrLayer::new())
//!     .layer(HalfClosedTimeoutLayer::new())
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         let (mut upstream, _says_nothing) = duplex(64);
//!         copy_bidirectional(&mut connection, &mut upstream).await?;
//!         Ok::<_, BoxError>(())
//!     });
//!
//! let (ours, mut client) = duplex(64);
//! client.shutdown().await.expect("the client ends its side");
//! let error = stack.call(ours).await.unwrap_err();
//!
//! let elapsed = find::<Elapsed>(&*error).expect("it timed out");
//! assert_eq!(elapsed.phase(), TimeoutPhase::HALF_CLOSED);
//! # }
//! ```

mod future;
mod io;
mod layer;
mod state;
#[cfg(test)]
mod tests;

pub use self::{
    future::HalfClosedTimeoutFuture,
    io::HalfClosedTimeoutIo,
    layer::{HalfClosedTimeout, HalfClosedTimeoutLayer},
};
