//! Takes the connection back after an HTTP/1 upgrade.
//!
//! hyper passes an upgraded connection (WebSocket, `CONNECT`) on as an opaque `Upgraded`. [`on`] returns the
//! [`Connection`] instead, with its [`ConnectionInfo`](portcullis_middleware::ConnectionInfo), its extensions and its
//! guards, such as a connection permit. Bytes that hyper has read ahead come first. The drain waits for the connection
//! as before.
//!
//! End it with [`Connection::close`]. Unlike an `Upgraded`, it does not linger when it is dropped.
//!
//! # Limitations
//!
//! - In HTTP/2, `CONNECT` turns a stream into a tunnel, and the connection stays with HTTP.
//! - Requests of `axum::serve` and tonic's server, over a stack as their listener, are not supported.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response, StatusCode, header::{CONNECTION, UPGRADE}};
//! use portcullis::{BoxError, Connection, service::{HttpService, http::{RequestBody, upgrade}}};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
//! use tower::{Service, service_fn};
//!
//! async fn answer(mut request: Request<RequestBody>) -> Result<Response<String>, BoxError> {
//!     let upgrade = upgrade::on(&mut request)?;
//!     tokio::spawn(async move {
//!         let mut connection = upgrade.await?;
//!         connection.write_all(b"no HTTP any more").await?;
//!         connection.close().await?;
//!         Ok::<_, BoxError>(())
//!     });
//!     let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
//!     let response = response.header(CONNECTION, "upgrade").header(UPGRADE, "mine");
//!     Ok(response.body(String::new())?)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let (mut client, ours) = duplex(1024);
//! let served = HttpService::new(service_fn(answer)).call(Connection::accept(ours));
//! # let served = tokio::spawn(served);
//! client.write_all(b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: mine\r\n\r\n").await?;
//! let mut received = String::new();
//! client.read_to_string(&mut received).await?;
//! assert!(received.starts_with("HTTP/1.1 101 ") && received.ends_with("\r\n\r\nno HTTP any more"));
//! # served.await??;
//! # Ok(())
//! # }
//! ```

use super::io::HttpIo;
use http::{Request, Version};
use hyper::upgrade::Upgraded;
use hyper_util::{rt::TokioIo, server::conn::auto::upgrade::downcast};
use portcullis_middleware::{
    Connection,
    io::{BoxIo, PrefixedIo},
};
use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite};

/// Returns the future connection of a request that may be upgraded.
///
/// Call it before the response. The connection arrives once a response with status 101, or a successful one to
/// `CONNECT`, was sent.
///
/// # Errors
///
/// [`UpgradeError`] if the client requests no upgrade, if the upgrade was already taken, if the request is one of
/// HTTP/2, or if it comes from another server than [`HttpService`](super::HttpService). The request is unchanged, so
/// that `hyper::upgrade::on` can take a tunnel of HTTP/2.
pub fn on<B>(request: &mut Request<B>) -> Result<OnUpgrade, UpgradeError> {
    let take_back = request.extensions_mut().remove::<TakeBack>();
    let take_back = take_back.ok_or(match request.version() {
        Version::HTTP_2 => UpgradeError(UpgradeFailure::Stream),
        _ => UpgradeError(UpgradeFailure::NotRequested),
    })?;
    let upgrade = hyper::upgrade::on(request);
    Ok(OnUpgrade { upgrade, take_back })
}

/// Future of an upgraded connection; see [`on`].
///
/// It fails with an [`UpgradeError`] if the response does not upgrade, or if the connection ends before. Dropping it
/// closes the connection gracefully once it is upgraded.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct OnUpgrade {
    upgrade: hyper::upgrade::OnUpgrade,
    take_back: TakeBack,
}

impl Future for OnUpgrade {
    type Output = Result<Connection<BoxIo>, UpgradeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let upgraded = ready!(Pin::new(&mut self.upgrade).poll(cx));
        let upgraded =
            upgraded.map_err(|error| UpgradeError(UpgradeFailure::Failed(Some(error))))?;
        Poll::Ready((self.take_back.0)(upgraded))
    }
}

/// An upgraded request has no connection to return.
#[derive(Debug)]
pub struct UpgradeError(UpgradeFailure);

#[derive(Debug)]
enum UpgradeFailure {
    NotRequested,
    Stream,
    /// The response does not upgrade, or the connection has ended for this reason.
    Failed(Option<hyper::Error>),
    Foreign,
}

impl UpgradeError {
    /// Whether the request is one of HTTP/2, whose connection stays with HTTP.
    pub const fn is_stream(&self) -> bool {
        matches!(self.0, UpgradeFailure::Stream)
    }

    /// Whether the request offers no upgrade, or it was already taken.
    pub const fn is_not_requested(&self) -> bool {
        matches!(self.0, UpgradeFailure::NotRequested)
    }
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            UpgradeFailure::NotRequested => {
                "the request has no upgrade to take: it requests none, it was taken already, or HttpService does \
                 not serve it"
            }
            UpgradeFailure::Stream => {
                "the request is one of HTTP/2, where an upgrade takes a stream and not the connection: use \
                 hyper::upgrade::on"
            }
            UpgradeFailure::Failed(_) => "the connection was not upgraded",
            UpgradeFailure::Foreign => "the upgraded connection belongs to another server than HttpService",
        })
    }
}

impl Error for UpgradeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            UpgradeFailure::Failed(Some(error)) => Some(error),
            _ => None,
        }
    }
}

/// Takes connections of one type back from hyper. Requests that may be upgraded contain it, because only
/// `HttpService` knows the type.
#[derive(Clone, Copy, Debug)]
pub(super) struct TakeBack(fn(Upgraded) -> Result<Connection<BoxIo>, UpgradeError>);

impl TakeBack {
    pub(super) const fn of<IO>() -> Self
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self(take_back::<IO>)
    }

    /// Inserts itself into a request that may be upgraded.
    pub(super) fn insert_into<B>(self, request: &mut Request<B>) {
        let extensions = request.extensions_mut();
        // hyper inserts it only where the client requests an upgrade, so that other requests stay without
        // an allocation.
        if extensions.get::<hyper::upgrade::OnUpgrade>().is_some() {
            extensions.insert(self);
        }
    }
}

fn take_back<IO>(upgraded: Upgraded) -> Result<Connection<BoxIo>, UpgradeError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let parts = downcast::<TokioIo<HttpIo<IO>>>(upgraded)
        .map_err(|_| UpgradeError(UpgradeFailure::Foreign))?;
    // hyper also hands a connection out that ends after another response.
    let io = parts.io.into_inner();
    if !io.activity().is_upgraded() {
        return Err(UpgradeError(UpgradeFailure::Failed(None)));
    }
    let (connection, unread) = io.into_connection();
    let prefix = [&parts.read_buf, &*unread].concat();
    Ok(match &*prefix {
        [] => connection.box_io(),
        _ => connection
            .map_io(|io| PrefixedIo::with_prefix(io, prefix))
            .box_io(),
    })
}
