//! Limits how many connections are served concurrently.
//!
//! When the limit is reached, the layer does one of three things:
//!
//! * **Wait before accepting** ([`ConnectionLimitLayer::new`]). The service is not ready while the
//!   limit is reached. Further clients wait in the kernel's accept queue and use only kernel memory.
//! * **Wait for a limited time, then reject** ([`wait_up_to`](ConnectionLimitLayer::wait_up_to)). The
//!   connection is accepted and waits in the layer's future. The queue is limited too, because each waiting
//!   connection holds a file descriptor. Older servers looked for a free slot every half second and gave up
//!   after the tenth time. `wait_up_to(Duration::from_secs(5), 100)` is the same timeout without the polling.
//! * **Reject immediately** ([`refuse`](ConnectionLimitLayer::refuse)).
//!
//! With [`with_observe`](ConnectionLimitLayer::with_observe) it does none of them, and only counts, logs and
//! [notes](crate::ConnectionInfo::notes) the connections beyond the limit.
//!
//! A [`Refusal`] sets whether a rejected connection is closed, reset, answered first, or kept open for a time.
//!
//! A connection takes a slot before the inner service is called. The slot is stored in the
//! [`Connection`](crate::Connection), so it is released when the connection is dropped or detached, wherever
//! that happens: in another task, in an upgraded protocol, or during a panic. Slots are given out in the order
//! of the requests.
//!
//! A connection that is [closed](crate::Connection::close) releases its slot when it begins to
//! [linger](crate::Connection::linger), so that clients that are slow to receive the answer do not delay
//! others. Up to 1,024 connections of a process linger without a slot, and each holds a file descriptor.
//! Include them in the limit of open files. Beyond that number, connections keep their slots until they are
//! closed.
//!
//! The limit belongs to the layer value. Clones of the layer and all of its services share it, even if a clone
//! is set to do something else when full. Two calls of `new` make two limits. A [`LimitHandle`] reads the limit
//! and changes it at run time.
//!
//! # Position in the stack
//!
//! Inside [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer). Outside of TLS, the limit includes handshakes
//! and rejects clients before a handshake costs anything, but an answer is plain text. Inside of TLS, an answer
//! is encrypted, and only connections with a completed handshake count.
//!
//! Some layers wait for the client before they call their inner service: [TLS](crate::tls),
//! `ProxyProtocolLayer`, [`from_fn`](fn@crate::handler::from_fn) and
//! [`try_map_io`](crate::stream::try_map_io). They check the readiness of the inner service after that wait. A
//! limit inside of them takes slots only for clients that have sent something. Connections that wait for such a
//! limit are accepted already and hold a file descriptor each; limit them with a second layer outside.
//!
//! A service that waits before accepting takes its slot in `poll_ready`. Acceptors should accept first, then
//! wait for readiness, then call. In the other order, an idle acceptor holds a slot.
//!
//! # Errors and outcomes
//!
//! The future of a rejected connection fails with [`Refused`](crate::error::Refused), which contains the
//! reason. The outcome is [`Refused`](crate::outcome::Outcome::Refused).
//!
//! A waiting connection leaves the queue when it is closed from outside, with
//! [`ForcedClose`](crate::connection::ForcedClose), and when its client disconnects, with an I/O error.
//!
//! # Cancellation and drop
//!
//! A dropped service or future leaves the queue. An unused slot goes to the next in the queue.
//!
//! # Limitations
//!
//! The input of a waiting connection is not read. A reset counts as a disconnect, and so does a half-close
//! before the client has sent anything (under TLS, with or without `close_notify`). A client that sends a
//! request and then half-closes may expect a response, so it stays in the queue. In server-first protocols,
//! clients must not half-close before they are served.
//!
//! Disconnects are detected on the streams of [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer),
//! `ProxyProtocolLayer` and TLS, over TCP and Unix domain sockets. Inside of other layers that wrap the stream,
//! and over a custom stream, they are detected after the wait.
//!
//! # Performance
//!
//! A connection takes a short lock twice, when it gets its slot and when it releases it. Only waiting
//! connections allocate a future and register a timer.
//!
//! # Example
//! ```
//! use portcullis_middleware::{
//!     BoxError, Connection,
//!     limit::{ConnectionLimitLayer, Refusal},
//!     error::{Refused, find},
//!     peer_addr::PeerAddrLayer,
//! };
//! use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let (limit_layer, limit) = ConnectionLimitLayer::pair(1);
//! let busy = Refusal::answer("busy, try again later\n");
//! let mut stack = ServiceBuilder::new()
//!     .layer(PeerAddrLayer::new())
//!     .layer(limit_layer.refuse().with_refusal(busy))
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         connection.write_all(b"hello\n").await
//!     });
//!
//! let (first, _client) = duplex(64);
//! let serving = stack.ready().await?.call(first);
//! assert_eq!(limit.active(), 1);
//!
//! let (second, mut client) = duplex(64);
//! let (result, received) = tokio::join!(stack.ready().await?.call(second), async move {
//!     let mut received = String::new();
//!     client.read_to_string(&mut received).await.map(|_| received)
//! });
//! assert_eq!(received?, "busy, try again later\n");
//! let error = result.expect_err("the limit is reached");
//! let refused = find::<Refused>(&*error).expect("the limit rejected it");
//! assert_eq!(refused.reason(), ConnectionLimitLayer::FULL);
//!
//! limit.set_limit(2);
//! let (third, _client) = duplex(64);
//! stack.ready().await?.call(third).await?;
//! serving.await?;
//! assert_eq!((limit.active(), limit.refused()), (0, 1));
//! # Ok(())
//! # }
//! ```

mod future;
mod handle;
mod layer;
mod limiter;
mod service;
#[cfg(test)]
mod tests;

pub use self::{
    future::ConnectionLimitFuture, handle::LimitHandle, layer::ConnectionLimitLayer,
    service::ConnectionLimit,
};
pub use crate::guard::Refusal;
