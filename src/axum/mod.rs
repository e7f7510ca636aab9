//! Extractors for axum handlers, and stacks as listeners of `axum::serve`.
//!
//! A router works with a stack in one of two ways, and its handlers are the same in both:
//!
//! | | [`HttpService`] at the end of the stack | the stack as the listener of `axum::serve` |
//! |---|---|---|
//! | `Extension<ConnectionInfo>`, the extractors here | yes | with [`MakeService`] |
//! | `ConnectInfo<SocketAddr>` | yes | with [`MakeService`], or axum's own make service |
//! | the same for a peer without an IP address | `0.0.0.0:0` | `0.0.0.0:0` |
//! | timeouts for silent and slow clients | yes | not from axum |
//! | HTTP settings of hyper | yes | no |
//! | shutdown | responses contain `connection: close` or a `GOAWAY`, idle connections close | idle connections close once all others have passed the layers |
//! | clients without a request, at shutdown | closed after half a second, or two seconds after the `GOAWAY` if silent | the same |
//!
//! Prefer the first. The second fits a program that already calls `axum::serve`. The address is always the
//! effective one, so after a trusted PROXY header it is the client's own. A Unix socket, also one named in a
//! PROXY header, has no IP address; [`Info`] contains it unchanged.
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
//! # A stack as the listener
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
//! Layers run before axum sees a connection. Each TLS handshake runs in its own task, so a slow one does not
//! delay others. Permits are held until axum or an upgrade's handler drops the connection. A dropped
//! connection is then closed gracefully, in a task that the drain waits for; see
//! [`LingerIo`](crate::service::LingerIo).
//!
//! Start the shutdown at the server, with a signal, its handle, or [`Server::stop_on`]. The server stops
//! accepting, and the accepted connections pass through the layers to axum. Then [`Incoming::drained`] shuts
//! axum down: it answers requests in flight, closes idle connections, and ends the input of silent HTTP/2
//! clients ([`DepartingIo`]). Connections that remain at the [deadline](crate::server::Drain) are
//! force-closed. Mind three things:
//!
//! - A signal given to axum itself would lose the connections that are still in a handshake. Without a
//!   signal, `axum::serve` keeps running after its server has stopped.
//! - `axum::serve` returns when its own connections are done. The server's report follows when upgraded
//!   connections (WebSockets) are done too, and all clients have received their last response. Wait for it
//!   before the program exits.
//! - Idle connections stay open until all accepted ones have passed the layers. If those wait for the permits
//!   of the idle ones, both wait until the deadline.
//!
//! `into_make_service_with_connect_info` works unchanged in place of [`MakeService`], with `SocketAddr` for
//! existing programs or with [`Info`] for the extractors.
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
    listener::{AxumListener, Connections},
    make_service::{MakeService, WithConnection},
    rejection::Rejection,
};
pub use crate::service::http::departing_io::DepartingIo;
