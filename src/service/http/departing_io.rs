//! The bytes of a connection that axum serves.

use crate::service::{LingerIo, http::departure::Departure};
use portcullis_middleware::Connection;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection as a [`Listener`](super::Listener) yields it; dropped, it closes politely (see [`LingerIo`]).
///
/// Reads end when a client holds up the graceful shutdown: half a second after the server stopped accepting if
/// it has sent nothing or a part of the HTTP/2 preface, and after two seconds of silence from the `GOAWAY` on if no
/// HTTP/2 stream is open. Such a client is not lingered for.
#[derive(Debug)]
pub struct DepartingIo<IO> {
    io: LingerIo<IO>,
    departure: Departure,
}

impl<IO> DepartingIo<IO> {
    pub(super) fn new(io: LingerIo<IO>) -> Self {
        let departure = Departure::new(io.get_ref().info().clone());
        Self { io, departure }
    }

    /// The connection.
    pub fn get_ref(&self) -> &Connection<IO> {
        self.io.get_ref()
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
            // It was waited for already.
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
