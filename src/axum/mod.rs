//! For programs with axum: what handlers may ask of a connection, and stacks under `axum::serve`.
//!
//! A router meets a stack in one of two ways, and its handlers need not know in which:
//!
//! | | [`HttpService`] at the end of the stack | the stack as the listener of `axum::serve` |
//! |---|---|---|
//! | `Extension<ConnectionInfo>`, the extractors here | yes | with [`MakeService`] |
//! | `ConnectInfo<SocketAddr>` | yes | with [`MakeService`], or as ever |
//! | the same for a peer without an IP address | `0.0.0.0:0` | `0.0.0.0:0` |
//! | bounds on silent and slow clients | yes | none of axum's own |
//! | HTTP settings of hyper | yes | no |
//! | shutdown | responses announce it, idle connections go | idle connections go when all others are through |
//! | clients that ask for nothing, at shutdown | closed after half a second, or after two of silence from the `GOAWAY` on | the same |
//!
//! The first is the one to take where nothing speaks against it. The second fits a program that has its
//! `axum::serve` already. The address is always the effective one: after a PROXY header that a layer
//! believed, the client's own. A Unix socket, also one that a PROXY header names, has no IP address;
//! [`Info`] has it as it is.
//!
//! # Handlers
//!
//! ```
//! use axum::{Router, extract::ConnectInfo, routing::get};
//! use portcullis::{Server, ServiceBuilderExt, listener::TcpListener, service::HttpService};
//! use portcullis::axum::{ClientCertificate, Info, ServerName};
//! use std::net::SocketAddr;
//! use tower::ServiceBuilder;
//! # use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! async fn handler(
//!     ConnectInfo(peer): ConnectInfo<SocketAddr>,
//!     Info(connection): Info,
//!     certificate: Option<ClientCertificate>,
//!     host: Option<ServerName>,
//! ) -> String {
//!     assert_eq!(connection.peer_addr(), Some(peer));
//!     format!("{} certificate, {} host", certificate.iter().count(), host.iter().count())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis::BoxError> {
//! let router = Router::new().route("/", get(handler));
//! let stack = ServiceBuilder::new().peer_addr().service(HttpService::new(router));
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! # let address = listener.local_addr()?;
//! let handle = Server::new().listen(listener, stack).spawn()?;
//! # let mut client = tokio::net::TcpStream::connect(address).await?;
//! # client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
//! # let mut answer = String::new();
//! # client.read_to_string(&mut answer).await?;
//! # assert!(answer.ends_with("0 certificate, 0 host"), "{answer}");
//! # handle.stop();
//! # handle.wait().await;
//! # Ok(())
//! # }
//! ```
//!
//! # The other way round
//!
//! ```
//! use axum::{Router, routing::get};
//! use portcullis::{Server, ServiceBuilderExt, axum::{Info, MakeService}, listener::TcpListener};
//! use tower::ServiceBuilder;
//! # use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis::BoxError> {
//! let router = Router::new().route("/", get(|Info(c): Info| async move { c.peer().to_string() }));
//! let layers = ServiceBuilder::new().peer_addr().connection_limit(1000);
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! # let address = listener.local_addr()?;
//!
//! let incoming = Server::new().stop_on_signals().incoming(listener, layers)?;
//! let server = incoming.handle().expect("it has one").clone();
//! # let mut client = tokio::net::TcpStream::connect(address).await?;
//! # client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
//! # let stop = server.clone();
//! # let client = tokio::spawn(async move {
//! #     let mut answer = String::new();
//! #     client.read_to_string(&mut answer).await?;
//! #     assert!(answer.ends_with(&client.local_addr()?.to_string()), "{answer}");
//! #     stop.stop();
//! #     std::io::Result::Ok(())
//! # });
//! let drained = incoming.drained();
//! axum::serve(incoming.into_axum(), MakeService::new(router))
//!     .with_graceful_shutdown(drained)
//!     .await?;
//! let report = server.wait().await;
//! # client.await??;
//! # assert!(report.force_closed().is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! Layers run before axum sees a connection: TLS is agreed on, each handshake in a task of its own, and
//! one that is slow delays no other. Permits are held until the connection is dropped, by axum or by an
//! upgrade's handler. A dropped connection is then closed politely, in a task that the drain waits for: see
//! [`LingerIo`](crate::service::LingerIo).
//!
//! The end begins at the server: by a signal, its handle, or [`Server::stop_on`]. It stops accepting, and
//! the connections that were accepted pass through the layers; axum takes them all. Only then
//! [`Incoming::drained`] tells axum to end: requests in flight are answered, idle connections close, and the
//! input of HTTP/2 clients that stay silent ends ([`DepartingIo`]). What
//! is left at the [deadline](crate::server::Drain) is cut, wherever it is. Mind three things:
//!
//! - A signal given to axum itself would lose the connections that are in a handshake just then. Without any,
//!   `axum::serve` never returns, although its server is over.
//! - `axum::serve` returns when its own connections are done; the server's report comes when upgraded ones
//!   (WebSockets) are, too, and when all clients have received their last answer. Wait for it before the
//!   program exits.
//! - Idle connections stay until all that were accepted are through. Where these wait for the permits that
//!   those hold, both wait for the deadline.
//!
//! `into_make_service_with_connect_info` works unchanged in place of [`MakeService`]: with `SocketAddr`
//! for programs that have it already, or with [`Info`] for the extractors.
//!
//! [`HttpService`]: crate::service::HttpService
//! [`Server::stop_on`]: crate::Server::stop_on
//! [`Incoming::drained`]: crate::service::Incoming::drained

mod extract;
mod listener;
mod make_service;
mod rejection;

pub use self::{
    extract::{ClientCertificate, Info, ServerName},
    listener::{Connections, Listener},
    make_service::{MakeService, WithConnection},
    rejection::Rejection,
};
pub use crate::service::http::departing_io::DepartingIo;
