//! Limits how often each client, or each other key, may connect.
//!
//! A [`Key`](crate::limit::Key) chooses what is measured, such as the client's address by network with
//! [`ClientIp`](crate::limit::ClientIp). The key `()` measures all connections together. A connection beyond
//! the [`Rate`] of its key is rejected and does not count. By default it is closed; a
//! [`Refusal`](crate::guard::Refusal) resets or answers it, or keeps it in a tarpit.
//!
//! The table of keys is bounded. A key whose burst is complete again is unused, and is removed when the table is
//! full. While all keys are in use, connections with new keys are admitted without a limit, counted and logged, or
//! [rejected](crate::limit::WhenTableFull::Refuse).
//!
//! The rate belongs to the layer value. Clones of the layer and all of its services share it. A
//! [`RateLimitHandle`] reads the rate and changes it at run time.
//!
//! # Position in the stack
//!
//! Inside of `ProxyProtocolLayer`, so that the client's own address counts, and outside of TLS, so that excess
//! clients are rejected before a handshake costs anything. Outside of a
//! [`ConnectionLimitLayer`](crate::limit::ConnectionLimitLayer) that waits before accepting, rejected clients take
//! none of its slots.
//!
//! # Errors and outcomes
//!
//! The future of a rejected connection fails with [`Refused`](crate::error::Refused) with the reason
//! [`RateLimitLayer::EXCEEDED`] or [`RateLimitLayer::TABLE_FULL`]. The outcome is
//! [`Refused`](crate::outcome::Outcome::Refused).
//!
//! # Cancellation and drop
//!
//! A connection counts when it is admitted. A dropped future does not give it back.
//!
//! # Limitations
//!
//! The rate is that of new connections. Requests and bytes within a connection are not measured.
//!
//! Connections without a key, such as those over Unix sockets with `ClientIp`, are not limited. All clients
//! behind one NAT count as one.
//!
//! # Performance
//!
//! A connection reads the clock and takes two short locks. A full table of 65,536 keys takes 2.3 MiB. A new
//! key in a full table looks for unused keys, once one of them can be unused, among about a hundred. The next one
//! goes on from there. Reads and writes are not touched.
//!
//! # Example
//!
//! ```
//! use portcullis_middleware::{
//!     BoxError, Connection, ConnectionInfo,
//!     connection::Address,
//!     error::{Refused, find},
//!     limit::{ClientIp, Rate, RateLimitLayer},
//! };
//! use std::{net::SocketAddr, time::Duration};
//! use tokio::{io::duplex, time::advance};
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let layer = RateLimitLayer::new(ClientIp::new(), Rate::per_minute(60).with_burst(2));
//! let mut stack = ServiceBuilder::new()
//!     .layer(layer)
//!     .service_fn(|_connection: Connection<_>| async { Ok::<_, BoxError>("served") });
//!
//! let connection = || -> Result<_, BoxError> {
//!     let info = ConnectionInfo::new("192.0.2.1:4000".parse::<SocketAddr>()?, Address::Unknown);
//!     Ok(Connection::with_info(duplex(64).0, info))
//! };
//! stack.call(connection()?).await?;
//! stack.call(connection()?).await?;
//! let error = stack.call(connection()?).await.unwrap_err();
//! let refused = find::<Refused>(&*error).expect("the burst is used up");
//! assert_eq!(refused.reason(), RateLimitLayer::EXCEEDED);
//!
//! advance(Duration::from_secs(1)).await;
//! stack.call(connection()?).await?;
//! # Ok(())
//! # }
//! ```

mod handle;
mod layer;
mod rate;
#[cfg(test)]
mod tests;

pub use self::{
    handle::RateLimitHandle,
    layer::{RateLimit, RateLimitLayer},
    rate::Rate,
};
