//! Terminates TLS; with [`TlsConnector`], is the client of a server that does.
//!
//! [`TlsLayer`] does the handshake of each connection and hands its inner service the plaintext as
//! [`TlsIo`]; what was agreed on is in [`Connection::tls`](crate::Connection::tls). Handshakes are
//! limited in time and number, see [below](#limits). The protocol itself is [rustls]'; certificates are
//! read once and not watched, and `tls::load` reads them for programs that replace them.
//!
//! # Place in the stack
//!
//! Inside [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer) and of whatever reads the first bytes
//! (a PROXY header), outside of whatever wants plaintext. A limit on connections usually belongs outside:
//! the limits on handshakes do not count connections that are established. A layer that counts bytes or
//! limits reads sees ciphertext outside and plaintext inside.
//!
//! The layer is always ready, and waits for the inner service when a handshake is done. So a
//! [`ConnectionLimitLayer`](crate::limit::connection_limit) inside counts finished handshakes only, and its
//! backpressure does not reach the accept loop: connections with a finished handshake wait in their
//! futures, in [`Phase::Waiting`](crate::connection::Phase::Waiting), until they are served, their client
//! leaves, or they are closed from outside. Their number is limited by a limit outside, or by one inside
//! that refuses.
//!
//! # Limits
//!
//! | limit | default | protects |
//! |---|---|---|
//! | [handshake timeout](TlsLayer::with_handshake_timeout) | 10 s | file descriptors, from clients that stall |
//! | [unfinished handshakes](TlsLayer::with_max_handshakes) | 5,000 | file descriptors and memory, from many such clients |
//! | [computing handshakes](TlsLayer::with_max_computing) | 4 for each processor | processor time of established connections |
//! | size of a ClientHello | 16 KiB | memory |
//!
//! A silent client costs its socket and less than 2 kB. It takes no turn to compute, so any number up to the
//! limit delays no other client; beyond it, the connection that has waited for its client the longest makes room.
//! Keep this limit below a limit on connections outside, which silent clients would fill otherwise.
//!
//! A handshake computes when the whole ClientHello has arrived, and again when the client's last flight
//! arrives. A turn ends before the answer is sent, so it never depends on how fast a client reads.
//!
//! A client that has left by the time of its turn, by a close or a reset, is noticed before anything is
//! computed for it, and one that leaves the queue is noticed at once. The system is asked for that where the
//! layer is directly inside [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer) or `ProxyProtocolLayer`, over TCP
//! or a Unix domain socket; elsewhere a read shows most of them.
//!
//! # What is left behind
//!
//! - A handshake that fails is answered with an alert, where TLS has one and the socket takes it at
//!   once, and with a graceful close of one second at most, during which it counts as unfinished; then the future
//!   fails with [`HandshakeError`].
//! - A connection that makes room for another one is reset, and the future fails with [`Refused`].
//! - A handshake that takes too long fails with [`Elapsed`]; the connection is dropped, nothing is
//!   said to the peer. The same happens, without an error, when the future is dropped.
//! - An established connection that is dropped sends nothing more: the peer must be able to tell a
//!   truncated answer from a complete one. [`Connection::close`](crate::Connection::close) (or a
//!   shutdown of the write side) says `close_notify`.
//! - A peer that ends without `close_notify` is a read error of kind
//!   [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof), and noted in
//!   [`ConnectionInfo::is_truncated`](crate::ConnectionInfo::is_truncated), unless this side has sent
//!   its own `close_notify` before.
//!
//! # Memory
//!
//! A connection has no TLS state until its ClientHello has arrived; what a client has sent so far is kept, up
//! to 16 KiB. From then on rustls buffers up to 64 KiB of input during the handshake. Afterwards it holds a
//! record of input (16 KiB) and up to 64 KiB of output that the socket did not take yet; `set_buffer_limit`
//! of [`TlsIo::session_mut`] changes the latter.
//!
//! Sessions that clients may resume are in a cache of 256 for each configuration, where a TLS 1.3
//! handshake takes a place for each of its tickets. Clients with certificates cannot resume sessions
//! unless [`TlsLayer::with_client_verifier`] is called.
//!
//! # What it costs
//!
//! The server's instructions for a connection with a handshake of TLS 1.3 (X25519, a certificate of
//! P-256, AES-256-GCM) and one echo, in thousands, as `benches/compare` counts them:
//!
//! | tickets | provider | full | resumed |
//! |---|---|---|---|
//! | one | aws-lc-rs | 1,180 | 1,081 |
//! | two, as rustls has it | aws-lc-rs | 1,209 | 1,118 |
//! | two, stateless | aws-lc-rs | 1,234 | 1,157 |
//! | none | aws-lc-rs | 1,142 | – |
//! | two | ring | 1,304 | 1,173 |
//!
//! So a layer that is made of certificates uses aws-lc-rs where it may, and gives each connection one
//! ticket. A ticket pays for itself where two clients in five come back, and saves all of them the
//! certificate. A client that opens several connections at once resumes with one of them. All this is a
//! matter of [`ServerConfig`](rustls::ServerConfig)'s fields, for [`TlsLayer::new`]: stateless tickets
//! are worth their price where more than 256 clients come back, or several processes share a key.
//!
//! The table was measured at commit 63bda50, when portcullis itself added 0.2 % to a handshake. Since then
//! each handshake makes one more system call, which finds out whether the client is still there.
//!
//! # Example
//!
#![cfg_attr(any(feature = "aws-lc-rs", feature = "ring"), doc = "```")]
#![cfg_attr(not(any(feature = "aws-lc-rs", feature = "ring")), doc = "```ignore")]
//! use portcullis_middleware::{Connection, peer_addr::PeerAddrLayer, tls::TlsLayer};
//! use tokio::io::AsyncWriteExt;
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! // For an example, a self-signed certificate; in production `TlsLayer::from_pem_files`.
//! let names = vec!["localhost".to_owned()];
//! let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names)?;
//! let (chain, key) = (cert.pem(), signing_key.serialize_pem());
//!
//! let tls = TlsLayer::from_pem(chain.as_bytes(), key.as_bytes())?.with_alpn(["http/1.1"]);
//! let stack = ServiceBuilder::new()
//!     .layer(PeerAddrLayer::new())
//!     .layer(tls)
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         let version = connection.tls().and_then(|tls| tls.version);
//!         connection.write_all(version.unwrap_or("?").as_bytes()).await?;
//!         connection.close().await
//!     });
//! # use {portcullis_middleware::tls::{provider, rustls}, std::sync::Arc};
//! # use tokio::{io::AsyncReadExt, net::{TcpListener, TcpStream}};
//! # let mut stack = stack;
//! # let listener = TcpListener::bind("127.0.0.1:0").await?;
//! # let address = listener.local_addr()?;
//! # let server = async { stack.call(listener.accept().await?.0).await };
//! # let client = async {
//! #     let mut roots = rustls::RootCertStore::empty();
//! #     roots.add(cert.der().clone())?;
//! #     let config = rustls::ClientConfig::builder_with_provider(provider())
//! #         .with_safe_default_protocol_versions()?
//! #         .with_root_certificates(roots)
//! #         .with_no_client_auth();
//! #     let tcp = TcpStream::connect(address).await?;
//! #     let client = tokio_rustls::TlsConnector::from(Arc::new(config));
//! #     let mut client = client.connect("localhost".try_into()?, tcp).await?;
//! #     let mut said = String::new();
//! #     client.read_to_string(&mut said).await?;
//! #     assert_eq!(said, "TLSv1_3");
//! #     Ok(())
//! # };
//! # tokio::try_join!(server, client)?;
//! # Ok(())
//! # }
//! ```
//!
//! [`HandshakeError`]: crate::error::HandshakeError
//! [`Elapsed`]: crate::error::Elapsed
//! [`Refused`]: crate::error::Refused

mod client;
mod client_side;
mod common;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod config;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod error;
mod future;
mod handshake;
mod handshake_limit;
mod hello;
mod io;
mod layer;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub mod load;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod pem;
mod plaintext;
mod resumption;
mod service;
#[cfg(test)]
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod tests;
mod unfinished;
mod wire;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod x509;

pub use self::{
    client::{TlsClientIo, TlsConnectError, TlsConnector},
    future::TlsFuture,
    io::TlsIo,
    layer::TlsLayer,
    service::Tls,
};
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub use self::{config::provider, error::TlsConfigError};
pub use tokio_rustls::rustls;
