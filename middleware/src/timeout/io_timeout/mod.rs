//! Bounds the time that a single read or write may take.
//!
//! By default a read fails after 60 seconds in which nothing came, and a write, flush or shutdown
//! after 60 seconds in which nothing could be sent. Each bound can be set, and switched off with
//! `None`. The handler sees an [`io::Error`](std::io::Error) of kind
//! [`TimedOut`](std::io::ErrorKind::TimedOut) with [`Elapsed`](crate::error::Elapsed) as source.
//!
//! # Position in the stack
//!
//! It is placed inside of [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer). Outside of TLS it
//! applies to each step of the handshake too, but not to the handshake as a whole. It needs a tokio
//! runtime with time enabled.
//!
//! The read timeout fits protocols in which a silent peer is a dead peer. **Under HTTP and under
//! forwarding turn it off and keep the write timeout**: `IoTimeoutLayer::new().without_read_timeout()`. An
//! HTTP server reads ahead while a handler works, so the read timeout would end slow handlers,
//! server-sent events, gRPC streams and long polls; only the service can tell how long is too idle.
//! For forwarding, the layer [`half_closed`](crate::timeout::half_closed) limits the silence of pairs of which one
//! side has ended.
//!
//! # Errors and outcomes
//!
//! A timeout is measured over the time in which the handler waited for the operation and nothing
//! moved. Ready data always wins, also at the very end of the timeout.
//!
//! * A `select!` loop that drops the read at each tick and begins another one still cuts a silent peer
//!   after the timeout: the wait goes on until a read returns something.
//! * A handler that gives a read up, does something else and reads again is not charged for its
//!   absence. The wait is checked at each quarter of the timeout, and a quarter at whose end the
//!   handler did something else does not count. An absence is thus charged with a quarter at most, and
//!   after a longer one a read that was only polled once before has the whole timeout again.
//! * A task that is scheduled late is not absent. On an overloaded machine, a peer that was silent for
//!   longer than the timeout is cut at the first poll. The same holds for a clock that jumps, as in
//!   tests with `tokio::time::advance`.
//!
//! To tell the two apart, the layer's future counts its polls. Where an operation is polled elsewhere
//! (in another task, after a hand-off, in a [`TimeoutIo`] without the layer, below
//! `FuturesUnordered`), a wait is taken as absent if its next poll comes more than a quarter of the
//! timeout after the timer woke the task, and only once until something is read or written.
//!
//! # Cancellation and drop
//!
//! Operations may be dropped at any time. After a timeout nothing is lost or closed: the next
//! operation begins a wait of its own, and reads what the peer sent late.
//!
//! # Limitations
//!
//! The timeout applies to each operation. It limits neither the connection's lifetime nor slow
//! senders: one byte per minute keeps a connection open.
//!
//! A handler that gives a read up, blocks its thread for longer than the timeout and then awaits
//! something else before it reads again looks like a late task.
//!
//! # Performance
//!
//! An operation that completes at once looks at no clock and no timer. One that waits looks at the
//! clock once. The timer, one allocation for each direction that ever waits, is registered four times
//! per timeout and not per operation, and wakes the task as often while operations complete. The
//! layer's future adds two writes to a thread-local to each of its polls.
//!
//! # Example
//!
//! ```
//! use portcullis_middleware::{
//!     BoxError, Connection,
//!     error::{Elapsed, find},
//!     timeout::IoTimeoutLayer,
//!     peer_addr::PeerAddrLayer,
//! };
//! use std::time::Duration;
//! use tokio::io::AsyncReadExt;
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let mut stack = ServiceBuilder::new()
//!     .layer(PeerAddrLayer::new())
//!     .layer(IoTimeoutLayer::new().with_read_timeout(Duration::from_secs(10)))
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         let mut line = [0; 80];
//!         connection.read(&mut line).await?;
//!         Ok::<_, BoxError>(())
//!     });
//!
//! let (ours, _silent_peer) = tokio::io::duplex(64);
//! let error = stack.call(ours).await.unwrap_err();
//!
//! assert!(find::<Elapsed>(&*error).is_some());
//! assert_eq!(error.to_string(), "read timed out after 10s");
//! # }
//! ```

mod bound;
mod io;
mod layer;
#[cfg(test)]
mod tests;
mod timer;
mod turn;

pub use self::{
    io::TimeoutIo,
    layer::{IoTimeout, IoTimeoutFuture, IoTimeoutLayer},
};
