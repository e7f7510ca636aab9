//! The client's address as a trusted proxy tells it: the PROXY protocol, versions 1 and 2.
//!
//! A balancer that passes TCP on hides its clients: the other end of the socket is the balancer. So
//! it puts a header before the first byte of each connection. [`ProxyProtocolLayer`] takes it off and
//! records what it tells: [`Connection::peer_addr`] and [`local_addr`](crate::Connection::local_addr)
//! are then those of the client, while [`ConnectionInfo::socket_peer`] stays the balancer's.
//! What else a header tells (host name, TLS of the client, ids of the cloud's endpoints) is a
//! [`ProxyHeader`] in the connection's [`Extensions`](crate::Extensions). A header that is the
//! balancer's own (`LOCAL`) or names no client (`UNKNOWN`) leaves the addresses as they are.
//!
//! # Who is believed
//!
//! Anyone who may send a PROXY header can claim any client address. So a header is read only where the other end
//! of the socket is one of the [`TrustedSources`]:
//!
//! | source | by default | or |
//! |---|---|---|
//! | trusted | must send a header | may do without: [`with_optional_header`](ProxyProtocolLayer::with_optional_header) |
//! | any other | is refused, unheard | is served as it is: [`with_direct_clients`](ProxyProtocolLayer::with_direct_clients) |
//!
//! Refusal is the default because a server behind a balancer is not meant to be reached past it,
//! and because a balancer that is missing in the list is then named in the log. A source
//! that is not trusted is never searched for a header, so none of it can be believed: it arrives as
//! the first bytes of what that client says.
//!
//! # Place in the stack
//!
//! Right inside [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer), the trace and the limit on
//! connections, outside of everything that looks at bytes or asks for the client's address: the
//! header comes before the `ClientHello` of TLS.
//!
//! # Bounds
//!
//! A header may take 5 s and 4 KiB; both can be set. Memory is taken for what came, not for what a
//! header claims. The layer is always ready and asks the inner service for readiness after the header, so
//! a client that sends none takes no permit of a limit inside.
//!
//! # Log
//!
//! Rejections that point to a mistake in the configuration are logged at WARN, once a minute for each
//! layer and kind, with the number of those left out: a source that is not trusted, a trusted source
//! that sends no valid header in time, and a second header. Connections that end before the header
//! does, as health checks do, are not logged.
//!
//! # What is left behind
//!
//! - Bytes that came together with the header are kept by [`PrefixedIo`](crate::io::PrefixedIo) for the inner service.
//! - Who breaks the protocol, takes too long or is refused sees a reset, as the protocol recommends:
//!   there is nothing to say that a proxy would pass on, and its log shows that something is wrong.
//!   An [`OnErrorLayer`](crate::handler::on_error) outside gets the error without the connection. The failures
//!   are [`ProxyHeaderError`], [`Elapsed`] with [`TimeoutPhase::PROXY_HEADER`], and [`Refused`] with
//!   the reason [`UNTRUSTED_SOURCE`].
//! - Who ends before the header does, as simple health checks do, is closed without a reset; that is
//!   a [`ProxyHeaderError`] with an IO error.
//! - Dropping the future closes the connection.
//!
//! # What it does not
//!
//! - It sends no headers.
//! - It does not look at `Forwarded` or `X-Forwarded-For`: that is HTTP's.
//! - It does not take the word of fields: the TLS of the client, for one, is not in
//!   [`Connection::tls`](crate::Connection::tls).
//! - It takes off one header: where proxies are chained, the last one has to pass the address on.
//!   A second layer inside of it takes off a second header and records nothing of that, because each
//!   layer judges by the other end of the socket, which sent only the first.
//!
//! # Cost
//!
//! A source that is not trusted costs one comparison for each trusted network, and no allocation.
//! A header costs six allocations (1.3 kB), one more if it has fields, and one more if bytes of the
//! client came with it. Only the addresses and the [`ProxyHeader`] outlive it; what remains else is
//! one comparison per read.
//!
//! # Example
//!
//! ```
//! use portcullis_middleware::{Connection, ServiceBuilderExt, proxy_protocol::ProxyProtocolLayer};
//! use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::{TcpListener, TcpStream}};
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis_middleware::BoxError> {
//! let balancers = "127.0.0.0/8, ::1".parse()?;
//! let mut stack = ServiceBuilder::new()
//!     .peer_addr()
//!     .proxy_protocol(ProxyProtocolLayer::new(balancers))
//!     // TLS and the rest go here.
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         let client = connection.peer_addr().expect("an IP address");
//!         connection.write_all(format!("hello, {client}").as_bytes()).await?;
//!         connection.close().await
//!     });
//!
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let mut balancer = TcpStream::connect(listener.local_addr()?).await?;
//! balancer.write_all(b"PROXY TCP4 198.51.100.7 192.0.2.1 40000 443\r\n").await?;
//!
//! let serve = stack.call(listener.accept().await?.0);
//! let mut answer = String::new();
//! tokio::try_join!(serve, async {
//!     balancer.read_to_string(&mut answer).await?;
//!     balancer.shutdown().await.map_err(Into::into)
//! })?;
//! assert_eq!(answer, "hello, 198.51.100.7:40000");
//! # Ok(())
//! # }
//! ```
//!
//! The protocol is specified in `proxy-protocol.txt` of HAProxy's documentation.
//!
//! [`Connection::peer_addr`]: crate::Connection::peer_addr
//! [`ConnectionInfo::socket_peer`]: crate::ConnectionInfo::socket_peer
//! [`Elapsed`]: crate::error::Elapsed
//! [`TimeoutPhase::PROXY_HEADER`]: crate::error::TimeoutPhase::PROXY_HEADER
//! [`Refused`]: crate::error::Refused
//! [`UNTRUSTED_SOURCE`]: ProxyProtocolLayer::UNTRUSTED_SOURCE

mod error;
mod future;
mod header;
mod layer;
mod parse;
mod receive;
mod service;
#[cfg(test)]
mod tests;
mod trusted;
mod warnings;

pub use self::{
    error::ProxyHeaderError,
    future::ProxyProtocolFuture,
    header::{ProxyHeader, ProxySsl},
    layer::ProxyProtocolLayer,
    service::ProxyProtocol,
    trusted::{InvalidNetwork, TrustedSources},
};
