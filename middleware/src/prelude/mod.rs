//! Speaks the plain text of protocols whose TLS begins on request (STARTTLS).
//!
//! Clients of PostgreSQL, mail and XMPP request TLS in the plain text of their protocol, so `TlsLayer` alone cannot
//! serve them. [`PreludeLayer`] answers for the server until the client has requested TLS, and passes on the
//! connection where TLS begins. The preludes are [`Postgres`], [`Smtp`], [`Imap`], [`Pop3`] and [`Xmpp`]; others
//! implement [`Prelude`]. Clients that do not request TLS are rejected.
//!
//! [`TlsRequest`] is the other side: it requests TLS from a server.
//!
//! # Position in the stack
//!
//! Place it directly outside of `TlsLayer`, and inside [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer), the
//! trace, the connection limit and `ProxyProtocolLayer`. For routes by server name place
//! [`PeekLayer`](crate::peek::PeekLayer) between this layer and TLS.
//!
//! # Errors and outcomes
//!
//! | failure | error | the client sees |
//! |---|---|---|
//! | [bytes behind the request for TLS](PreludeLayer::PIPELINED) | [`Refused`] | a close |
//! | [no TLS](PreludeLayer::NO_TLS) behind the reply to the request | [`Refused`] | a close |
//! | [too many bytes](PreludeLayer::with_max_len), 4 KiB by default | [`Refused`] | a close |
//! | [too many commands](PreludeLayer::with_max_commands), 16 by default | [`Refused`] | a close |
//! | no TLS, or an invalid command | [`Refused`] with a reason of the prelude | its error, if it has one, and a close |
//! | [too much time](PreludeLayer::with_timeout), 10 s by default | [`Elapsed`] with [`TimeoutPhase::PRELUDE`] | a close |
//! | the client disconnects | an I/O error | a close |
//!
//! Bytes behind the request for TLS are rejected, because a server that reads them after the handshake would take
//! plain text from the network for the client's (CVE-2011-0411, CVE-2021-38371).
//!
//! The first byte of TLS is received within the timeout of the prelude and stays unread for the inner service, so plain
//! text after `STARTTLS` never reaches it, whatever it is.
//!
//! The layer is always ready and waits for the inner service after the prelude, so silent clients leave the permits
//! of a limit inside to others.
//!
//! # Cancellation and drop
//!
//! Dropping the future closes the connection, possibly in the middle of a reply.
//!
//! # Limitations
//!
//! - The inner service continues where the client does: after its request for TLS, without a greeting. A forwarder to
//!   a mail server has to read and discard the [`Greeting`] of that server.
//! - The preludes offer only what is needed for TLS. Clients request the capabilities of the server again under
//!   TLS, as the protocols require.
//! - The layer has no mode that only observes, because it speaks for the server.
//!
//! # Performance
//!
//! A prelude costs an allocation for its future and one for the received bytes. Afterwards the stream costs one
//! comparison per read.
//!
//! # Example
//!
//! ```
//! use portcullis_middleware::{Connection, ServiceBuilderExt, prelude::{Postgres, PreludeLayer}};
//! use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::{TcpListener, TcpStream}};
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis_middleware::BoxError> {
//! let mut stack = ServiceBuilder::new()
//!     .peer_addr()
//!     .layer(PreludeLayer::new(Postgres::new()))
//!     // `TlsLayer` goes here.
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         let mut hello = [0; 3];
//!         connection.read_exact(&mut hello).await?;
//!         assert_eq!(hello, [22, 3, 1]);
//!         connection.close().await
//!     });
//!
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let mut client = TcpStream::connect(listener.local_addr()?).await?;
//! let serve = stack.call(listener.accept().await?.0);
//! tokio::try_join!(serve, async {
//!     client.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).await?; // SSLRequest
//!     assert_eq!(client.read_u8().await?, b'S');
//!     client.write_all(&[22, 3, 1]).await?; // TLS begins
//!     client.shutdown().await.map_err(Into::into)
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Elapsed`]: crate::error::Elapsed
//! [`Refused`]: crate::error::Refused
//! [`TimeoutPhase::PRELUDE`]: crate::error::TimeoutPhase::PRELUDE

mod greeting;
mod layer;
mod lines;
mod mail;
mod postgres;
mod reply;
mod request;
mod speak;
mod step;
#[cfg(test)]
mod tests;
mod xmpp;

pub use self::{
    greeting::Greeting,
    layer::{PreludeFuture, PreludeLayer, SpeakPrelude},
    mail::{Imap, Pop3, Smtp},
    postgres::Postgres,
    reply::UnexpectedReply,
    request::{TlsRequest, TlsRequestStep},
    step::{Prelude, PreludeStep},
    xmpp::Xmpp,
};
