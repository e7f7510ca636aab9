//! Bounds the time that a single read or write may take.
//!
//! By default a read fails after 60 seconds in which nothing came, and a write, flush or shutdown
//! after 60 seconds in which nothing could be sent. Each bound can be set, and switched off with
//! `None`. The handler sees an [`io::Error`](std::io::Error) of kind
//! [`TimedOut`](std::io::ErrorKind::TimedOut) with [`Elapsed`](crate::error::Elapsed) as source.
//!
//! It bounds single operations only: a peer that sends one byte a minute is not cut, and the whole
//! connection may last for ever.
//!
//! # Where it belongs, and where it does not
//!
//! The read bound fits protocols in which a silent peer is a dead peer. **Under HTTP and under
//! forwarding turn it off and keep the write bound**: `IoTimeoutLayer::new().with_read(None)`. An
//! HTTP server reads ahead while a handler works, so the read bound would end slow handlers,
//! server-sent events, gRPC streams and long polls; which idleness is too long only the service
//! knows.
//!
//! It stands inside of [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer). Outside of TLS it bounds
//! each step of the handshake too, but no handshake as a whole. It needs a tokio runtime with time
//! enabled.
//!
//! # What counts
//!
//! What counts is how long the connection has wanted to read (or to write) and got nothing. So a
//! `select!` loop that drops the read at each tick and begins another one still cuts a silent peer
//! at the bound: the wait goes on until a read returns something. A wait that nobody polls at its
//! deadline, though, is taken as abandoned: when the next poll comes more than 100 ms late, the wait
//! starts anew. So a handler that drops a read, works for longer than the bound and reads again has
//! the full bound again, once until something is read. (A runtime that is stalled for longer than
//! that prolongs a wait by one bound.) One that works for *less* than the bound and reads again has
//! what is left of it. What is ready at the very bound still counts.
//!
//! After a timeout nothing is lost or closed: the next operation begins a wait of its own, and what
//! the peer sent late is read then.
//!
//! # Cost
//!
//! An operation that completes at once looks at no clock and no timer. One that waits looks at the
//! clock once. The timer, one allocation for each direction that ever waits, is registered once per
//! bound and not per operation, and wakes the task once more per bound while operations complete.
//!
//! ```
//! use portcullis_middleware::{
//!     BoxError, Connection,
//!     error::{Elapsed, find},
//!     io_timeout::IoTimeoutLayer,
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
//!     .layer(IoTimeoutLayer::new().with_read(Duration::from_secs(10)))
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

pub use self::{
    io::TimeoutIo,
    layer::{IoTimeout, IoTimeoutLayer},
};
