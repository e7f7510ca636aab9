//! Chooses the service of a connection by server name, ALPN or protocol.
//!
//! [`Router`] is a service at the end of a stack with a [`PeekLayer`](crate::peek::PeekLayer). Its [`Routes`] are
//! services for connections, such as a stack with `TlsLayer` that terminates TLS, or a function that passes the
//! bytes on to another server. On one port some names can therefore be terminated here and others elsewhere.
//!
//! The first match counts, in this order:
//!
//! 1. the ALPN names of the ClientHello, in the client's order of preference
//! 2. its server name, exactly
//! 3. its server name by a wildcard for its first label: `*.example` matches `shop.example`, but neither `example`
//!    nor `a.shop.example`
//! 4. the [`Protocol`](crate::peek::Protocol)
//! 5. the default
//!
//! Server names ignore case and a trailing dot. Clients without one, or with an IP address, match by the rest. For
//! conditions on two values use a `Router` as a route.
//!
//! [`RouterHandle::replace`] swaps all routes at run time. Each connection keeps the route that was chosen for it.
//!
//! # Position in the stack
//!
//! Place it inside `PeekLayer`, as the innermost service. Layers for all connections go outside, layers for some
//! go into their route.
//!
//! # Errors and outcomes
//!
//! A connection without a route fails with [`Refused`](crate::error::Refused) and the reason
//! [`NO_ROUTE`](Router::NO_ROUTE), and the client sees a reset. Other errors are those of the route.
//!
//! The router is always ready. A route is polled for readiness once it is chosen, so one that is not ready delays
//! only its own connections. While one waits, a client that resets its connection is detected.
//!
//! # Cancellation and drop
//!
//! Dropping the future closes the connection. Dropping the last clone of a router leaves the routes of open
//! connections in memory until these end.
//!
//! # Limitations
//!
//! - The routed values are the client's claims. A client can send one server name in its ClientHello and another
//!   host name in its HTTP requests.
//! - The router has no mode that only observes, because a connection without a route has no service.
//!
//! # Performance
//!
//! Choosing a route takes at most one look-up for each offered ALPN name and two for the server name, without a
//! lock. A connection costs two allocations: a clone of its route and the route's future.
//!
//! # Example
//!
//! ```
//! use portcullis_middleware::{Connection, ServiceBuilderExt, peek::{PeekLayer, Protocol}};
//! use portcullis_middleware::{io::PrefixedIo, route::{Router, Routes}};
//! use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional};
//! use tokio::net::TcpStream;
//! use tower::{ServiceBuilder, service_fn};
//!
//! /// Passes the bytes on to the server at `address`.
//! async fn forward<IO>(mut connection: Connection<IO>, address: &str) -> std::io::Result<()>
//! where
//!     IO: AsyncRead + AsyncWrite + Unpin,
//! {
//!     let mut server = TcpStream::connect(address).await?;
//!     copy_bidirectional(&mut connection, &mut server).await?;
//!     connection.close().await
//! }
//!
//! # fn main() -> Result<(), portcullis_middleware::BoxError> {
//! let plain = |mut connection: Connection<_>| async move {
//!     connection.write_all(b"HTTP/1.1 426 Upgrade Required\r\nconnection: close\r\n\r\n").await?;
//!     connection.close().await
//! };
//! let routes = Routes::new()
//!     .with_name("mail.example", service_fn(|connection| forward(connection, "10.0.0.7:443")))?
//!     .with_name("*.shop.example", service_fn(|connection| forward(connection, "10.0.0.8:443")))?
//!     .with_protocol(Protocol::Http1, service_fn(plain))?;
//! let router = Router::new(routes);
//! let handle = router.handle(); // for handle.replace(…)
//! let stack = ServiceBuilder::new().peer_addr().layer(PeekLayer::new()).service(router);
//! # type Io = portcullis_middleware::connection::Socket<TcpStream>;
//! # let check: &dyn tower::Service<TcpStream, Response = (), Error = _, Future = _> = &stack;
//! # let _: (_, &portcullis_middleware::route::RouterHandle<PrefixedIo<Io>>) = (check, &handle);
//! # Ok(())
//! # }
//! ```

mod router;
mod routes;
mod table;
#[cfg(test)]
mod tests;

pub use self::{
    router::{Router, RouterFuture, RouterHandle},
    routes::{InvalidRoute, Route, Routes},
    table::RouteTable,
};
