//! Reads the client's address from the PROXY header of a trusted load balancer.
//!
//! The layer supports versions 1 and 2 of the PROXY protocol.
//!
//! A load balancer that forwards TCP hides its clients, because the socket's peer is the load balancer. It
//! therefore sends a header before the first byte of each connection. [`ProxyProtocolLayer`] removes the
//! header and records the client's addresses: [`Connection::peer_addr`] and
//! [`local_addr`](crate::Connection::local_addr) return these, and [`ConnectionInfo::socket_peer`] still
//! returns the load balancer's. A header of the load balancer's own connection (`LOCAL`), or one without a
//! client (`UNKNOWN`), leaves the addresses unchanged.
//!
//! The additional fields (host name, the client's TLS, ids of cloud endpoints) are in [`ProxyHeader`], a
//! value of the connection's [`Extensions`](crate::Extensions).
//!
//! Anyone who may send a PROXY header can claim any client address. A header is therefore only read if the
//! socket's peer is one of the [`TrustedSources`]:
//!
//! | source | by default | or |
//! |---|---|---|
//! | trusted | must send a header | may omit it, with [`with_optional_header`](ProxyProtocolLayer::with_optional_header) |
//! | any other | is rejected before anything is read | is served as it is, with [`with_direct_clients`](ProxyProtocolLayer::with_direct_clients) |
//!
//! Other sources are rejected by default because clients should not bypass the load balancer. The log then
//! also names a load balancer that is missing from the list. The application receives headers from untrusted
//! sources as ordinary data.
//!
//! # Position in the stack
//!
//! Place it directly inside [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer), the trace and the connection
//! limit. It must be outside of everything that reads bytes or needs the client's address, because the header
//! precedes the `ClientHello` of TLS.
//!
//! # Errors and outcomes
//!
//! | failure | error | the client sees |
//! |---|---|---|
//! | an untrusted source | [`Refused`] with the reason [`UNTRUSTED_SOURCE`] | a reset |
//! | a missing or invalid header | [`ProxyHeaderError`] | a reset |
//! | the header times out | [`Elapsed`] with [`TimeoutPhase::PROXY_HEADER`] | a reset |
//! | the connection ends before the header does | [`ProxyHeaderError`] with an I/O error | a close |
//!
//! The protocol recommends the reset, because the proxy cannot forward a response here and its log then shows
//! the problem. An [`OnErrorLayer`](crate::handler::on_error) outside receives the error without the
//! connection. Simple health checks connect and close, which causes the last failure.
//!
//! By default a header may take 5 s and 4 KiB. The layer is always ready and waits for the inner service
//! after the header, so silent clients leave the permits of a limit inside to others.
//!
//! ## Log
//!
//! Rejections that indicate a misconfiguration are logged at WARN: an untrusted source, a trusted source
//! without a valid header, and a second header. Each layer logs one of each kind per minute, with the number
//! of those left out. Connections that end before the header does are not logged, because health checks do
//! that.
//!
//! # Cancellation and drop
//!
//! Dropping the future closes the connection. Bytes received together with the header are kept by
//! [`PrefixedIo`](crate::io::PrefixedIo) for the inner service.
//!
//! # Limitations
//!
//! - The layer only receives headers. On the client side, [`ProxyHeaderEncoder`] and [`SendProxyHeaderLayer`] send
//!   them.
//! - It ignores `Forwarded` and `X-Forwarded-For`, which belong to HTTP.
//! - It does not act on the fields. [`Connection::tls`](crate::Connection::tls), for example, does not
//!   include the TLS between client and proxy.
//! - It removes one header. In a chain of proxies, the last one must forward the client's address. A second
//!   layer inside removes a second header but records nothing, because trust depends on the socket's peer,
//!   which sent only the first.
//!
//! # Performance
//!
//! An untrusted source costs one comparison per trusted network, without an allocation. A header costs six
//! allocations (1.3 kB), one more if it has fields, and one more if bytes of the client came with it. The
//! buffer grows with the received bytes, whatever length the header claims. Afterwards only the addresses and
//! the [`ProxyHeader`] remain, and one comparison per read.
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
//!     .layer(ProxyProtocolLayer::new(balancers))
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
mod send;
mod service;
#[cfg(test)]
mod tests;
mod trusted;
mod warnings;

pub use self::{
    error::ProxyHeaderError,
    future::ProxyProtocolFuture,
    header::{ProxyHeader, ProxySsl},
    layer::{ProxyProtocolLayer, Source},
    send::{ProxyHeaderEncoder, SendProxyHeader, SendProxyHeaderFuture, SendProxyHeaderLayer},
    service::ProxyProtocol,
    trusted::{InvalidNetwork, TrustedSources},
};
