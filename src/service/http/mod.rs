//! Serves HTTP/1.1 and HTTP/2 with an axum `Router`, tonic's `Routes`, or any
//! `tower::Service<http::Request<_>>`.
//!
//! hyper implements the protocol, through hyper-util. This module adds timeouts that start before the first
//! byte, connection info in each request, and a graceful shutdown that drops no requests.
//!
//! Under TLS, offer `h2` and `http/1.1` by ALPN. Only the negotiated protocol is served (RFC 7301, section
//! 3.2). HTTP/1.1 is answered with a `GOAWAY` if `h2` was negotiated, and HTTP/2 with `400` if `http/1.1`
//! was. Without ALPN, or with another protocol name, the first bytes distinguish HTTP/2 (prior knowledge)
//! from HTTP/1. `http1_only` and `http2_only` of [hyper's settings](HttpService::with_hyper) apply in each
//! case.
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
//! # Request extensions
//!
//! Each request contains the [`ConnectionInfo`]: addresses (the client's own, after a PROXY header), TLS with
//! the client's certificates and the requested host name, and the drain signal. The connection's
//! [`Extensions`] are there too if layers have filled them. With the feature `axum` there is also
//! `ConnectInfo<SocketAddr>` (`0.0.0.0:0` for a peer without an IP address). With the feature `tonic`,
//! `remote_addr()` and `peer_certs()` of gRPC requests work.
//!
//! # Timeouts
//!
//! | Limit | Default | Outcome |
//! |---|---|---|
//! | until the first byte | 30 s | the connection fails with [`Elapsed`] ([`FIRST_BYTE`](phase::FIRST_BYTE)) |
//! | head of a request, from its first byte | 30 s | the connection fails with [`Elapsed`] ([`REQUEST_HEAD`](phase::REQUEST_HEAD)) |
//! | body of a request, while the server waits for it | 240 B/s after 10 s | reading the body fails with [`Elapsed`] ([`REQUEST_BODY`](phase::REQUEST_BODY)) |
//! | idle, without a request or an HTTP/2 tunnel (CONNECT) | 75 s | the connection closes gracefully |
//! | response that is ready but unread by the client | 60 s | the connection fails with [`Elapsed`] ([`WRITE`](portcullis_middleware::error::TimeoutPhase::WRITE)) |
//! | HTTP/2 ping | every 30 s, answered within 20 s | the connection fails |
//! | [linger](HttpService::with_linger) after the last response | 30 s, and 5 s without input | the connection is closed |
//!
//! A request body counts as read at its end, even if the handler still holds it. Clients may pause between
//! the messages of streaming gRPC and Connect calls if the service [has such
//! calls](HttpService::with_streaming_calls).
//!
//! Handlers may take as long as they need, and responses may stream indefinitely. Long polls, silent
//! server-sent events, idle gRPC streams and slow readers stay open. The timeout for unread responses also
//! covers HTTP/2 clients that answer pings without opening their window; it applies to all responses of a
//! connection together.
//!
//! An [`io_timeout`](portcullis_middleware::timeout::io_timeout) layer below is optional. If there is one,
//! for example to limit the writes of a WebSocket, disable its read timeout, which would end healthy
//! connections like those above:
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
//! # Graceful shutdown
//!
//! When the server [begins its shutdown](crate::server::Drain), HTTP/1 responses contain `connection: close`
//! and HTTP/2 clients receive a `GOAWAY`; requests that arrive meanwhile are served. (Of pipelined requests,
//! the first that is answered after the notice is the last, see RFC 9112, section 9.6.) When the server stops
//! accepting, idle connections close after an [idle grace period](HttpService::with_idle_grace_period). So do
//! clients that have not sent a byte. HTTP/2 clients close after two seconds of silence from the `GOAWAY`,
//! and unfinished TLS handshakes or PROXY headers after half a second. Requests and streams in flight, and
//! clients that are still reading, have until the server's deadline. An upgraded connection (WebSocket,
//! CONNECT) keeps its guards, such as a connection permit, and the drain waits until it is dropped.
//!
//! A TLS client that closes without `close_notify` between two messages ends its connection in order, because
//! HTTP marks the end of each message. In the middle of a request (over HTTP/2, while any is in flight) the
//! connection is [`Truncated`](portcullis_middleware::outcome::Outcome::Truncated).
//!
//! A client can receive a response while it is still sending, for example a 413 to a large upload. After the
//! last response, input is read and discarded until the client closes too
//! ([`with_linger`](HttpService::with_linger); RFC 9112, section 9.6). An upgraded connection is a
//! [`LingerIo`](super::LingerIo), unless the handler takes the [`Connection`] back with [`upgrade::on`]. A shutdown only ends our side of it, and a drop closes it gracefully, under
//! TLS with `close_notify`. Connection permits are released before that. Connections that still linger at the
//! drain's deadline are force-closed.
//!
//! By default, an HTTP/1 client that half-closes before the response is treated as disconnected and its
//! handler is cancelled. Enable hyper's `half_close` to support such clients.

mod activity;
mod body;
#[cfg(any(feature = "axum", feature = "tonic"))]
pub(crate) mod departing_io;
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
mod service_call;
mod supervisor;
mod tasks;
pub mod upgrade;

pub use self::{
    body::{BodyRate, RequestBody},
    request_service::RequestService,
    tasks::HttpTasks,
};

use self::{request::HttpRequests, serve::Serve};
use hyper_util::{rt::TokioTimer, server::conn::auto};
use portcullis_middleware::{
    BoxError, Connection, connection::Linger, internal::IDLE_GRACE_PERIOD,
};
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
    settings: Arc<HttpSettings>,
}

#[derive(Clone, Debug)]
struct HttpSettings {
    hyper: auto::Builder<HttpTasks>,
    first_byte: Option<Duration>,
    head: Option<Duration>,
    idle: Option<Duration>,
    send: Option<Duration>,
    idle_grace_period: Duration,
    body: Option<BodyRate>,
    streaming_calls: bool,
    linger: Linger,
    #[cfg(feature = "axum")]
    connect_info: bool,
}

impl<S> HttpService<S> {
    /// Serves HTTP/1.1 and HTTP/2 with `requests`, with the timeouts of the [module docs](self).
    pub fn new(requests: S) -> Self {
        let mut hyper = auto::Builder::new(HttpTasks::default());
        // The supervisor's timeouts are finer, because hyper combines the head and the time before it. A
        // caller that sets hyper's timeout needs the timer, without which hyper panics.
        hyper
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(None);
        hyper
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        let settings = HttpSettings {
            hyper,
            first_byte: Some(Duration::from_secs(30)),
            head: Some(Duration::from_secs(30)),
            idle: Some(Duration::from_secs(75)),
            send: Some(Duration::from_secs(60)),
            idle_grace_period: IDLE_GRACE_PERIOD,
            body: Some(BodyRate::new(240, Duration::from_secs(10))),
            streaming_calls: false,
            linger: Linger::new(),
            #[cfg(feature = "axum")]
            connect_info: true,
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

    /// Sets how long the head of an HTTP/1 request may take from its first byte; `None` disables the timeout.
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
    /// Each byte that the client reads restarts the timeout, so it does not limit the length of a response.
    /// On an HTTP/2 connection it applies to all responses together and expires when none of those with
    /// waiting data makes progress.
    #[must_use]
    pub fn with_send_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings().send = timeout.into();
        self
    }

    /// Sets the minimum data rate of request bodies; `None` disables it.
    #[must_use]
    pub fn with_body_rate(mut self, rate: impl Into<Option<BodyRate>>) -> Self {
        self.settings().body = rate.into();
        self
    }

    /// Exempts streaming calls of gRPC and Connect from the [`BodyRate`].
    ///
    /// Clients may then pause between the messages of such a request indefinitely. This applies to HTTP/2
    /// requests of the types `application/grpc`, `application/grpc+…` and `application/connect+…`. A client
    /// can claim these types for any path, so keep the default for a service without client streaming.
    #[must_use]
    pub fn with_streaming_calls(mut self) -> Self {
        self.settings().streaming_calls = true;
        self
    }

    /// Leaves axum's `ConnectInfo<SocketAddr>` out of requests.
    ///
    /// It saves about 280 instructions per request. Handlers can still read the address from [`ConnectionInfo`],
    /// which every request contains.
    #[cfg(feature = "axum")]
    #[must_use]
    pub fn without_connect_info(mut self) -> Self {
        self.settings().connect_info = false;
        self
    }

    /// Sets how long idle connections stay open after the server stops accepting.
    ///
    /// The default is half a second, so that requests sent just before are still served.
    #[must_use]
    pub fn with_idle_grace_period(mut self, idle_grace_period: Duration) -> Self {
        self.settings().idle_grace_period = idle_grace_period;
        self
    }

    /// Sets how long a connection lingers, so that the client receives the last response.
    ///
    /// The default is 30 seconds in total and 5 seconds without input; see [`Linger`]. It also applies to
    /// upgraded connections. A connection that has already been idle for the time without input closes
    /// immediately.
    #[must_use]
    pub fn with_linger(mut self, linger: Linger) -> Self {
        self.settings().linger = linger;
        self
    }

    /// Changes hyper's own settings for HTTP/1 and HTTP/2.
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

    fn settings(&mut self) -> &mut HttpSettings {
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

    /// Always ready, because the service is made ready for each request.
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
