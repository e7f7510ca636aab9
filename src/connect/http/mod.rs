//! Layers under a hyper client's connector, such as timeouts, limits, byte counts and TLS.
//!
//! [`HttpConnector`] combines a [`Connector`](super::Connector), layers and a `TlsConnector` into the
//! `tower::Service<Uri>` that hyper-util's `Client` and tonic's `Endpoint` take.
//!
#![cfg_attr(any(feature = "aws-lc-rs", feature = "ring"), doc = "```")]
#![cfg_attr(not(any(feature = "aws-lc-rs", feature = "ring")), doc = "```ignore")]
//! use http_body_util::{BodyExt, Empty};
//! use hyper_util::{client::legacy::Client, rt::TokioExecutor};
//! use portcullis::{ConnectionInfo, ServiceBuilderExt, connect::{Connector, http::HttpConnector}};
//! use portcullis::middleware::{observe::ByteCounter, tls::TlsConnector};
//! use tower::ServiceBuilder;
//! # use portcullis::{Server, listener::TcpListener, middleware::tls::TlsLayer, service::HttpService};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis::BoxError> {
//! # let names = vec!["localhost".to_owned()];
//! # let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names)?;
//! # let root = cert.pem();
//! # let tls = TlsLayer::from_pem(root.as_bytes(), signing_key.serialize_pem().as_bytes())?;
//! # let tls = tls.with_alpn(["h2", "http/1.1"]);
//! # let router = axum::Router::new().route("/", axum::routing::get(|| async { "Hello!" }));
//! # let stack = ServiceBuilder::new().peer_addr().layer(tls).service(HttpService::new(router));
//! # let listener = TcpListener::bind("127.0.0.1:0")?;
//! # let port = listener.local_addr()?.port();
//! # let handle = Server::new().listen(listener, stack).spawn()?;
//! let counter = ByteCounter::new();
//! let on_the_wire = ServiceBuilder::new()
//!     .connection_limit(64)
//!     .io_timeout()
//!     .count_bytes(counter.clone());
//! let connector = HttpConnector::new(Connector::new())
//!     .with_layers(on_the_wire)
//!     .tls(TlsConnector::with_roots_pem(root.as_bytes())?);
//! let client = Client::builder(TokioExecutor::new()).build::<_, Empty<&[u8]>>(connector);
//!
//! let response = client.get(format!("https://localhost:{port}/").parse()?).await?;
//! let info = response.extensions().get::<ConnectionInfo>().expect("the connector leaves it");
//! assert_eq!(info.peer_addr().map(|server| server.port()), Some(port));
//! assert_eq!(info.tls().and_then(|tls| tls.alpn.as_deref()), Some(&b"h2"[..]));
//! assert_eq!(counter.bytes_read(), info.bytes_read());
//! assert_eq!(response.into_body().collect().await?.to_bytes(), "Hello!");
//! # handle.stop();
//! # drop(client);
//! # handle.wait().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Order
//!
//! A connection goes through what was added in the order in which it was added: layers before
//! [`tls`](HttpConnector::tls) see the wire, those after it plaintext. A limit belongs before.
//!
//! # What a response tells
//!
//! Its extensions have the [`ConnectionInfo`] under that type: the server's address, what TLS agreed on, the
//! bytes of the socket so far, all live. What layers left in the connection's [`Extensions`] is there too,
//! under that type, if there is anything.
//!
//! # Time
//!
//! Thirty seconds for all that it takes to have a connection, see
//! [`with_timeout`](HttpConnector::with_timeout); within them ten for connecting and ten for the handshake, by
//! default. The bound of [`io_timeout`](portcullis_middleware::timeout::io_timeout) on reads is one on the server's
//! silence: 60 s without a byte end the request with [`Elapsed`], and end a connection that lies idle in the
//! client's pool, which is no loss. Turn it off for long polls and for streams that may be silent.
//!
//! # Limits
//!
//! A connection counts under a limit for as long as it is open, idle ones in the pool included. With
//! [`connection_limit`](portcullis_middleware::limit::connection_limit) a request waits until one of its host is free or
//! any of them closes; where one client talks to many hosts, a short `pool_idle_timeout` makes room.
//!
//! hyper-util's pool does not take an attempt back when another connection became free meanwhile: it goes on
//! waiting for room until its time is over, may get it before and make a connection that nobody asked for,
//! and keeps the pool alive meanwhile, also after the client was dropped. So a limit on requests (tower's
//! `ConcurrencyLimit` around the client) belongs beside one on connections where many wait.
//!
//! # Errors
//!
//! The client's error has ours as a source, each of its own type:
//! [`find`](portcullis_middleware::error::find) finds [`UriError`], [`ConnectError`], `TlsConnectError`,
//! [`Elapsed`], and those of the layers.
//!
//! # With tonic
//!
//! `Endpoint::connect_with_connector` takes an `HttpConnector` as it is, for `http`. With a `tls_config` tonic
//! itself does the TLS of `https`: give it [`tls_by_caller`](HttpConnector::tls_by_caller). Without one, and with
//! any of its TLS features on, tonic refuses `https`: name `http` to it, and have `map_request` (of
//! `tower::ServiceExt`) put the scheme `https` into the URI before the connector sees it.
//!
//! # What is not done
//!
//! No pool, no retries and no redirects: those are the client's. No proxies, and no `HTTP_PROXY` from the
//! environment. No schemes but `http` and `https`. A connector with TLS goes on to serve `http` without;
//! who wants TLS only has to refuse the others.

mod connection;
mod connector;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
mod tls;
mod uri;

#[cfg(feature = "tls")]
pub use self::tls::TlsByScheme;
pub use self::{
    connection::HttpConnection,
    connector::{Dial, HttpConnector},
    uri::{BadUri, UriError},
};

#[cfg(doc)]
use super::ConnectError;
#[cfg(doc)]
use portcullis_middleware::{ConnectionInfo, Extensions, error::Elapsed};
