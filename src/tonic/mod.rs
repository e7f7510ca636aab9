//! gRPC with [tonic], at the end of a stack or with a stack as the source of tonic's connections.
//!
//! # At the end of a stack
//!
//! [`HttpService`](crate::service::HttpService) serves tonic's `Routes`. In a handler
//! `request.remote_addr()`, `local_addr()` and `peer_certs()` work as with tonic's own server, with the
//! client's own address after a PROXY header. The [`ConnectionInfo`] is among the request's extensions.
//!
//! ```
//! use portcullis::{ConnectionInfo, Server, ServiceBuilderExt, listener::TcpListener, service::HttpService};
//! use tonic::{Request, service::{InterceptorLayer, Routes}};
//! use tower::ServiceBuilder;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis::BoxError> {
//! let routes = Routes::default(); // `Routes::new(GreeterServer::new(greeter))`
//! let seen = InterceptorLayer::new(|request: Request<()>| {
//!     let info: &ConnectionInfo = request.extensions().get().expect("HttpService tells it");
//!     assert_eq!(request.remote_addr(), info.peer_addr());
//!     Ok(request)
//! });
//!
//! let stack = ServiceBuilder::new()
//!     .peer_addr()
//!     .connection_limit(1000)
//!     .service(
//!         HttpService::new(ServiceBuilder::new().layer(seen).service(routes.prepare()))
//!             .with_streaming_calls(), // clients may pause between the messages of a request
//!     );
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let address = listener.local_addr()?;
//! let handle = Server::new().listen(listener, stack).spawn()?;
//! # let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
//! # let mut client = tonic::client::Grpc::new(channel);
//! # client.ready().await?;
//! # let codec = tonic_prost::ProstCodec::<(), ()>::default();
//! # let path = http::uri::PathAndQuery::from_static("/nobody/home");
//! # let status = client.unary(Request::new(()), path, codec).await.unwrap_err();
//! # assert_eq!(status.code(), tonic::Code::Unimplemented);
//! # drop(client);
//! # handle.stop();
//! # handle.wait().await;
//! # Ok(())
//! # }
//! ```
//!
//! Two features of tonic's `transport::Server` are missing: its deadline for requests with `grpc-timeout`
//! (clients apply theirs), and its request limits per connection.
//!
//! Use [`with_streaming_calls`](crate::service::HttpService::with_streaming_calls) for services with client
//! or bidirectional streaming. Otherwise a request whose messages arrive slower than the
//! [`BodyRate`](crate::service::http::BodyRate) fails. `HttpService` cannot detect such services on its own,
//! because any client can claim the type `application/grpc`.
//!
//! ## Identity and rights
//!
//! With client certificates ([`TlsProfile::with_client_auth`]), [`peer_certificate`] returns the verified facts of
//! the client's certificate, which are read once per connection. A method decides by them:
//!
//! ```
//! use portcullis::tonic::peer_certificate;
//! use tonic::{Request, Response, Status};
//!
//! /// A method for one of the clients only.
//! async fn delete(request: Request<String>) -> Result<Response<()>, Status> {
//!     let mut names = peer_certificate(&request)?.uris();
//!     if !names.any(|name| name == "spiffe://example.org/admin") {
//!         return Err(Status::permission_denied("for administrators only"));
//!     }
//!     Ok(Response::new(()))
//! }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # let without = delete(Request::new(String::new())).await.unwrap_err();
//! # assert_eq!(without.code(), tonic::Code::Unauthenticated);
//! # use portcullis::{Connection, ConnectionInfo, connection::{Address, CertificateFacts, CertificateName, TlsInfo}};
//! # for (name, code) in [("admin", None), ("ada", Some(tonic::Code::PermissionDenied))] {
//! #     let info = ConnectionInfo::new(Address::Unknown, Address::Unknown);
//! #     let mut facts = CertificateFacts::new(std::time::SystemTime::now(), std::time::SystemTime::now());
//! #     facts.names.push(CertificateName::Uri(format!("spiffe://example.org/{name}")));
//! #     let mut tls = TlsInfo::new();
//! #     tls.peer_certificate = Some(Box::new(facts));
//! #     Connection::new((), info.clone()).set_tls(tls);
//! #     let mut request = Request::new(String::new());
//! #     request.extensions_mut().insert(info);
//! #     assert_eq!(delete(request).await.err().map(|status| status.code()), code);
//! # }
//! # }
//! ```
//!
//! [`TlsProfile::with_client_auth`]: portcullis_middleware::tls::TlsProfile::with_client_auth
//!
//! ## Versions and timeouts
//!
//! Under TLS, offer `h2` by ALPN, which gRPC clients require. In a stack with an
//! [`io_timeout`](portcullis_middleware::timeout::io_timeout), disable the read timeout, which would end
//! streams with rare messages. `HttpService` detects vanished clients with HTTP/2 pings.
//!
//! # As the source of tonic's connections
//!
//! A program that configures its own `tonic::transport::Server` keeps it and accepts from a stack, with
//! [`Server::incoming`](crate::Server::incoming) and one of
//!
//! | | for | a handler finds |
//! |---|---|---|
//! | [`tonic`](crate::service::Incoming::tonic) | plaintext | `remote_addr()`, `local_addr()` |
//! | [`tonic_tls`](crate::service::Incoming::tonic_tls) | stacks with a `TlsLayer` | these and `peer_certs()` |
//! | [`tonic_with`](crate::service::Incoming::tonic_with) | other information | the returned type in `extensions()` |
//!
//! tonic inserts one type into each request, and these methods differ in which. With `tonic_with(|connection|
//! connection.info().clone())` it is the [`ConnectionInfo`]; the interceptor [`insert_connect_info`] derives
//! the others from it.
//!
//! ```
//! use portcullis::{ConnectionInfo, Server, ServiceBuilderExt, listener::TcpListener};
//! use std::{future::pending, time::Duration};
//! use tonic::{Request, service::{InterceptorLayer, Routes}};
//! use tower::ServiceBuilder;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis::BoxError> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let layers = ServiceBuilder::new().peer_addr().connection_limit(1000);
//! let incoming = Server::new()
//!     .stop_on_signals() // tonic drains when the stream ends
//!     .incoming(listener, layers)?
//!     .tonic_with(|connection| connection.info().clone());
//! # let handle = incoming.handle().expect("it has one").clone();
//! # let serving = async move {
//!
//! let drained = tonic::transport::Server::builder()
//!     .http2_keepalive_interval(Some(Duration::from_secs(30))) // finds clients that are gone
//!     .layer(InterceptorLayer::new(portcullis::tonic::insert_connect_info))
//!     .add_routes(Routes::default())
//!     .serve_with_incoming_shutdown(incoming, pending())
//!     .await;
//! # drained
//! # };
//! # let server = handle.clone();
//! # let (served, ()) = tokio::join!(serving, async { handle.stop() });
//! # served?;
//! server.wait().await; // until all clients have received their last answer
//! # Ok(())
//! # }
//! ```
//!
//! Handshakes run concurrently before a connection appears in the stream, so tonic never waits for one. A
//! connection keeps the guards of its layers until tonic drops it. tonic does not drop silent connections on
//! its own, so set its `http2_keepalive_interval`. Only the first bytes of HTTP/2 have a timeout here, half a
//! minute.
//!
//! ## Graceful shutdown
//!
//! Stop the [`Server`](crate::Server), with a signal or its handle, and give tonic
//! [`pending`](std::future::pending) as its own signal. The server accepts what the kernel holds and finishes
//! the handshakes. The stream ends half a second after the last one, so that the last accepted client can
//! still send its first request. Then tonic sends `GOAWAY` on all connections and waits for requests in
//! flight. Idle clients do not delay that. A handshake or an HTTP/2 preface that is incomplete half a second
//! after the last accept ends its connection. A client without an open stream is closed after two seconds of
//! silence from the `GOAWAY` ([`TonicIo`] ends its input). Connections that tonic drops close gracefully, in
//! a task that the server's drain waits for; see [`LingerIo`](crate::service::LingerIo). At the server's
//! [deadline](crate::server::Drain) all remaining connections are force-closed, and tonic's future ends too.
//!
//! A signal given to tonic itself makes it drop the stream immediately. That stops the server as well, but
//! connections that were not taken yet are closed, and so are those in a handshake; clients have to try
//! again. Plain `serve_with_incoming` returns when the stream ends, while connections continue without a
//! `GOAWAY`; [`Handle::wait`](crate::server::Handle::wait) waits for them.

mod incoming;
mod io;

pub use self::{incoming::TonicIncoming, io::TonicIo};
pub use portcullis_middleware::connection::TlsConnectInfo;

use ::tonic::{Request, Status};
use portcullis_middleware::{ConnectionInfo, connection::CertificateFacts};

/// Interceptor that inserts what `remote_addr()` and `peer_certs()` read.
///
/// # Errors
///
/// Always `Ok`.
///
/// It has an effect on requests with a [`ConnectionInfo`]; see the [module docs](self).
pub fn insert_connect_info(mut request: Request<()>) -> Result<Request<()>, Status> {
    let info: Option<ConnectionInfo> = request.extensions().get().cloned();
    if let Some(info) = info {
        insert_connect_info_of(&info, request.extensions_mut());
    }
    Ok(request)
}

/// The facts of the client's certificate, as the TLS handshake verified it; see [identity and
/// rights](self#identity-and-rights).
///
/// # Errors
///
/// `UNAUTHENTICATED` if the client presented no certificate, or if the request carries no [`ConnectionInfo`].
pub fn peer_certificate<T>(request: &Request<T>) -> Result<&CertificateFacts, Status> {
    let info: Option<&ConnectionInfo> = request.extensions().get();
    info.and_then(ConnectionInfo::peer_certificate)
        .ok_or_else(|| Status::unauthenticated("a client certificate is needed"))
}

/// Inserts what `remote_addr()` and `peer_certs()` read.
pub(crate) fn insert_connect_info_of(info: &ConnectionInfo, extensions: &mut http::Extensions) {
    extensions.insert(info.tcp_connect_info());
    if let Some(tls) = info.tls_connect_info() {
        extensions.insert(tls);
    }
}
