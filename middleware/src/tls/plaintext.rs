//! The plaintext of a TLS stream, shared by [`TlsIo`](super::TlsIo) and [`TlsClientIo`](super::TlsClientIo).

use crate::ConnectionInfo;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A TLS stream `S` that records whether its peer closed without `close_notify`.
///
/// TLS state takes more than a kilobyte, so it is in a box. This type has the size of two pointers.
#[derive(Debug)]
pub(super) struct Plaintext<S> {
    inner: Box<PlaintextInner<S>>,
    info: ConnectionInfo,
}

#[derive(Debug)]
struct PlaintextInner<S> {
    stream: S,
    /// This side has sent `close_notify`.
    has_ended: bool,
}

impl<S> Plaintext<S> {
    pub(super) fn new(stream: S, info: ConnectionInfo) -> Self {
        let has_ended = false;
        Self {
            inner: Box::new(PlaintextInner { stream, has_ended }),
            info,
        }
    }

    pub(super) fn get_ref(&self) -> &S {
        &self.inner.stream
    }

    pub(super) fn get_mut(&mut self) -> &mut S {
        &mut self.inner.stream
    }

    pub(super) fn into_inner(self) -> S {
        self.inner.stream
    }

    fn stream(&mut self) -> Pin<&mut S>
    where
        S: Unpin,
    {
        Pin::new(&mut self.inner.stream)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Plaintext<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = self.stream().poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &result
            && error.kind() == io::ErrorKind::UnexpectedEof
            // Many peers do not answer `close_notify` (before TLS 1.3 they could discard everything else).
            && !self.inner.has_ended
        {
            self.info.set_truncated();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Plaintext<S> {
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
        self.inner.has_ended = true;
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
        self.inner.stream.is_write_vectored()
    }
}
