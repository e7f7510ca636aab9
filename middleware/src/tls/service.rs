//! The service.

use super::{TlsFuture, TlsIo, TlsLayer, handshake::handshake};
use crate::{BoxError, Connection};
use std::{
    mem,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

/// Hands the inner service the plaintext of each connection once TLS is agreed on.
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
    type Future = TlsFuture<S, S::Future, IO>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        // The future needs the service that was ready; a clone is not.
        let clone = self.inner.clone();
        let ready = mem::replace(&mut self.inner, clone);
        TlsFuture::new(Box::pin(handshake(self.tls.clone(), connection)), ready)
    }
}
