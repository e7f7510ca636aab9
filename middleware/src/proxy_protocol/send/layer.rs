//! Writes a header at the beginning of an outgoing connection.

use crate::{
    BoxError, Connection,
    error::{Elapsed, TimeoutPhase},
    first_then::FirstThen,
};
use pin_project::pin_project;
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tower::{Layer, Service};

/// Writes a PROXY header to each outgoing connection before anything else.
///
/// The header describes one client, so a layer belongs to one connection. Creating it costs one allocation. With
/// `Connector::with_layers` of the package `portcullis`, place it outside of layers that write or wrap the stream.
/// TLS to the server begins after it.
///
/// # Errors
///
/// The service fails with the error of the write, or with [`Elapsed`] and [`TimeoutPhase::WRITE`].
///
/// # Cancel safety
///
/// Dropping the future closes the connection. The server may have received a part of the header.
///
/// ```
/// use portcullis_middleware::{ConnectionInfo, connection::Address, testing::in_memory};
/// use portcullis_middleware::proxy_protocol::{ProxyHeaderEncoder, SendProxyHeaderLayer};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), portcullis_middleware::BoxError> {
/// # let client = ConnectionInfo::new(Address::Unknown, Address::Unknown);
/// // `client` is the info of the connection that is forwarded.
/// let header = ProxyHeaderEncoder::v1().encode(&client);
/// let ask = SendProxyHeaderLayer::new(header).layer(service_fn(
///     |mut server: portcullis_middleware::Connection<_>| async move {
///         server.write_all(b"hello").await?;
///         server.close().await
///     },
/// ));
///
/// let (connection, mut server) = in_memory(1024);
/// let mut received = String::new();
/// tokio::try_join!(ask.oneshot(connection), async {
///     server.read_to_string(&mut received).await?;
///     server.shutdown().await.map_err(Into::into)
/// })?;
/// assert_eq!(received, "PROXY UNKNOWN\r\nhello");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SendProxyHeaderLayer {
    header: Arc<[u8]>,
    timeout: Option<Duration>,
}

/// Without the header, which names the client.
impl fmt::Debug for SendProxyHeaderLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendProxyHeaderLayer")
            .field("header_len", &self.header.len())
            .field("timeout", &self.timeout)
            .finish()
    }
}

impl SendProxyHeaderLayer {
    /// Writes `header`, usually from a [`ProxyHeaderEncoder`](super::ProxyHeaderEncoder).
    pub fn new(header: impl Into<Arc<[u8]>>) -> Self {
        Self {
            header: header.into(),
            timeout: Some(DEFAULT_TIMEOUT),
        }
    }

    /// Sets the timeout of the write; 5 s by default. `None` disables it.
    #[must_use]
    pub fn with_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Dropping the future drops the connection.
    async fn send<IO: AsyncWrite + Unpin>(
        self,
        mut connection: Connection<IO>,
    ) -> Result<Connection<IO>, BoxError> {
        let bound = self.timeout.unwrap_or(Duration::MAX);
        let writing = async {
            connection.write_all(&self.header).await?;
            connection.flush().await
        };
        let elapsed = |_| Elapsed::new(TimeoutPhase::WRITE, bound);
        timeout(bound, writing).await.map_err(elapsed)??;
        Ok(connection)
    }
}

impl<S> Layer<S> for SendProxyHeaderLayer {
    type Service = SendProxyHeader<S>;

    fn layer(&self, inner: S) -> SendProxyHeader<S> {
        let layer = self.clone();
        SendProxyHeader { inner, layer }
    }
}

/// Writes a PROXY header to each connection, then calls the inner service.
///
/// It is always ready, and waits for the inner service after the header.
#[derive(Clone, Debug)]
pub struct SendProxyHeader<S> {
    inner: S,
    layer: SendProxyHeaderLayer,
}

impl<S, IO> Service<Connection<IO>> for SendProxyHeader<S>
where
    S: Service<Connection<IO>, Error: Into<BoxError>> + Clone,
    IO: AsyncWrite + Unpin + Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = SendProxyHeaderFuture<S, IO>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        let sending = Box::pin(self.layer.clone().send(connection));
        SendProxyHeaderFuture(FirstThen::new(sending, self.inner.clone()))
    }
}

/// Future of [`SendProxyHeader`]: the header, then the inner service `S`.
#[pin_project]
pub struct SendProxyHeaderFuture<S: Service<Connection<IO>>, IO>(#[pin] FirstThen<S, IO>);

impl<S, IO> Future for SendProxyHeaderFuture<S, IO>
where
    S: Service<Connection<IO>, Error: Into<BoxError>>,
    IO: 'static,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().0.poll(cx)
    }
}

impl<S: Service<Connection<IO>>, IO> fmt::Debug for SendProxyHeaderFuture<S, IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state("sending");
        f.debug_tuple("SendProxyHeaderFuture")
            .field(&state)
            .finish()
    }
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
