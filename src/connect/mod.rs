//! Outgoing TCP connections with timeouts and Happy Eyeballs.
//!
//! [`connect`] takes `"host:port"`, `(host, port)` or an address and returns a
//! `Connection<Socket<TcpStream>>`. Everything that wraps, limits, counts or closes a server's connection
//! works with it too. [`Connector`] has the settings, and is a [`tower::Service`].
//!
//! ```
//! use portcullis::{connect::connect, middleware::timeout::TimeoutIo};
//! use std::time::Duration;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let address = format!("127.0.0.1:{}", listener.local_addr()?.port());
//! # tokio::spawn(async move {
//! #     let (mut stream, _) = listener.accept().await?;
//! #     stream.write_all(b"Hello!").await?;
//! #     stream.read_to_end(&mut Vec::new()).await
//! # });
//! let connection = connect(&address).await?; // "localhost:4242"
//! assert_eq!(connection.peer_addr(), address.parse().ok());
//!
//! let bounded = |io| TimeoutIo::new(io).with_read_timeout(Duration::from_secs(5));
//! let mut connection = connection.map_io(bounded);
//! let mut said = [0; 6];
//! connection.read_exact(&mut said).await?;
//! assert_eq!(&said, b"Hello!");
//! connection.close().await
//! # }
//! ```
//!
//! # Names
//!
//! The system resolves hosts (`getaddrinfo(3)`, in the runtime's blocking pool), or a [custom
//! function](Connector::with_resolver). The port may be the name of a TCP service, as in `"localhost:http"`
//! or `("localhost", "http")`. Names are case-sensitive and are looked up in `/etc/services` (on Windows
//! `System32\drivers\etc\services`). The file is read for each connection, so changes take effect
//! immediately; numeric ports skip it. Systems without that file, such as small container images, use a short
//! built-in list of common names (`http`, `https`, `ssh`, `smtp`, `imaps`, `postgresql`…). If the file
//! exists, a name that it lacks is an error.
//!
//! # Happy Eyeballs
//!
//! Addresses are tried alternately over IPv6 and IPv4 (RFC 8305), beginning with the family that the resolver
//! prefers. The next attempt begins 250 ms after the previous one, or immediately when one fails. The first
//! success wins, and the others are dropped. An unresponsive address therefore costs a quarter of a second
//! instead of the whole timeout. The RFC's parts on asynchronous DNS are left out, because the system
//! resolves both families together.
//!
//! # Timeouts
//!
//! Name resolution and all attempts together have ten seconds; see [`Connector::with_timeout`]. For reads and
//! writes on the connection use [`TimeoutIo`](portcullis_middleware::timeout::TimeoutIo), as above.
//!
//! # tower
//!
//! A [`Connector`] is a `Service<Target>`, so tower's layers (timeouts, retries, limits, load balancing) wrap
//! it, and its combinators process the connection:
//!
//! ```
//! use portcullis::{Connection, connect::{Connector, Target}};
//! use portcullis::middleware::timeout::TimeoutIo;
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis::BoxError> {
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let address = listener.local_addr()?.to_string();
//! let connector = ServiceBuilder::new()
//!     .concurrency_limit(16) // connects at once
//!     .map_response(|connection: Connection<_>| connection.map_io(TimeoutIo::new))
//!     .service(Connector::new());
//!
//! let target: Target = address.parse()?; // "example.org:4242"
//! let connection = connector.oneshot(target).await?;
//! # assert_eq!(connection.peer_addr(), Some(listener.local_addr()?));
//! # Ok(())
//! # }
//! ```
//!
//! TLS (feature `tls`) takes one more step, with the name that the server's certificate must match:
//!
#![cfg_attr(feature = "tls", doc = "```no_run")]
#![cfg_attr(not(feature = "tls"), doc = "```ignore")]
//! use portcullis::{BoxError, connect::connect, middleware::tls::TlsConnector};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # async fn ask(tls: TlsConnector) -> Result<(), BoxError> {
//! let connection = connect("example.org:https").await?;
//! let mut connection = tls.connect("example.org", connection).await?;
//! connection.write_all(b"GET / HTTP/1.0\r\nhost: example.org\r\n\r\n").await?;
//! let mut answer = Vec::new();
//! connection.read_to_end(&mut answer).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # PROXY headers
//!
//! A server that should see the address of the client behind this connection gets it in a PROXY header (feature
//! `proxy-protocol`), written before TLS and everything else:
//!
#![cfg_attr(feature = "proxy-protocol", doc = "```")]
#![cfg_attr(not(feature = "proxy-protocol"), doc = "```ignore")]
//! use portcullis::{BoxError, Connection, ConnectionInfo, connect::{Connector, Target}};
//! use portcullis::connection::Socket;
//! use portcullis::middleware::proxy_protocol::{ProxyHeaderEncoder, SendProxyHeaderLayer};
//! use tokio::net::TcpStream;
//! use tower::ServiceExt;
//!
//! async fn forward_to(
//!     server: Target,
//!     client: &ConnectionInfo,
//! ) -> Result<Connection<Socket<TcpStream>>, BoxError> {
//!     let header = ProxyHeaderEncoder::v2().with_authority(true).encode(client);
//!     let connector = Connector::new().with_layers(SendProxyHeaderLayer::new(header));
//!     connector.oneshot(server).await // then TLS, if the server expects it
//! }
//! # use tokio::io::AsyncReadExt;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let peer: std::net::SocketAddr = "198.51.100.7:40000".parse()?;
//! # let client = ConnectionInfo::new(peer, peer);
//! # let connection = forward_to(listener.local_addr()?.to_string().parse()?, &client).await?;
//! # let mut received = [0; 28];
//! # listener.accept().await?.0.read_exact(&mut received).await?;
//! # assert_eq!(received[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
//! # drop(connection);
//! # Ok(())
//! # }
//! ```

mod attempt;
mod buffers;
mod connector;
mod error;
#[cfg(feature = "http-client")]
pub mod http;
mod layered;
pub mod phase;
mod race;
mod services;
mod stream;
mod target;
#[cfg(test)]
mod tests;

pub(crate) use self::buffers::Buffers;
pub use self::{
    attempt::Attempt,
    connector::{Connecting, Connector},
    error::ConnectError,
    layered::{LayeredConnector, ReturnConnection},
    target::{BadTarget, Target},
};

use portcullis_middleware::{Connection, connection::Socket};
use tokio::net::TcpStream;

/// Connects to a [`Target`] with the default settings of [`Connector::new`].
///
/// ```
/// use portcullis::connect::connect;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let port = listener.local_addr()?.port();
/// let one = connect(format!("localhost:{port}")).await?;
/// let same = connect(("localhost", port)).await?;
/// assert_eq!(one.peer_addr(), same.peer_addr());
/// assert_ne!(one.local_addr(), same.local_addr());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As [`Connector::connect`].
///
/// # Panics
///
/// Outside of a tokio runtime with I/O and time enabled.
///
/// # Cancel safety
///
/// As [`Connector::connect`].
pub async fn connect<T>(target: T) -> Result<Connection<Socket<TcpStream>>, ConnectError>
where
    T: TryInto<Target, Error: Into<ConnectError>>,
{
    Connector::new().connect(target).await
}
