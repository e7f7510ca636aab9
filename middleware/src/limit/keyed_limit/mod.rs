//! Limits how many connections of each client, or of each other key, are served concurrently.
//!
//! A [`Key`](crate::limit::Key) chooses what is counted: the client's address by network with
//! [`ClientIp`](crate::limit::ClientIp), the listener with [`ListenerName`](crate::limit::ListenerName), or
//! the result of a function. A connection beyond the limit of its key is rejected. By default it is closed; a
//! [`Refusal`](crate::guard::Refusal) resets or answers it, or keeps it in a tarpit, in which it holds no slot.
//!
//! A connection takes a slot of its key before the inner service is called. The slot is stored in the
//! [`Connection`](crate::Connection), so it is released when the connection is dropped or detached, wherever
//! that happens: in another task, in an upgraded protocol, or during a panic. As with
//! [`ConnectionLimitLayer`](crate::limit::ConnectionLimitLayer), a connection that
//! [lingers](crate::Connection::linger) has released its slot.
//!
//! The table of keys is bounded. A key is in the table while it has connections, and counts are never evicted.
//! While the table is full, connections with new keys are rejected, or
//! [admitted](crate::limit::WhenTableFull::Admit) without a limit.
//!
//! The limit belongs to the layer value. Clones of the layer and all of its services share it. A
//! [`KeyedLimitHandle`] reads the limit and changes it at run time.
//!
//! # Position in the stack
//!
//! Inside of `ProxyProtocolLayer`, so that the client's own address counts, and outside of TLS, so that excess
//! clients are rejected before a handshake costs anything. A key that reads TLS parameters belongs inside of TLS.
//! Use it inside of a [`ConnectionLimitLayer`](crate::limit::ConnectionLimitLayer), which bounds the sum.
//!
//! # Errors and outcomes
//!
//! The future of a rejected connection fails with [`Refused`](crate::error::Refused) with the reason
//! [`KeyedLimitLayer::FULL`] or [`KeyedLimitLayer::TABLE_FULL`]. The outcome is
//! [`Refused`](crate::outcome::Outcome::Refused).
//!
//! # Cancellation and drop
//!
//! A dropped future drops its connection, which releases the slot. The slot stays with a connection that was
//! moved to another task.
//!
//! # Limitations
//!
//! Connections do not wait for a slot, because each waiting connection would hold a file descriptor.
//!
//! Connections without a key, such as those over Unix sockets with `ClientIp`, are not limited. All clients
//! behind one NAT count as one.
//!
//! # Performance
//!
//! A connection takes a short lock twice, when it gets its slot and when it releases it; keys are divided among 16
//! locks. The slot shares the allocation of the
//! connection's first guards. A full table of
//! 65,536 keys takes 2 MiB. Reads and writes are not touched.
//!
//! # Example
//!
//! ```
//! use portcullis_middleware::{
//!     BoxError, Connection, ConnectionInfo,
//!     connection::Address,
//!     error::{Refused, find},
//!     limit::{ClientIp, KeyedLimitLayer},
//! };
//! use std::net::SocketAddr;
//! use tokio::io::duplex;
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let layer = KeyedLimitLayer::new(ClientIp::new(), 1);
//! let limit = layer.handle();
//! let mut stack = ServiceBuilder::new()
//!     .layer(layer)
//!     .service_fn(|connection: Connection<_>| async { Ok::<_, BoxError>(connection) });
//!
//! let from = |peer: &str| -> Result<_, BoxError> {
//!     let info = ConnectionInfo::new(peer.parse::<SocketAddr>()?, Address::Unknown);
//!     Ok(Connection::with_info(duplex(64).0, info))
//! };
//! let first = stack.call(from("[2001:db8::1]:4000")?).await?;
//! let _other = stack.call(from("192.0.2.1:4000")?).await?;
//! let error = stack.call(from("[2001:db8::2]:4000")?).await.unwrap_err();
//! let refused = find::<Refused>(&*error).expect("addresses of one /64 are one client");
//! assert_eq!(refused.reason(), KeyedLimitLayer::FULL);
//!
//! drop(first);
//! stack.call(from("[2001:db8::2]:4000")?).await?;
//! assert_eq!((limit.active(), limit.keys(), limit.refused()), (1, 1, 1));
//! # Ok(())
//! # }
//! ```

mod counts;
mod handle;
mod layer;
#[cfg(test)]
mod tests;

pub use self::{
    handle::KeyedLimitHandle,
    layer::{KeyedLimit, KeyedLimitLayer},
};
