//! TLS and plain text on one port.

use super::{
    TlsIo, TlsLayer,
    handshake::{HandshakeFailure, handshake},
};
use crate::{
    BoxError, Connection,
    connection::Phase,
    drain::within_grace_period,
    error::{Elapsed, TimeoutPhase},
    first_then::{FirstStep, FirstThen},
    io::{EitherIo, PrefixedIo},
};
use pin_project::pin_project;
use std::{
    fmt,
    future::poll_fn,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};
use tower::{Layer, Service};

/// The stream inside of [`TlsOrPlain`]: plaintext of a TLS connection, or a plain stream.
pub type TlsOrPlainIo<IO> = EitherIo<TlsIo<PrefixedIo<IO>>, PrefixedIo<IO>>;

/// Layer for [`TlsOrPlain`]: terminates TLS for clients that begin with it, and passes others through.
///
/// The first byte decides. A TLS client sends a record of type 22 (RFC 8446, section 5.1), which is a control
/// character in protocols of text. [`Connection::tls`] is `None` for plain clients. Check it wherever plain text
/// must not be served, because an attacker between client and server can force it.
///
/// Clients must send first. A client that waits for the server's greeting, as in SMTP or MySQL, would wait until
/// the timeout, so such a protocol cannot share a port in this way.
///
/// It waits for the first byte within the limits of unfinished handshakes; a client that times out fails with
/// [`Elapsed`], one that is displaced with [`Refused`](crate::error::Refused). Dropping the future closes the
/// connection.
///
/// # Example
///
#[cfg_attr(any(feature = "aws-lc-rs", feature = "ring"), doc = "```")]
#[cfg_attr(not(any(feature = "aws-lc-rs", feature = "ring")), doc = "```ignore")]
/// use portcullis_middleware::{Connection, tls::{TlsLayer, TlsOrPlainLayer}};
/// use tokio::io::AsyncWriteExt;
/// use tower::{Layer, Service, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
/// # let (chain, key) = (own.cert.pem(), own.signing_key.serialize_pem());
/// let tls = TlsLayer::from_pem(chain.as_bytes(), key.as_bytes())?;
/// let mut stack = TlsOrPlainLayer::new(tls).layer(service_fn(|mut connection: Connection<_>| async move {
///     let secure = connection.tls().is_some();
///     connection.write_all(if secure { b"secure" } else { b"plain " }).await?;
///     connection.close().await
/// }));
/// # use tokio::io::AsyncReadExt;
/// let (ours, mut theirs) = tokio::io::duplex(4096);
/// theirs.write_all(b"hello").await?;
/// # theirs.shutdown().await?;
/// stack.call(Connection::accept(ours)).await?;
/// let mut output = String::new();
/// theirs.read_to_string(&mut output).await?;
/// assert_eq!(output, "plain ");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TlsOrPlainLayer {
    tls: TlsLayer,
    timeout: Option<Duration>,
}

impl TlsOrPlainLayer {
    /// Terminates TLS by `tls`, and waits 5 s for the first byte.
    pub const fn new(tls: TlsLayer) -> Self {
        Self {
            tls,
            timeout: Some(FIRST_BYTE_TIMEOUT),
        }
    }

    /// The layer for clients with TLS.
    pub const fn tls(&self) -> &TlsLayer {
        &self.tls
    }

    /// Sets the timeout of the first byte; 5 s by default, `None` disables it. The handshake has its own.
    #[must_use]
    pub fn with_first_byte_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }
}

impl<S> Layer<S> for TlsOrPlainLayer {
    type Service = TlsOrPlain<S>;

    fn layer(&self, inner: S) -> TlsOrPlain<S> {
        let layer = self.clone();
        TlsOrPlain { inner, layer }
    }
}

/// Serves TLS and plain clients on one port; see [`TlsOrPlainLayer`].
///
/// It is always ready, and waits for the inner service after the first byte or the handshake.
#[derive(Clone, Debug)]
pub struct TlsOrPlain<S> {
    inner: S,
    layer: TlsOrPlainLayer,
}

impl<S, IO> Service<Connection<IO>> for TlsOrPlain<S>
where
    S: Service<Connection<TlsOrPlainIo<IO>>, Error: Into<BoxError>> + Clone,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = TlsOrPlainFuture<S, IO>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        let first: FirstStep<_> = Box::pin(detect(self.layer.clone(), connection));
        TlsOrPlainFuture(FirstThen::new(first, self.inner.clone()))
    }
}

/// Future of [`TlsOrPlain`]: the first byte, the handshake if it is TLS, then the inner service `S`.
#[pin_project]
pub struct TlsOrPlainFuture<S: Service<Connection<TlsOrPlainIo<IO>>>, IO>(
    #[pin] FirstThen<S, TlsOrPlainIo<IO>>,
);

impl<S, IO> Future for TlsOrPlainFuture<S, IO>
where
    S: Service<Connection<TlsOrPlainIo<IO>>, Error: Into<BoxError>>,
    IO: 'static,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().0.poll(cx)
    }
}

impl<S: Service<Connection<TlsOrPlainIo<IO>>>, IO> fmt::Debug for TlsOrPlainFuture<S, IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state("detecting");
        f.debug_tuple("TlsOrPlainFuture").field(&state).finish()
    }
}

async fn detect<IO>(
    layer: TlsOrPlainLayer,
    mut connection: Connection<IO>,
) -> Result<Connection<TlsOrPlainIo<IO>>, BoxError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let info = connection.info().clone();
    info.set_phase(Phase::Handshake);
    let first = first_bytes(&layer, &mut connection).await;
    let first = match first.map_err(|after| Elapsed::new(FIRST_BYTE, after))? {
        Ok(first) => first,
        Err(HandshakeFailure::Io(error)) => return Err(error.into()),
        Err(HandshakeFailure::Displaced) => {
            connection.abort();
            return Err(TlsLayer::too_many_handshakes().into());
        }
    };
    let is_tls = first.first() == Some(&HANDSHAKE_RECORD);
    let connection = connection.map_io(|io| PrefixedIo::with_prefix(io, first));
    if is_tls {
        let connection = handshake(layer.tls, connection).await?;
        return Ok(connection.map_io(EitherIo::Left));
    }
    info.set_phase(Phase::Serving);
    Ok(connection.map_io(EitherIo::Right))
}

/// Reads once, within the timeout and a place among the unfinished handshakes.
async fn first_bytes<IO: AsyncRead + Unpin>(
    layer: &TlsOrPlainLayer,
    connection: &mut Connection<IO>,
) -> Result<Result<Vec<u8>, HandshakeFailure>, Duration> {
    let Some(mut place) = layer.tls.unfinished.enter() else {
        return Ok(Err(HandshakeFailure::Displaced));
    };
    let info = connection.info().clone();
    let reading = poll_fn(|cx| {
        // On the stack, so that a silent client takes no memory for it.
        let mut buffer = [MaybeUninit::uninit(); READ];
        let mut buffer = ReadBuf::uninit(&mut buffer);
        ready!(Pin::new(&mut *connection).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().to_vec()))
    });
    let reading = within_grace_period(&info, place.wait_for_client(reading));
    let bound = layer.timeout.unwrap_or(Duration::MAX);
    timeout(bound, reading).await.unwrap_or(Err(bound))
}

const FIRST_BYTE: TimeoutPhase = TimeoutPhase::new("first-byte");
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(5);
/// The first byte of a TLS record with a handshake message.
const HANDSHAKE_RECORD: u8 = 22;
const READ: usize = 512;
