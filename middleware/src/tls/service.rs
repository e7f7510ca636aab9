//! The service.

use super::{TlsFuture, TlsIo, TlsLayer, handshake::handshake};
use crate::{BoxError, Connection};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

/// Performs the TLS handshake of each connection and passes its plaintext to the inner service.
///
/// It is always ready, and waits for the inner service after the handshake.
#[derive(Clone, Debug)]
pub struct Tls<S> {
    inner: S,
    tls: TlsLayer,
}

impl<S> Tls<S> {
    pub(super) const fn new(inner: S, tls: TlsLayer) -> Self {
        Self { inner, tls }
    }
}

impl<S, IO> Service<Connection<IO>> for Tls<S>
where
    S: Service<Connection<TlsIo<IO>>, Error: Into<BoxError>> + Clone,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = TlsFuture<S, IO>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        let handshake = handshake(self.tls.clone(), connection);
        TlsFuture::new(Box::pin(handshake), self.inner.clone())
    }
}
