//! A connection that another server drives, such as axum or tonic.

use super::departure::Departure;
use crate::service::LingerIo;
use portcullis_middleware::Connection;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection as axum's listener yields it. A drop closes it gracefully, with [`LingerIo`].
///
/// A client that would delay the graceful shutdown reads as ended, and its connection is closed without
/// lingering:
///
/// - half a second after the server stopped accepting, if the HTTP/2 preface is incomplete and HTTP/1 has not
///   started;
/// - after two seconds of silence since the `GOAWAY`, if all HTTP/2 streams are closed.
#[cfg_attr(
    not(feature = "axum"),
    allow(unreachable_pub, reason = "axum exports it")
)]
#[derive(Debug)]
pub struct DepartingIo<IO> {
    io: LingerIo<IO>,
    departure: Departure,
}

impl<IO> DepartingIo<IO> {
    pub(crate) fn new(io: LingerIo<IO>) -> Self {
        let departure = Departure::new(io.get_ref().info().clone());
        Self { io, departure }
    }

    /// The connection.
    #[cfg_attr(
        not(feature = "axum"),
        allow(unreachable_pub, reason = "axum exports it")
    )]
    pub fn get_ref(&self) -> &Connection<IO> {
        self.io.get_ref()
    }

    #[cfg(feature = "tonic")]
    pub(crate) fn get_mut(&mut self) -> &mut Connection<IO> {
        self.io.get_mut()
    }

    #[cfg(feature = "tonic")]
    pub(crate) fn into_inner(self) -> Connection<IO> {
        self.io.into_inner()
    }

    /// Makes the drop close the connection immediately.
    #[cfg(feature = "tonic")]
    pub(crate) const fn do_not_linger(&mut self) {
        self.io.do_not_linger();
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for DepartingIo<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        if read.is_pending() {
            ready!(this.departure.poll_gone(cx));
            // The client has had its time already.
            this.io.do_not_linger();
            return Poll::Ready(Ok(()));
        }
        this.departure.note_read(&buf.filled()[before..]);
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for DepartingIo<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.departure
            .note_written(&written, &[IoSlice::new(buf)], cx);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.departure.note_written(&written, bufs, cx);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
