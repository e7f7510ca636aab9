//! Serves HTTP/1.1 and HTTP/2: the end of a stack in front of an axum `Router`, tonic's `Routes`, or any
//! `tower::Service<http::Request<_>>`.
//!
//! hyper speaks the protocol, through hyper-util. What is added here is what concerns the connection:
//! timeouts that start before the first byte, the connection's request_context in each request, and a graceful shutdown
//! that loses no request.
//!
//! Under TLS, offer `h2` and `http/1.1` by ALPN. The negotiated protocol is the only one served (RFC 7301,
//! section 3.2): HTTP/1.1 is answered with a `GOAWAY` where `h2` was negotiated, and HTTP/2 with `400` where
//! `http/1.1` was. Without ALPN, or with another protocol name, the first bytes tell HTTP/2 (prior knowledge)
//! from HTTP/1. `http1_only` and `http2_only` of [hyper's settings](HttpService::with_hyper) apply in each case.
//!
//! ```
//! use portcullis::{Connection, Server, ServiceBuilderExt, listener::TcpListener, service::HttpService};
//! use tower::ServiceBuilder;
//! # use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis::BoxError> {
//! let router = axum::Router::new().route("/", axum::routing::get(|| async { "Hello!" }));
//!
//! let stack = ServiceBuilder::new()
//!     .peer_addr()
//!     .connection_limit(1000)
//!     .service(HttpService::new(router));
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let address = listener.local_addr()?;
//! let handle = Server::new().listen(listener, stack).spawn()?;
//!
//! let mut client = tokio::net::TcpStream::connect(address).await?;
//! client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
//! let mut answer = String::new();
//! client.read_to_string(&mut answer).await?;
//! assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("Hello!"));
//! # handle.stop();
//! # handle.wait().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What a request can see
//!
//! Its extensions have the [`ConnectionInfo`] under that type, whatever lies beneath: addresses (the
//! client's own, after a PROXY header), TLS with the client's certificates and the host name it asked for,
//! the drain. What layers left in the connection's [`Extensions`] is there too, under that type, if there
//! is anything. With the feature `axum` there is `ConnectInfo<SocketAddr>` beside it (`0.0.0.0:0` for a peer
//! without an IP address), and with the feature `tonic` a gRPC request's `remote_addr()` and `peer_certs()` work.
//!
//! # Time
//!
//! | Bound | Default | What happens |
//! |---|---|---|
//! | until the first byte | 30 s | the connection fails with [`Elapsed`] (`FirstByte`) |
//! | head of a request, from its first byte | 30 s | the connection fails with [`Elapsed`] (`RequestHead`) |
//! | body of a request, while it is waited for | 240 B/s after 10 s | reading the body fails with [`Elapsed`] (`RequestBody`) |
//! | idle: no request, and no HTTP/2 tunnel (CONNECT) | 75 s | the connection closes gracefully |
//! | response that is ready, of which the client takes nothing | 60 s | the connection fails with [`Elapsed`] (`Write`) |
//! | HTTP/2 ping | every 30 s, answered within 20 s | the connection fails |
//! | [linger](HttpService::with_linger) after the last response | 30 s, and 5 s without input | the connection is closed |
//!
//! A request body counts as read at its end, even if the handler still holds it. Clients may pause between the
//! messages of streaming gRPC and Connect calls if the service
//! [says that it has such calls](HttpService::with_streaming_calls).
//!
//! Nothing bounds how long a handler thinks or for how long a response streams: a long poll, silent
//! server-sent events, an idle gRPC stream live on, and so does a client that reads slowly, as long as it
//! reads. The bound on responses sees both, a client that reads nothing and one that answers pings and
//! opens no window of HTTP/2; it counts for all responses of a connection together.
//!
//! An [`io_timeout`](portcullis_middleware::timeout::io_timeout) below is not needed for any of this. Where there
//! is one (it also bounds what a WebSocket sends), turn its bound on reads off, which would end the healthy
//! ones just named:
//!
//! ```
//! use portcullis::{ServiceBuilderExt, middleware::timeout::IoTimeoutLayer, service::HttpService};
//! use tower::ServiceBuilder;
//!
//! # let router = axum::Router::new();
//! let stack = ServiceBuilder::new()
//!     .peer_addr()
//!     .layer(IoTimeoutLayer::new().without_read_timeout())
//!     .service(HttpService::new(router));
//! # portcullis::Server::new().listen(portcullis::listener::MemoryListener::pair().0, stack);
//! ```
//!
//! # The end
//!
//! When the server [announces](crate::server::Drain) its end, HTTP/1 responses say `connection: close` and
//! HTTP/2 clients get a `GOAWAY`; what they send meanwhile is served. (Of pipelined requests the first
//! that is answered after the announcement is the last, see RFC 9112, section 9.6.) When the server accepts
//! no more, idle connections get a [last call](HttpService::with_idle_grace_period) and go, and so do clients that have
//! sent nothing, or that are silent for two seconds from the `GOAWAY` on. A TLS handshake or a PROXY header that is
//! still incomplete has half a second, too. Requests and streams in
//! flight, and clients that still read, have until the server's deadline. An upgraded connection
//! (WebSocket, CONNECT) keeps what the layers made it hold, a permit of a limit for example, and belongs to
//! the drain until it is dropped.
//!
//! A TLS client that closes without `close_notify` between two messages ends its connection in order: HTTP
//! marks the end of each message. In the middle of a request (over HTTP/2, while any is in flight) the connection is
//! [`Truncated`](portcullis_middleware::outcome::Outcome::Truncated).
//!
//! A response arrives although the client is still sending, for example a 413 to a large upload: after the
//! last response, input is read and discarded until the client closes too
//! ([`with_linger`](HttpService::with_linger); RFC 9112, section 9.6). An upgraded connection is a
//! [`LingerIo`](super::LingerIo): a shutdown only ends our side of it, and dropping it closes it politely,
//! under TLS with `close_notify`. No permit of a limit is held meanwhile; the drain cuts what still
//! lingers at its deadline.
//!
//! A client that ends its side of an HTTP/1 connection before it has its response is taken as gone, and its
//! handler is dropped; hyper's `half_close` makes it stay.

mod activity;
mod answer;
mod body;
#[cfg(any(feature = "axum", feature = "tonic"))]
pub(crate) mod departure;
mod io;
mod messages;
pub mod phase;
mod protocol;
mod request;
pub(crate) mod request_context;
mod request_service;
mod serve;
mod supervisor;
mod tasks;

pub use self::{
    body::{BodyRate, RequestBody},
    request_service::RequestService,
    tasks::HttpTasks,
};

use self::{request::HttpRequests, serve::Serve};
use hyper_util::{rt::TokioTimer, server::conn::auto};
use portcullis_middleware::{BoxError, Connection, connection::Linger};
#[cfg(doc)]
use portcullis_middleware::{ConnectionInfo, Extensions, error::Elapsed};
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

/// Serves HTTP on connections with a service of requests; see the [module docs](self).
///
/// The service is cloned for each request and made ready before it is called, as in hyper-util.
#[derive(Clone)]
pub struct HttpService<S> {
    requests: S,
    settings: Arc<Settings>,
}

#[derive(Clone, Debug)]
struct Settings {
    hyper: auto::Builder<HttpTasks>,
    first_byte: Option<Duration>,
    head: Option<Duration>,
    idle: Option<Duration>,
    send: Option<Duration>,
    idle_grace_period: Duration,
    body: Option<BodyRate>,
    streaming_calls: bool,
    linger: Linger,
}

impl<S> HttpService<S> {
    /// Serves HTTP/1.1 and HTTP/2 with `requests`, within the bounds of the [module docs](self).
    pub fn new(requests: S) -> Self {
        let mut hyper = auto::Builder::new(HttpTasks::default());
        // The supervisor's bounds are finer: hyper has one for the head and the time before it. Who sets that
        // all the same needs the timer: without one hyper panics.
        hyper
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(None);
        hyper
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        let settings = Settings {
            hyper,
            first_byte: Some(Duration::from_secs(30)),
            head: Some(Duration::from_secs(30)),
            idle: Some(Duration::from_secs(75)),
            send: Some(Duration::from_secs(60)),
            idle_grace_period: Duration::from_millis(500),
            body: Some(BodyRate::new(240, Duration::from_secs(10))),
            streaming_calls: false,
            linger: Linger::new(),
        };
        Self {
            requests,
            settings: Arc::new(settings),
        }
    }

    /// Sets how long a client may take to send its first byte; `None` disables the timeout.
    #[must_use]
    pub fn with_first_byte_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings().first_byte = timeout.into();
        self
    }

    /// Sets how long the head of an HTTP/1 request may take from its first byte on; `None` disables the
    /// timeout.
    #[must_use]
    pub fn with_head_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings().head = timeout.into();
        self
    }

    /// Sets how long a connection may be idle between two requests; `None` disables the timeout.
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings().idle = timeout.into();
        self
    }

    /// Sets how long a client may leave a response unread; `None` disables the timeout.
    ///
    /// That is no bound on how long a response takes: each byte begins it anew. Responses of one HTTP/2
    /// connection are looked at together: it fails when none of those that have data ready moves.
    #[must_use]
    pub fn with_send_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings().send = timeout.into();
        self
    }

    /// Sets how slow the body of a request may come; `None` for as slow as it likes.
    #[must_use]
    pub fn with_body_rate(mut self, rate: impl Into<Option<BodyRate>>) -> Self {
        self.settings().body = rate.into();
        self
    }

    /// Exempts streaming calls of gRPC and Connect from the [`BodyRate`]; for services that have such calls.
    ///
    /// Clients may pause between the messages of such a request for as long as they like. Exempt are requests
    /// over HTTP/2 of the types `application/grpc`, `application/grpc+…` and `application/connect+…`. A client
    /// can claim these types for any path, so a service without client streaming keeps the default.
    #[must_use]
    pub fn with_streaming_calls(mut self) -> Self {
        self.settings().streaming_calls = true;
        self
    }

    /// Sets for how long an idle connection is kept when the server accepts no more.
    ///
    /// Half a second by default: a request that was sent in good faith just before is served.
    #[must_use]
    pub fn with_idle_grace_period(mut self, idle_grace_period: Duration) -> Self {
        self.settings().idle_grace_period = idle_grace_period;
        self
    }

    /// Sets how long a connection lingers at its end, so that the client receives the last response.
    ///
    /// 30 seconds in all and 5 seconds without input by default; see [`Linger`]. It also applies to
    /// upgraded connections. A connection that has already been idle for the time without input is closed
    /// at once.
    #[must_use]
    pub fn with_linger(mut self, linger: Linger) -> Self {
        self.settings().linger = linger;
        self
    }

    /// Changes the settings of hyper itself, for HTTP/1 and HTTP/2.
    ///
    /// ```
    /// use portcullis::service::HttpService;
    /// # let router = ();
    /// let service = HttpService::new(router).with_hyper(|hyper| {
    ///     hyper.http1().max_headers(64);
    ///     hyper.http2().max_concurrent_streams(64);
    /// });
    /// ```
    #[must_use]
    pub fn with_hyper(mut self, change: impl FnOnce(&mut auto::Builder<HttpTasks>)) -> Self {
        change(&mut self.settings().hyper);
        self
    }

    fn settings(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
}

impl<S, IO> Service<Connection<IO>> for HttpService<S>
where
    S: RequestService,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Response = ();
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

    /// Always ready: the service of requests is made ready for each request.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        let settings = self.settings.clone();
        let requests = HttpRequests::new(self.requests.clone(), &connection, settings.clone());
        Box::pin(Serve::new(settings, requests, connection))
    }
}

impl<S> fmt::Debug for HttpService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpService")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
