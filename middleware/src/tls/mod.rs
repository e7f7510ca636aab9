//! TLS for servers ([`TlsLayer`]) and clients ([`TlsConnector`]), based on rustls.
//!
//! [`TlsLayer`] performs the handshake of each connection and passes the plaintext to its inner service as
//! [`TlsIo`]. The negotiated parameters are in [`Connection::tls`](crate::Connection::tls). The protocol
//! itself is implemented by [rustls].
//!
//! | to … | use |
//! |---|---|
//! | serve one certificate that stays | [`TlsLayer::from_pem_files`] and its relatives |
//! | serve several names, reload certificates, require client certificates | [`CertStore`](store) and [`TlsProfile`] |
//! | choose a rustls configuration for each client | [`TlsLayer::choosing`] with [`Configs`] |
//! | switch to TLS in the middle of a protocol (STARTTLS) | [`TlsLayer::accept`] |
//! | forward connections, or hold many idle ones | [`TlsLayer::unbuffered`] |
//! | serve TLS and plain text on one port | [`TlsOrPlainLayer`] |
//! | end connections whose client certificate was revoked or has expired meanwhile | [`TlsLayer::verify_again`] |
//! | see who the client is | [`ConnectionInfo::peer_certificate`](crate::ConnectionInfo::peer_certificate) |
//! | build a rustls configuration from PEM | `tls::load` |
//!
//! # Position in the stack
//!
//! Place it inside [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer) and inside layers that read the first
//! bytes, such as a PROXY header. Place it outside of layers that need plaintext. Layers that count bytes or
//! time reads see ciphertext outside and plaintext inside.
//!
//! The layer is always ready and waits for the inner service after the handshake. A
//! [`ConnectionLimitLayer`](crate::limit::connection_limit) inside therefore counts finished handshakes only,
//! and its backpressure does not reach the accept loop. Connections with a finished handshake wait in
//! [`Phase::Waiting`](crate::connection::Phase::Waiting) until they are served, their client disconnects, or
//! they are force-closed. To limit their number, use a connection limit outside, or one inside that rejects.
//!
//! A connection limit usually belongs outside, because the limits below count unfinished handshakes only.
//!
//! # Errors and outcomes
//!
//! | failure | error | the client sees |
//! |---|---|---|
//! | the handshake fails | [`HandshakeError`] | an alert, then a graceful close of at most one second |
//! | the client speaks something else | [`HandshakeError`] with [`NotTls`] | an alert, then as above |
//! | no certificate serves the requested name | [`HandshakeError`] with [`UnrecognizedName`] | an alert, then as above |
//! | the handshake times out | [`Elapsed`] | a closed connection |
//! | [too many handshakes](TlsLayer::with_max_handshakes) | [`Refused`] | a reset |
//! | a read after the peer closed without `close_notify` | [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof) | |
//!
//! The alert is dropped if the socket cannot take it immediately. The connection counts as unfinished until
//! it is closed.
//!
//! A missing `close_notify` is also recorded in
//! [`ConnectionInfo::is_truncated`](crate::ConnectionInfo::is_truncated), unless this side has already sent
//! its own.
//!
//! ## Limits
//!
//! | limit | default | protects |
//! |---|---|---|
//! | [handshake timeout](TlsLayer::with_handshake_timeout) | 10 s | file descriptors, from clients that stall |
//! | [unfinished handshakes](TlsLayer::with_max_handshakes) | 5,000 | file descriptors and memory, from many such clients |
//! | [computing handshakes](TlsLayer::with_max_computing) | 4 for each processor | processor time of established connections |
//! | size of a ClientHello | 16 KiB | memory |
//!
//! A silent client costs its socket and less than 2 kB, and delays other clients only when the limit is
//! reached. The connection that has waited longest for its client is then reset. Keep this limit below a
//! connection limit outside, which silent clients would fill otherwise.
//!
//! Each layer has its own limits, which its clones share. [`HandshakeLimits`] are for several layers, such as those of
//! several host names on one port.
//!
//! A handshake computes when the whole ClientHello has arrived, and again when the client's last flight
//! arrives. A turn ends before the response is sent, so slow readers do not hold turns.
//!
//! A client that disconnects before its turn is detected before the handshake computes anything. A client
//! that disconnects in the queue is detected immediately. Both require that the layer is directly inside
//! [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer) or `ProxyProtocolLayer`, over TCP or a Unix domain
//! socket, so that the system can be asked about the socket. Elsewhere a read detects most of them.
//!
//! # Cancellation and drop
//!
//! - Dropping the future of a handshake closes the connection without an alert.
//! - Dropping an established connection omits `close_notify`, so that the peer can tell a truncated response
//!   from a complete one. [`Connection::close`](crate::Connection::close) or a shutdown of the write side
//!   sends it.
//!
//! # Limitations
//!
//! - Early data (0-RTT) is rejected; see [`TlsLayer::new`].
//! - With a rustls configuration, clients with certificates can only resume sessions with
//!   [`TlsLayer::with_client_verifier`]. [`TlsProfile`] includes it.
//!
//! # Performance
//!
//! ## Memory
//!
//! TLS state is allocated once the ClientHello has arrived. Until then the layer stores the received bytes,
//! up to 16 KiB. During the rest of the handshake rustls buffers up to 64 KiB of input. Afterwards it buffers
//! one record of input (16 KiB) and up to 64 KiB of unsent output; `set_buffer_limit` of
//! [`TlsIo::session_mut`] changes the latter. An idle connection holds 4 KiB of these buffers.
//!
//! With [`TlsLayer::unbuffered`], bytes pass through buffers of 136 KiB that all connections of a thread share. A
//! connection only keeps what is left over: the beginning of a record or of a handshake message (24 KiB), one record
//! of plaintext that was read ahead (16 KiB), and 136 KiB of unsent output. An idle connection holds none, unless its
//! client has stopped within a record or a handshake message.
//!
//! Each configuration caches 256 sessions for resumption. A TLS 1.3 handshake takes one entry per ticket.
//!
//! ## Processor time
//!
//! The server's instructions for a connection with a TLS 1.3 handshake (X25519, a P-256 certificate,
//! AES-256-GCM) and one echo, in thousands, as `benches/compare` counts them:
//!
//! | tickets | provider | full | resumed |
//! |---|---|---|---|
//! | one | aws-lc-rs | 1,188 | 1,090 |
//! | two, the default of rustls | aws-lc-rs | 1,218 | 1,126 |
//! | two, stateless | aws-lc-rs | 1,243 | 1,167 |
//! | none | aws-lc-rs | 1,151 | – |
//! | two | ring | 1,312 | 1,181 |
//!
//! Layers built with `from_pem*` therefore prefer aws-lc-rs and issue one ticket. A ticket pays off once
//! about 40 % of clients resume; resumed handshakes also skip the certificate. A client that opens several
//! connections simultaneously resumes with one of them.
//!
//! The number and kind of tickets are fields of [`ServerConfig`](rustls::ServerConfig), for
//! [`TlsLayer::new`]; [`TicketKeys`] are for a [`TlsProfile`]. Stateless tickets pay off if more than 256 clients return, or if several processes
//! share a key.
//!
//! A layer with a fixed configuration starts with a session. One that chooses, also by a [`TlsProfile`], first reads
//! the ClientHello with rustls' `Acceptor`, which parses it once and hands it to the session. An unbuffered session
//! parses it again.
//!
//! An unbuffered session reads as many records with one system call as fit into the caller's buffer, and writes up
//! to four with one. An echo of 16 KiB takes one read and one write; with a buffered session it takes five reads.
//!
//! The facts of a client's certificate are read once per handshake, and only if there is a certificate.
//!
//! portcullis itself adds 0.9 % to a handshake, and a system call that checks whether the client is still connected.
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
//! // A self-signed certificate for this example. In production, use `TlsLayer::from_pem_files`.
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
//! #     let mut output = String::new();
//! #     client.read_to_string(&mut output).await?;
//! #     assert_eq!(output, "TLSv1_3");
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
mod configs;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod error;
mod future;
mod handshake;
mod handshake_limit;
mod hello;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub(crate) mod internal;
mod io;
mod layer;
mod limits;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub mod load;
mod metrics;
mod negotiation;
mod not_tls;
mod or_plain;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod pem;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod pin;
mod plaintext;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod profile;
mod records;
mod resumption;
mod scratch;
mod service;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub mod store;
#[cfg(test)]
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod tests;
mod unbuffered;
#[cfg(test)]
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
#[path = "tests/mod.rs"]
#[expect(
    clippy::duplicate_mod,
    reason = "the same tests for the other kind of session"
)]
mod unbuffered_tests;
mod unfinished;
mod wire;
mod x509;

pub use self::{
    client::{TlsClientIo, TlsConnectError, TlsConnector},
    configs::{Configs, HandshakeConfig, UnrecognizedName},
    future::TlsFuture,
    io::TlsIo,
    layer::TlsLayer,
    limits::HandshakeLimits,
    not_tls::NotTls,
    or_plain::{TlsOrPlain, TlsOrPlainFuture, TlsOrPlainIo, TlsOrPlainLayer},
    service::Tls,
};
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub use self::{
    config::provider,
    error::TlsConfigError,
    profile::{ClientAuth, TicketKeys, TlsProfile, Trust},
    store::{CertStore, CertStoreBuilder, CertStoreError},
};
pub use tokio_rustls::rustls;
