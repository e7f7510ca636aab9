//! TLS for URIs with the scheme `https`.

use super::uri::{host, is_https};
use http::Uri;
use portcullis_middleware::{
    BoxError, Connection,
    io::EitherIo,
    tls::{TlsClientIo, TlsConnector},
};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

/// Performs a TLS handshake if the URI's scheme is `https`.
///
/// The host is the server name. The connection's stream is [`EitherIo::Right`] with TLS and [`EitherIo::Left`] without.
#[derive(Clone, Debug)]
pub struct TlsByScheme<C> {
    connect: C,
    tls: TlsConnector,
}

impl<C> TlsByScheme<C> {
    pub(super) fn new(connect: C, tls: TlsConnector) -> Self {
        let tls = match tls.alpn_protocols() {
            [] => tls.with_alpn(["h2", "http/1.1"]),
            _ => tls,
        };
        Self { connect, tls }
    }
}

impl<C, IO> Service<Uri> for TlsByScheme<C>
where
    C: Service<Uri, Response = Connection<IO>, Error: Into<BoxError>, Future: Send + 'static>,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Response = Connection<EitherIo<IO, TlsClientIo<IO>>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connect.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let server_name = match is_https(&uri) {
            true => Some(host(&uri).unwrap_or_default().to_owned()),
            false => None,
        };
        let connecting = self.connect.call(uri);
        let tls = self.tls.clone();
        Box::pin(async move {
            let connection = connecting.await.map_err(Into::into)?;
            let Some(server_name) = server_name else {
                return Ok(connection.map_io(EitherIo::Left));
            };
            let connection = tls.connect(&server_name, connection).await?;
            Ok(connection.map_io(EitherIo::Right))
        })
    }
}
