//! A connection for hyper's clients.

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection as Describe},
    rt::TokioIo,
};
use portcullis_middleware::Connection;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite};

/// A [`Connection`] that implements hyper's I/O traits.
#[derive(Debug)]
pub struct HttpConnection<IO>(TokioIo<Connection<IO>>);

impl<IO> HttpConnection<IO> {
    pub(super) fn new(connection: Connection<IO>) -> Self {
        Self(TokioIo::new(connection))
    }

    /// Returns the connection.
    pub fn get_ref(&self) -> &Connection<IO> {
        self.0.inner()
    }

    /// Returns the connection mutably.
    pub fn get_mut(&mut self) -> &mut Connection<IO> {
        self.0.inner_mut()
    }

    /// Unwraps the connection.
    pub fn into_inner(self) -> Connection<IO> {
        self.0.into_inner()
    }
}

impl<IO> Describe for HttpConnection<IO> {
    fn connected(&self) -> Connected {
        let connection = self.get_ref();
        let mut connected = Connected::new().extra(connection.info().clone());
        if !connection.extensions().is_empty() {
            connected = connected.extra(connection.extensions().clone());
        }
        match connection.tls() {
            Some(tls) if tls.alpn.as_deref() == Some(b"h2") => connected.negotiated_h2(),
            _ => connected,
        }
    }
}

impl<IO: AsyncRead + Unpin> Read for HttpConnection<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> Write for HttpConnection<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Write::poll_write(Pin::new(&mut self.0), cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Write::poll_flush(Pin::new(&mut self.0), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Write::poll_shutdown(Pin::new(&mut self.0), cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Write::poll_write_vectored(Pin::new(&mut self.0), cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        Write::is_write_vectored(&self.0)
    }
}
