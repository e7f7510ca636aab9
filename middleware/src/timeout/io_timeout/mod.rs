//! Limits the time that a single read or write may take.
//!
//! By default, a read times out after 60 seconds without data, and a write, flush or shutdown after 60
//! seconds in which the peer accepted no data. Each timeout can be changed, and `None` disables it.
//!
//! # Position in the stack
//!
//! Inside of [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer). Outside of TLS, it applies to each step of
//! the handshake too, but not to the handshake as a whole. It needs a tokio runtime with time enabled.
//!
//! The read timeout fits protocols in which a silent peer is a dead peer. **Under HTTP and forwarding,
//! disable it and keep the write timeout** with `IoTimeoutLayer::new().without_read_timeout()`. An HTTP server
//! reads ahead while a handler works, so the read timeout would end slow handlers, server-sent events, gRPC
//! streams and long polls. Only the service can tell how long is too idle. For forwarding, use
//! [`HalfClosedTimeoutLayer`](crate::timeout::HalfClosedTimeoutLayer), which ends silent pairs of which one
//! side has ended.
//!
//! # Errors and outcomes
//!
//! An operation that times out fails with an [`io::Error`](std::io::Error) of kind
//! [`TimedOut`](std::io::ErrorKind::TimedOut) with [`Elapsed`](crate::error::Elapsed) as source. The outcome is
//! [`TimedOut`](crate::outcome::Outcome::TimedOut).
//!
//! The timer measures how long the handler has waited for an operation without data being moved. Ready data
//! always wins, even at the end of the timeout.
//!
//! * The wait continues across futures. A `select!` loop that drops the read at each tick and starts another
//!   one still times out with a silent peer.
//! * Time that the handler spends on something else does not count. The wait is checked at each quarter of the
//!   timeout, and a quarter at whose end the handler did something else is left out. An absence is charged
//!   with a quarter at most. After a longer absence, a read that was polled only once has the full timeout
//!   again.
//! * A task that is scheduled late does not count as absent. On an overloaded machine, a peer that was silent
//!   for longer than the timeout is disconnected at the first poll. The same holds if the clock jumps, as with
//!   `tokio::time::advance` in tests.
//!
//! To distinguish absent and late tasks, the layer's future counts its polls. This count does not cover
//! operations that are polled elsewhere (in another task, after a hand-off, in a [`TimeoutIo`] without the
//! layer, or below `FuturesUnordered`). Their wait counts as absent if the next poll comes more than a quarter
//! of the timeout after the timer woke the task, at most once until data is moved.
//!
//! # Cancellation and drop
//!
//! Operations may be dropped at any time. A timeout leaves the stream open and intact. The next operation
//! starts a new wait and reads what the peer sent late.
//!
//! # Limitations
//!
//! The timeout applies to each operation. It limits neither the connection's lifetime nor slow
//! senders: one byte per minute keeps a connection open.
//!
//! A handler counts as late if it drops a read, blocks its thread for longer than the timeout, and then awaits
//! something else before it reads again.
//!
//! # Performance
//!
//! An operation that completes immediately touches neither clock nor timer. A pending one reads the clock
//! once, and checks its timeout four times in all. The layer's future adds two writes to a thread-local to each of
//! its polls.
//!
//! In a server of the package `portcullis`, one thread checks the timeouts of all connections, so a connection has no
//! timer of its own. This applies to timeouts of a second and more, on multi-threaded runtimes and worker threads,
//! while the handler polls its stream within the call. Such a timeout may end up to 50 ms late, and up to a second late
//! with more than 5,000 connections, because the check takes a hundredth of a CPU. The handler then counts as absent
//! for a quarter if it does something else when the check comes. In all other cases, each direction
//! that has ever waited allocates one timer of the runtime, which also keeps to paused time.
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
