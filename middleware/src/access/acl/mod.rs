//! Admits or rejects connections by the client's address.
//!
//! An [`Acl`] has a list of allowed and a list of denied networks, each an [`IpSet`](crate::ip_set::IpSet).
//! An address on the deny list is rejected. If there is an allow list, every address that is not on it is
//! rejected as well, and so is a connection without an IP address.
//!
//! [Predicates](AclLayer::with_predicate) judge by everything else that is known about a connection, such as
//! its listener or the client's certificate. A connection must pass the list and all predicates.
//!
//! An [`AclHandle`] replaces the list at run time. Open connections stay open; the handle judges them by the
//! new list, so that those that would be rejected now can be closed.
//!
//! # Position in the stack
//!
//! The layer judges when it is called. To judge the address from a PROXY header, put it inside of
//! `ProxyProtocolLayer`; outside of TLS, it then rejects clients before a handshake costs anything.
//! [`Subject::Socket`] judges the peer of the socket, such as a load balancer, and can be outermost.
//! Predicates that read TLS parameters belong inside of TLS.
//!
//! # Errors and outcomes
//!
//! The future of a rejected connection fails with [`Refused`](crate::error::Refused) with the reason
//! [`AclLayer::DENIED`]. Its source is [`Denied`], which names the rule. The outcome is
//! [`Refused`](crate::outcome::Outcome::Refused).
//!
//! # Cancellation and drop
//!
//! The decision takes no time and holds nothing. A rejected connection is closed in `call`, unless the
//! [`Refusal`](crate::guard::Refusal) answers it or keeps it open; dropping the future then closes it.
//!
//! # Limitations
//!
//! Many clients may share one address, behind a carrier-grade NAT for example. Host names cannot be listed.
//!
//! # Performance
//!
//! One short lock and two binary searches per connection, without an allocation. Among 50,000 networks, a search
//! takes about 0.1 µs for IPv4 and 0.3 µs for IPv6. Reads and writes are not touched.
//!
//! # Example
//!
//! ```
//! use portcullis_middleware::{
//!     BoxError, Connection, ConnectionInfo,
//!     access::{Acl, AclLayer, Denied},
//!     connection::Address,
//!     error::find,
//! };
//! use std::net::SocketAddr;
//! use tokio::io::duplex;
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let acl = Acl::new().allow("10.0.0.0/8".parse()?).deny("10.66.0.0/16".parse()?);
//! let layer = AclLayer::new(acl);
//! let handle = layer.handle();
//! let mut stack = ServiceBuilder::new()
//!     .layer(layer)
//!     .service_fn(|_connection: Connection<_>| async { Ok::<_, BoxError>("served") });
//!
//! let from = |peer: &str| -> Result<_, BoxError> {
//!     let info = ConnectionInfo::new(peer.parse::<SocketAddr>()?, Address::Unknown);
//!     Ok(Connection::with_info(duplex(64).0, info))
//! };
//! assert_eq!(stack.call(from("10.1.2.3:4000")?).await?, "served");
//! let error = stack.call(from("10.66.0.1:4000")?).await.unwrap_err();
//! let denied = find::<Denied>(&*error).expect("the layer rejected it");
//! assert_eq!(denied.rule(), Acl::ON_DENY_LIST);
//!
//! handle.replace(Acl::new());
//! assert_eq!(stack.call(from("10.66.0.1:4000")?).await?, "served");
//! # Ok(())
//! # }
//! ```

mod handle;
mod layer;
mod list;
mod policy;
#[cfg(test)]
mod tests;

pub use self::{
    handle::AclHandle,
    layer::{Access, AclLayer},
    list::Acl,
    policy::{Denied, Subject, Verdict},
};
