//! The bytes of a connection that axum serves.

use crate::service::http::departure::Departure;
use portcullis_middleware::ConnectionInfo;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The stream of a connection in a [`Listener`](super::Listener).
///
/// Reads end when a client holds up the graceful shutdown: half a second after the server stopped accepting if
/// it has sent nothing or a part of the HTTP/2 preface, and two seconds after the `GOAWAY` if no HTTP/2 stream
/// is open. Everything else passes through unchanged.
#[derive(Debug)]
pub struct DepartingIo<IO> {
    io: IO,
    departure: Departure,
}

impl<IO> DepartingIo<IO> {
    pub(super) const fn new(io: IO, info: ConnectionInfo) -> Self {
        let departure = Departure::new(info);
        Self { io, departure }
    }

    /// The stream below.
    pub const fn get_ref(&self) -> &IO {
        &self.io
    }

    /// The stream below, as it was.
    pub fn into_inner(self) -> IO {
        self.io
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
            return this.departure.poll_gone(cx).map(Ok);
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
