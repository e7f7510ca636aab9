//! Detects the protocol of a connection by its first bytes, without consuming them.
//!
//! [`PeekLayer`] reads until its detector has decided, and passes on the connection as
//! [`PrefixedIo`](crate::io::PrefixedIo), which returns all bytes again. By default the detector is
//! [`ProtocolDetector`]. The result, a [`Protocol`], is a value of the connection's
//! [`Extensions`](crate::Extensions). The server name and the ALPN names of a TLS client are also in
//! [`ConnectionInfo::hello`](crate::ConnectionInfo::hello), where outer layers such as a trace see them. This needs no
//! TLS library, so it also works where TLS is passed through to another server.
//!
//! [`Router`](crate::route::Router) chooses a service by the result. A custom [`Detector`] examines other
//! protocols. [`ClientHelloParser`] is the parser alone, for code without this layer.
//!
//! # Position in the stack
//!
//! Place it inside [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer), the trace, the connection limit and
//! `ProxyProtocolLayer`, whose header precedes the client's bytes. Place it outside of `TlsLayer`.
//!
//! # Errors and outcomes
//!
//! | failure | error | the client sees |
//! |---|---|---|
//! | [too many bytes](PeekLayer::with_max_len), 16 KiB by default | [`Refused`] with the reason [`TOO_LONG`] | a reset |
//! | an invalid ClientHello | [`Refused`] with the reason [`INVALID`] and a [`ClientHelloError`] as its source | a reset |
//! | [too much time](PeekLayer::with_timeout), 5 s by default | [`Elapsed`] with [`TimeoutPhase::CLIENT_HELLO`] | a reset |
//! | the client disconnects first | an I/O error of kind [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof) | a close |
//!
//! An invalid ClientHello is rejected, because a lenient server behind a route could read another name in it.
//! [`Protocol::Unknown`] is a result and passed on.
//!
//! The layer is always ready and waits for the inner service after the first bytes, so silent clients leave the
//! permits of a limit inside to others. While it waits, a client that resets its connection is detected.
//!
//! With [`with_observe`](PeekLayer::with_observe), connections are passed on instead of rejected. They are
//! counted and [noted](crate::ConnectionInfo::notes), and the log has up to five lines per second about them.
//!
//! # Cancellation and drop
//!
//! Dropping the future closes the connection.
//!
//! # Limitations
//!
//! - Clients of server-first protocols (SMTP, IMAP, MySQL) wait for the server's greeting and send nothing, so they
//!   reach the timeout. Serve such protocols on a port of their own, or with a [prelude](crate::prelude).
//! - HTTP/1 is detected by its nine common methods. Other methods are [`Protocol::Unknown`].
//! - With Encrypted ClientHello the server name is that of the public front.
//! - The values are the client's claims. TLS authenticates them later, if it is terminated here.
//!
//! # Performance
//!
//! The buffer begins with 512 bytes and grows with the received bytes. A ClientHello takes one more allocation for
//! each part that is kept (name, ALPN), and one if it spans several records. JA4 is off by default. Afterwards the
//! stream costs one comparison per read.
//!
//! # Example
//!
//! ```
//! use portcullis_middleware::{Connection, ServiceBuilderExt, peek::{PeekLayer, Protocol}};
//! use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::{TcpListener, TcpStream}};
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis_middleware::BoxError> {
//! let mut stack = ServiceBuilder::new()
//!     .peer_addr()
//!     .layer(PeekLayer::new())
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         let output = match connection.extensions().get() {
//!             Some(Protocol::Http1) => "HTTP/1.1 400 Bad Request\r\n\r\n",
//!             Some(Protocol::Tls) => "TLS goes here",
//!             _ => "?",
//!         };
//!         connection.write_all(output.as_bytes()).await?;
//!         connection.close().await
//!     });
//!
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let mut client = TcpStream::connect(listener.local_addr()?).await?;
//! client.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
//!
//! let serve = stack.call(listener.accept().await?.0);
//! let mut answer = String::new();
//! tokio::try_join!(serve, async {
//!     client.read_to_string(&mut answer).await?;
//!     client.shutdown().await.map_err(Into::into)
//! })?;
//! assert!(answer.starts_with("HTTP/1.1 400"));
//! # Ok(())
//! # }
//! ```
//!
//! [`Elapsed`]: crate::error::Elapsed
//! [`Refused`]: crate::error::Refused
//! [`TimeoutPhase::CLIENT_HELLO`]: crate::error::TimeoutPhase::CLIENT_HELLO
//! [`TOO_LONG`]: PeekLayer::TOO_LONG
//! [`INVALID`]: PeekLayer::INVALID

mod client_hello;
mod detector;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod ja4;
mod layer;
mod protocol;
mod receive;
mod service;
#[cfg(test)]
mod tests;

pub(crate) use self::client_hello::check_host_name;
pub use self::{
    client_hello::{ClientHello, ClientHelloError, ClientHelloParser},
    detector::{Detect, Detector},
    layer::PeekLayer,
    protocol::{Protocol, ProtocolDetector},
    service::{Peek, PeekFuture},
};
