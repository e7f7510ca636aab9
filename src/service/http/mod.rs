//! Serves HTTP/1.1 and HTTP/2: the end of a stack in front of an axum `Router`, tonic's `Routes`, or any
//! `tower::Service<http::Request<_>>`.
//!
//! hyper speaks the protocol, through hyper-util, which tells HTTP/2 from HTTP/1 by the first bytes
//! (prior knowledge; under TLS offer `h2` and `http/1.1` by ALPN). What is added here is what concerns
//! the connection: bounds in time from before the first byte on, what a request can see of its
//! connection, and an end that loses no request.
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
//! is anything. With the feature `axum` there is `ConnectInfo<SocketAddr>` beside it, and with the feature
//! `tonic` a gRPC request's `remote_addr()` and `peer_certs()` work.
//!
//! # Time
//!
//! | Bound | Default | What happens |
//! |---|---|---|
//! | until the first byte | 30 s | the connection fails with [`Elapsed`] (`FirstByte`) |
//! | head of a request, from its first byte | 30 s | the connection fails with [`Elapsed`] (`RequestHead`) |
//! | body of a request, while it is waited for | 240 B/s after 10 s | reading the body fails with [`Elapsed`] (`RequestBody`) |
//! | keep-alive between requests | 75 s | the connection ends politely |
//! | response that is ready, of which the client takes nothing | 60 s | the connection fails with [`Elapsed`] (`Write`) |
//! | HTTP/2 ping | every 30 s, answered within 20 s | the connection fails |
//! | [linger](HttpService::with_linger) after the last response | 30 s, and 5 s without input | the connection is closed |
//!
//! Nothing bounds how long a handler thinks or for how long a response streams: a long poll, silent
//! server-sent events, an idle gRPC stream live on, and so does a client that reads slowly, as long as it
//! reads. The bound on responses sees both, a client that reads nothing and one that answers pings and
//! opens no window of HTTP/2; it counts for all responses of a connection together.
//!
//! An [`io_timeout`](portcullis_middleware::io_timeout) below is not needed for any of this. Where there
//! is one (it also bounds what a WebSocket sends), turn its bound on reads off, which would end the healthy
//! ones just named:
//!
//! ```
//! use portcullis::{ServiceBuilderExt, middleware::io_timeout::IoTimeoutLayer, service::HttpService};
//! use tower::ServiceBuilder;
//!
//! # let router = axum::Router::new();
//! let stack = ServiceBuilder::new()
//!     .peer_addr()
//!     .layer(IoTimeoutLayer::new().with_read(None))
//!     .service(HttpService::new(router));
//! # portcullis::Server::new().listen(portcullis::listener::MemoryListener::pair().0, stack);
//! ```
//!
//! # The end
//!
//! When the server [announces](crate::server::Drain) its end, HTTP/1 responses say `connection: close` and
//! HTTP/2 clients get a `GOAWAY`; what they send meanwhile is served. (Of pipelined requests the first
//! that is answered after the announcement is the last, see RFC 9112, section 9.6.) When the server accepts
//! no more, idle connections get a [last call](HttpService::with_last_call) and go. Requests and streams in
//! flight, and clients that still read, have until the server's deadline. An upgraded connection
//! (WebSocket, CONNECT) keeps what the layers made it hold, a permit of a limit for example, and belongs to
//! the drain until it is dropped.
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

mod answer;
mod body;
mod exchanges;
pub(crate) mod facts;
mod io;
mod keeper;
mod request;
mod serve;

pub use self::body::{BodyRate, RequestBody};

use self::{request::HttpRequests, serve::Serve};
use http::{Request, Response};
use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto,
};
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
    hyper: auto::Builder<TokioExecutor>,
    first_byte: Option<Duration>,
    head: Option<Duration>,
    idle: Option<Duration>,
    send: Option<Duration>,
    last_call: Duration,
    body: Option<BodyRate>,
    linger: Linger,
}

impl<S> HttpService<S> {
    /// Serves HTTP/1.1 and HTTP/2 with `requests`, within the bounds of the [module docs](self).
    pub fn new(requests: S) -> Self {
        let mut hyper = auto::Builder::new(TokioExecutor::new());
        // The keeper's bounds are finer: hyper has one for the head and the time before it. Who sets that
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
            last_call: Duration::from_millis(500),
            body: Some(BodyRate::new(240, Duration::from_secs(10))),
            linger: Linger::new(),
        };
        Self {
            requests,
            settings: Arc::new(settings),
        }
    }

    /// Sets how long a client may take to say its first byte; `None` for ever.
    #[must_use]
    pub fn with_first_byte_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings().first_byte = timeout.into();
        self
    }

    /// Sets how long the head of an HTTP/1 request may take from its first byte on; `None` for ever.
    #[must_use]
    pub fn with_head_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings().head = timeout.into();
        self
    }

    /// Sets how long a connection may have no request between two; `None` for ever.
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings().idle = timeout.into();
        self
    }

    /// Sets for how long a client may take nothing of what is ready for it; `None` for ever.
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

    /// Sets for how long an idle connection is kept when the server accepts no more.
    ///
    /// Half a second by default: a request that was sent in good faith just before is served.
    #[must_use]
    pub fn with_last_call(mut self, last_call: Duration) -> Self {
        self.settings().last_call = last_call;
        self
    }

    /// Sets how long a connection lingers at its end, so that the client receives the last response.
    ///
    /// 30 seconds in all and 5 seconds without input by default; see [`Linger`]. It also applies to
    /// upgraded connections.
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
    pub fn with_hyper(mut self, change: impl FnOnce(&mut auto::Builder<TokioExecutor>)) -> Self {
        change(&mut self.settings().hyper);
        self
    }

    fn settings(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
}

impl<S, B, IO> Service<Connection<IO>> for HttpService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
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
        let requests = HttpRequests::new(self.requests.clone(), &connection, settings.body);
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
