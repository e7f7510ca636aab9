//! The service.

use super::{ProxyProtocolFuture, ProxyProtocolLayer, Source, receive::receive};
use crate::{BoxError, Connection, error::Refused, io::PrefixedIo};
use std::task::{Context, Poll};
use tokio::io::AsyncRead;
use tower::Service;

/// Reads the PROXY header of each connection, then calls the inner service.
///
/// It is always ready, and waits for the inner service after the header.
#[derive(Clone, Debug)]
pub struct ProxyProtocol<S> {
    inner: S,
    layer: ProxyProtocolLayer,
}

impl<S> ProxyProtocol<S> {
    pub(super) const fn new(inner: S, layer: ProxyProtocolLayer) -> Self {
        Self { inner, layer }
    }
}

impl<S, IO> Service<Connection<IO>> for ProxyProtocol<S>
where
    S: Service<Connection<PrefixedIo<IO>>, Error: Into<BoxError>> + Clone,
    IO: AsyncRead + Unpin + Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ProxyProtocolFuture<S, IO>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        match self.layer.source(connection.info().socket_peer()) {
            Source::Proxy => {
                let receiving = Box::pin(receive(&self.layer, connection));
                ProxyProtocolFuture::receive(receiving, self.inner.clone())
            }
            Source::Client => {
                let connection = connection.map_io(PrefixedIo::new);
                ProxyProtocolFuture::serve(connection, self.inner.clone())
            }
            Source::Untrusted => {
                let warnings = &self.layer.warnings;
                warnings.untrusted(connection.info().socket_peer());
                connection.abort();
                ProxyProtocolFuture::reject(Refused::new(
                    ProxyProtocolLayer::NAME,
                    ProxyProtocolLayer::UNTRUSTED_SOURCE,
                ))
            }
        }
    }
}
