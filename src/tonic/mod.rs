//! gRPC with [tonic]: at the end of a stack, and with a stack as the source of tonic's connections.
//!
//! # At the end of a stack
//!
//! [`HttpService`](crate::service::HttpService) serves tonic's `Routes`. In a handler `request.remote_addr()`,
//! `local_addr()` and `peer_certs()` work as with tonic's own server, with the client's own address after a
//! PROXY header; the [`ConnectionInfo`] is among the request's extensions.
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
//! What tonic's `transport::Server` adds to a service is not there: its deadline for requests with
//! `grpc-timeout` (clients keep theirs), and its limits of requests per connection.
//!
//! [`with_streaming_calls`](crate::service::HttpService::with_streaming_calls) is for services with client or
//! bidirectional streaming. Without it a request whose messages come slower than the
//! [`BodyRate`](crate::service::http::BodyRate) fails. `HttpService` cannot know by itself: any client can claim
//! the type `application/grpc`.
//!
//! Under TLS offer `h2` by ALPN: gRPC clients insist on it. A stack with an
//! [`io_timeout`](portcullis_middleware::timeout::io_timeout) turns the bound on reads off, which would end streams
//! whose messages are far between; `HttpService` finds the clients that are gone by HTTP/2's pings.
//!
//! # As the source of tonic's connections
//!
//! A program that has a `tonic::transport::Server` with settings of its own keeps it, and gives it a stack to
//! accept from: [`Server::incoming`](crate::Server::incoming), then one of
//!
//! | | for | a handler finds |
//! |---|---|---|
//! | [`tonic`](crate::service::Incoming::tonic) | plaintext | `remote_addr()`, `local_addr()` |
//! | [`tonic_tls`](crate::service::Incoming::tonic_tls) | stacks with a `TlsLayer` | these and `peer_certs()` |
//! | [`tonic_with`](crate::service::Incoming::tonic_with) | what else a program wants to know | that type in `extensions()` |
//!
//! tonic tells a request one type of its connection, and these methods differ in which. With
//! `tonic_with(|connection| connection.info().clone())` it is the [`ConnectionInfo`]; the interceptor [`tell`]
//! adds the others to it.
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
//!     .layer(InterceptorLayer::new(portcullis::tonic::tell))
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
//! Handshakes run side by side before a connection comes out of the stream, so tonic never waits for one.
//! A connection keeps what the layers made it hold until tonic drops it, and tonic by itself drops no
//! connection that is silent: set its `http2_keepalive_interval`. Only the first bytes of HTTP/2 have a bound
//! here, half a minute.
//!
//! ## The end
//!
//! Stop the [`Server`](crate::Server), by a signal or its handle, and give tonic
//! [`pending`](std::future::pending) as its own signal. The server accepts what the kernel holds, finishes the
//! handshakes, and the stream ends half a second after the last one, so that no client is rejected that
//! was accepted and sends its first request at once. Then tonic sends `GOAWAY` on all connections and waits for what is in flight.
//! Clients that have asked for nothing do not delay that: a handshake or an HTTP/2 preface that is incomplete
//! half a second after the last accept ends its connection, and so does a client that has no open stream and
//! is silent for two seconds from the `GOAWAY` on ([`TonicIo`] ends its input). What tonic drops is closed
//! gracefully, in a task that the server's drain waits for; see [`LingerIo`](crate::service::LingerIo).
//! The server's [deadline](crate::server::Drain) holds throughout: what is left
//! by then is cut, and tonic's future ends too.
//!
//! A signal that is given to tonic itself makes it drop the stream at once. That stops the server as well,
//! but connections that were not taken yet are closed, and so are those in a handshake; clients have to
//! try again. Plain `serve_with_incoming` returns when the stream ends, while connections go on without a `GOAWAY`;
//! [`Handle::wait`](crate::server::Handle::wait) waits for them.

mod incoming;
mod io;

pub use self::{incoming::TonicIncoming, io::TonicIo};
pub use portcullis_middleware::connection::TlsConnectInfo;

use ::tonic::{Request, Status};
use portcullis_middleware::ConnectionInfo;

/// An interceptor that adds what `remote_addr()` and `peer_certs()` look for, where the request has a
/// [`ConnectionInfo`]; see the [module docs](self).
///
/// # Errors
///
/// None.
pub fn tell(mut request: Request<()>) -> Result<Request<()>, Status> {
    let info: Option<ConnectionInfo> = request.extensions().get().cloned();
    if let Some(info) = info {
        tell_of(&info, request.extensions_mut());
    }
    Ok(request)
}

/// Adds what `remote_addr()` and `peer_certs()` look for.
pub(crate) fn tell_of(info: &ConnectionInfo, told: &mut http::Extensions) {
    told.insert(info.tcp_connect_info());
    if let Some(tls) = info.tls_connect_info() {
        told.insert(tls);
    }
}
