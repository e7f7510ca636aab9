//! TLS where the URI asks for it.

use super::uri::{host, is_https};
use http::Uri;
use portcullis_middleware::{
    BoxError, Connection,
    tls::{TlsClientIo, TlsConnector},
};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower::Service;

/// Agrees on TLS where the URI's scheme is `https`, with the host as the server's name.
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
    type Response = Connection<MaybeTlsIo<IO>>;
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
                return Ok(connection.map_io(MaybeTlsIo::Plain));
            };
            let connection = tls.connect(&server_name, connection).await?;
            Ok(connection.map_io(MaybeTlsIo::Tls))
        })
    }
}

/// What a connection says as plaintext, whether or not there is TLS underneath.
#[derive(Debug)]
#[non_exhaustive]
pub enum MaybeTlsIo<IO> {
    /// No TLS.
    Plain(IO),
    /// TLS.
    Tls(TlsClientIo<IO>),
}

impl<IO> MaybeTlsIo<IO> {
    /// The IO underneath, which carries ciphertext if there is TLS.
    pub fn get_ref(&self) -> &IO {
        match self {
            Self::Plain(io) => io,
            Self::Tls(tls) => tls.get_ref(),
        }
    }
}

/// Calls the same method of whichever IO it is.
macro_rules! either {
    ($this:expr, $io:ident => $call:expr) => {
        match $this {
            MaybeTlsIo::Plain($io) => $call,
            MaybeTlsIo::Tls($io) => $call,
        }
    };
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for MaybeTlsIo<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(&mut *self, io => Pin::new(io).poll_read(cx, buf))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for MaybeTlsIo<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(&mut *self, io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut *self, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut *self, io => Pin::new(io).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(&mut *self, io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, io => io.is_write_vectored())
    }
}
