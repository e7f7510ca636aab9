//! Limits how many connections are served at once.
//!
//! There is one limiter, and what it does when it is full is chosen:
//!
//! * **Wait before accepting**, [`ConnectionLimitLayer::new`]: the service is not ready while the
//!   limit is reached. Further clients wait in the kernel's accept queue and cost nothing here.
//! * **Wait up to a bound, then refuse**, [`wait_up_to`](ConnectionLimitLayer::wait_up_to): the
//!   connection is accepted and waits in the future, for a bounded time and with bounded company
//!   (each holds a descriptor). Older servers looked for a free slot every half second and gave up
//!   after the tenth time; `wait_up_to(Duration::from_secs(5), 100)` is that bound, without the
//!   polling.
//! * **Refuse at once**, [`refuse`](ConnectionLimitLayer::refuse).
//!
//! How a connection is refused is a [`Refusal`]: closed, reset, or told something first. The future
//! then fails with [`Refused`](crate::error::Refused), which knows the reason.
//!
//! # What counts
//!
//! A connection takes a slot before the inner service is called, and the slot rides in the
//! [`Connection`](crate::Connection), not in the future. It is free again once the connection is
//! dropped or detached, wherever it lives by then: in another task, in an upgraded protocol, in a
//! panic. Slots are given in the order in which they were asked for.
//!
//! A connection that is [closed](crate::Connection::close) gives its slot back when it begins to
//! [linger](crate::Connection::linger): a client that takes its time to receive the answer keeps no other
//! from being served. Up to 1,024 connections of a process linger without a slot, each with a descriptor;
//! allow for them in the limit of open files. Beyond that number, they keep their slots until they are
//! closed.
//!
//! The limit belongs to the layer value. Its clones and all services they make share it, also where
//! a clone does something else when full; two layers made by two calls of `new` are two limits. A
//! [`LimitHandle`] watches the limit and changes it at run time.
//!
//! # Place in the stack
//!
//! Inside [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer). Outside of TLS it also counts
//! handshakes and refuses before they cost anything, but an answer is plain text; inside of TLS an
//! answer is encrypted, and only what finished its handshake is counted.
//!
//! Layers that wait for the client before they call their inner service ([TLS](crate::tls) and others:
//! `ProxyProtocolLayer`, [`from_fn`](fn@crate::handler::from_fn), [`try_map_io`](crate::stream::try_map_io)) ask it
//! for readiness after that. Inside of them a limit that waits before accepting takes no slot for a
//! client that is silent. It holds connections back there, each with its file descriptor, and not in the
//! accept queue; how many wait is up to a limit outside.
//!
//! A service that waits before accepting takes its slot in `poll_ready`. So accept first, then wait
//! for readiness, then call, in each of several acceptors: one that is made ready first and accepts
//! then holds a slot while no client connects.
//!
//! # What a drop leaves behind
//!
//! Nothing. A dropped service or future leaves the queue, and a slot that it was given and did not
//! use goes to the next.
//!
//! While a connection waits in the future, its input is not read. It leaves the queue at once when it is
//! closed from outside, with [`ForcedClose`](crate::connection::ForcedClose), and when its client leaves,
//! with an IO error: by a reset, or by an end of its side before it has sent anything (under TLS, with or
//! without `close_notify`). A client that sends something and then ends its side may wait for an answer, so
//! it keeps its place. In protocols in which the server speaks first, clients must not end their side before
//! they have been served. The client is looked at
//! where the IO is that of [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer), `ProxyProtocolLayer` or TLS,
//! over TCP or a Unix domain socket. Inside of other layers that change the IO, and over a custom stream, it
//! is not: that the client left is noticed after the wait.
//!
//! # Example
//!
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
//! let (result, told) = tokio::join!(stack.ready().await?.call(second), async move {
//!     let mut told = String::new();
//!     client.read_to_string(&mut told).await.map(|_| told)
//! });
//! assert_eq!(told?, "busy, try again later\n");
//! let error = result.expect_err("there was no room");
//! let refused = find::<Refused>(&*error).expect("the limit refused it");
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
mod refusal;
mod service;
#[cfg(test)]
mod tests;

pub use self::{
    future::ConnectionLimitFuture, handle::LimitHandle, layer::ConnectionLimitLayer,
    refusal::Refusal, service::ConnectionLimit,
};
