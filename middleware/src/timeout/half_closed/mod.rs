//! Limits how long a half-closed connection may be silent.
//!
//! A connection is half-closed when one direction has ended and the other is open. Either the peer's end of
//! stream was read, or the service shut down its write side. By default, such a connection fails after 60
//! seconds without data in either direction; each byte restarts the timeout. The limit applies only while
//! exactly one direction is open.
//!
//! The layer is for services that keep a connection open on behalf of another one, such as a custom forwarder; the one of
//! portcullis has this limit itself. There the read timeout of [`io_timeout`](crate::timeout::io_timeout) would end healthy connections, and a
//! client that half-closes would keep its connection open for as long as the server is silent.
//!
//! # Position in the stack
//!
//! Inside of TLS, next to the service, so that both observe the same ends of stream. The order relative to
//! [`IoTimeoutLayer`](crate::timeout::IoTimeoutLayer) does not matter. It needs a tokio runtime with time
//! enabled.
//!
//! # Errors and outcomes
//!
//! An operation that is pending at the timeout fails with an [`io::Error`](std::io::Error) of kind
//! [`TimedOut`](std::io::ErrorKind::TimedOut) with [`Elapsed`](crate::error::Elapsed) of the phase
//! [`HALF_CLOSED`](crate::error::TimeoutPhase::HALF_CLOSED) as source. Ready data always wins.
//!
//! A forwarder usually waits for the other connection at that time. Therefore the layer's future fails too,
//! with the same [`Elapsed`](crate::error::Elapsed), unless the service has already failed. The outcome is
//! [`TimedOut`](crate::outcome::Outcome::TimedOut).
//!
//! # Cancellation and drop
//!
//! When the layer's future fails, it drops the service's future and the connection. Operations may be dropped
//! at any time. The limit applies to split halves in several tasks as well. After a hand-off to another task,
//! only pending operations fail, because the service has finished. The same holds for a
//! [`HalfClosedTimeoutIo`] without the layer, for example on a connection to an upstream.
//!
//! # Limitations
//!
//! A service that takes longer than the timeout to answer a client that has half-closed is cancelled as well.
//! Set a longer timeout there, or omit the layer.
//!
//! Vanished peers of open connections are detected by TCP keepalive, not by this layer. A half-closed
//! connection that keeps sending is not limited.
//!
//! # Performance
//!
//! While both directions are open, an operation checks two flags, a pending one compares two wakers, and the
//! clock is not read. Each connection takes one allocation, and one per timer once it is half-closed.
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
//!         let (mut upstream, _silent_server) = duplex(64);
//!         copy_bidirectional(&mut connection, &mut upstream).await?;
//!         Ok::<_, BoxError>(())
//!     });
//!
//! let (ours, mut client) = duplex(64);
//! client.shutdown().await.expect("the client half-closes");
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
