//! The plaintext of a client's connection.

use crate::{ConnectionInfo, tls::rustls::ClientConnection};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

/// What a TLS connection says, as plaintext: [`TlsIo`](crate::tls::TlsIo) on the client's side.
///
/// It behaves the same: writes may be held back until a flush, a shutdown sends `close_notify`, a drop
/// sends nothing, and a server that ends without `close_notify` makes a read fail with
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof), which is noted in
/// [`is_truncated`](ConnectionInfo::is_truncated).
///
/// A client that only writes should end with [`close`](crate::Connection::close): with the session
/// tickets of TLS 1.3 unread, a mere drop is a reset, and what was written last may be lost.
#[derive(Debug)]
pub struct TlsClientIo<IO> {
    /// In a box: the state of TLS takes more than a kilobyte.
    stream: Box<TlsStream<IO>>,
    info: ConnectionInfo,
}

impl<IO> TlsClientIo<IO> {
    pub(super) fn new(stream: TlsStream<IO>, info: ConnectionInfo) -> Self {
        Self {
            stream: Box::new(stream),
            info,
        }
    }

    /// The IO underneath, which carries ciphertext.
    pub fn get_ref(&self) -> &IO {
        self.stream.get_ref().0
    }

    /// The IO underneath; to read or write here breaks TLS.
    pub fn get_mut(&mut self) -> &mut IO {
        self.stream.get_mut().0
    }

    /// The session: exported keys, key updates, and all that [`TlsInfo`] leaves out.
    ///
    /// [`TlsInfo`]: crate::connection::TlsInfo
    pub fn session(&self) -> &ClientConnection {
        self.stream.get_ref().1
    }

    /// The session, to change: buffer limits for example.
    pub fn session_mut(&mut self) -> &mut ClientConnection {
        self.stream.get_mut().1
    }

    /// The IO and the session apart. The session may hold input that nobody read yet, and output
    /// that is not sent.
    pub fn into_inner(self) -> (IO, ClientConnection) {
        self.stream.into_inner()
    }

    fn stream(&mut self) -> Pin<&mut TlsStream<IO>>
    where
        IO: Unpin,
    {
        Pin::new(&mut *self.stream)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsClientIo<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = self.stream().poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &result
            && error.kind() == io::ErrorKind::UnexpectedEof
        {
            self.info.set_truncated();
        }
        result
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsClientIo<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
