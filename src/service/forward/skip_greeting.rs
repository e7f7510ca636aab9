//! Discards the greeting of a mail server whose clients were greeted already.

use portcullis_middleware::{
    BoxError, Connection, ConnectionInfo,
    connection::Address,
    error::{Elapsed, TimeoutPhase},
    io::PrefixedIo,
    prelude::Greeting,
};
use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tower::{Service, ServiceExt};

/// A backend service whose connections begin behind the greeting of the mail server.
///
/// A [`PreludeLayer`](portcullis_middleware::prelude::PreludeLayer) greets the clients for SMTP, IMAP and POP3, and they
/// go on without a second greeting under TLS. A server that refuses the connection in its greeting fails the connect,
/// so the client sees a close. Its words are in the [`GreetingError`].
///
/// ```
/// use portcullis::{
///     middleware::prelude::Greeting,
///     service::{ForwardService, forward::SkipGreeting},
///     upstream::Pool,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), portcullis::BoxError> {
/// let pool = Pool::new(["10.0.3.3:10587".parse::<std::net::SocketAddr>()?]);
/// // Behind `PreludeLayer::new(Smtp::new("mail.example"))` and `TlsLayer`.
/// let submission = ForwardService::new(SkipGreeting::new(pool, Greeting::Smtp));
/// # drop(submission);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SkipGreeting<B> {
    backend: B,
    greeting: Greeting,
    timeout: Option<Duration>,
}

impl<B> SkipGreeting<B> {
    /// Discards the `greeting` of the connections that `backend` makes.
    pub const fn new(backend: B, greeting: Greeting) -> Self {
        Self {
            backend,
            greeting,
            timeout: Some(DEFAULT_TIMEOUT),
        }
    }

    /// Limits the time until the greeting is complete, counted from the connect; 10 s by default. `None` disables the
    /// timeout.
    #[must_use]
    pub fn with_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }
}

impl<B, IO> Service<ConnectionInfo> for SkipGreeting<B>
where
    B: Service<ConnectionInfo, Response = Connection<IO>, Error: Into<BoxError>>
        + Clone
        + Send
        + 'static,
    B::Future: Send,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Response = Connection<PrefixedIo<IO>>;
    type Error = BoxError;
    type Future = SkipGreetingFuture<IO>;

    /// Always ready. The future waits for the backend.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, client: ConnectionInfo) -> SkipGreetingFuture<IO> {
        let Self {
            backend,
            greeting,
            timeout: bound,
        } = self.clone();
        SkipGreetingFuture(Box::pin(async move {
            let connected = backend.oneshot(client).await;
            let mut connection = connected.map_err(Into::into)?;
            let bound = bound.unwrap_or(Duration::MAX);
            let skipped = match timeout(bound, greeting.skip(&mut connection)).await {
                Ok(skipped) => skipped.map_err(Into::into),
                Err(_) => Err(Elapsed::new(TimeoutPhase::PRELUDE, bound).into()),
            };
            match skipped {
                Ok(rest) => Ok(connection.map_io(|io| PrefixedIo::with_prefix(io, rest))),
                Err(source) => {
                    let server = connection.info().socket_peer().clone();
                    Err(GreetingError { server, source }.into())
                }
            }
        }))
    }
}

/// Future of [`SkipGreeting`]. Dropping it drops the connection.
pub struct SkipGreetingFuture<IO>(Pin<Box<Skipping<IO>>>);

type Skipping<IO> = dyn Future<Output = Result<Connection<PrefixedIo<IO>>, BoxError>> + Send;

impl<IO> Future for SkipGreetingFuture<IO> {
    type Output = Result<Connection<PrefixedIo<IO>>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<IO> fmt::Debug for SkipGreetingFuture<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SkipGreetingFuture").finish_non_exhaustive()
    }
}

/// A server was connected to and did not greet; the cause is the source.
#[derive(Debug)]
pub struct GreetingError {
    server: Address,
    source: BoxError,
}

impl GreetingError {
    /// The address of the server.
    pub const fn server(&self) -> &Address {
        &self.server
    }
}

impl fmt::Display for GreetingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no greeting from {}", self.server)
    }
}

impl Error for GreetingError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
