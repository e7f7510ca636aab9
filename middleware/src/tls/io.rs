//! The plaintext of a connection.

use super::{rustls::ServerConnection, wire::Wire};
use crate::connection::{ConnectionInfo, Phase};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

/// What a TLS connection says, as plaintext.
///
/// Writes may be held back until a flush. A shutdown sends `close_notify` and ends the write side;
/// reading goes on. A drop sends nothing: a truncated answer must not look complete.
///
/// A peer that ends without `close_notify` makes a read fail with
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof); everything that it sent before is read first.
///
/// The state of TLS (more than a kilobyte) is in a box, so this is two pointers in size.
#[derive(Debug)]
pub struct TlsIo<IO> {
    stream: Box<TlsStream<Wire<IO>>>,
    info: ConnectionInfo,
}

impl<IO> TlsIo<IO> {
    pub(super) const fn new(stream: Box<TlsStream<Wire<IO>>>, info: ConnectionInfo) -> Self {
        Self { stream, info }
    }

    /// The IO underneath, which carries ciphertext.
    pub fn get_ref(&self) -> &IO {
        &self.stream.get_ref().0.0
    }

    /// The IO underneath; to read or write here breaks TLS.
    pub fn get_mut(&mut self) -> &mut IO {
        &mut self.stream.get_mut().0.0
    }

    /// The session: exported keys, key updates, and all that [`TlsInfo`] leaves out.
    ///
    /// [`TlsInfo`]: crate::connection::TlsInfo
    pub fn session(&self) -> &ServerConnection {
        self.stream.get_ref().1
    }

    /// The session, to change: buffer limits for example.
    pub fn session_mut(&mut self) -> &mut ServerConnection {
        self.stream.get_mut().1
    }

    /// The IO and the session apart. The session may hold input that nobody read yet, and output
    /// that is not sent.
    pub fn into_inner(self) -> (IO, ServerConnection) {
        let (wire, session) = self.stream.into_inner();
        (wire.0, session)
    }

    fn stream(&mut self) -> Pin<&mut TlsStream<Wire<IO>>>
    where
        IO: Unpin,
    {
        Pin::new(&mut *self.stream)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsIo<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = self.stream().poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &result
            && error.kind() == io::ErrorKind::UnexpectedEof
            // Once we have said good-bye nothing is missing: many clients do not answer it.
            && self.info.phase() != Phase::Closing
        {
            self.info.set_truncated();
        }
        result
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsIo<IO> {
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
