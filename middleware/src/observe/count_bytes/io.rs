//! The counting stream wrapper.

use super::ByteCounter;
use crate::io::{Passthrough, Pipe};
use pin_project::pin_project;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that counts its bytes, on its own and in a [`ByteCounter`].
#[pin_project]
#[derive(Debug)]
pub struct CountedIo<IO> {
    #[pin]
    io: IO,
    counts: Counts,
}

/// Separate from the pinned stream, so that both can be borrowed together.
#[derive(Debug)]
struct Counts {
    read: u64,
    written: u64,
    total: ByteCounter,
}

impl<IO> CountedIo<IO> {
    /// Counts from zero and adds to `total`.
    pub const fn new(io: IO, total: ByteCounter) -> Self {
        let counts = Counts {
            read: 0,
            written: 0,
            total,
        };
        Self { io, counts }
    }

    /// Bytes read through this wrapper so far.
    pub const fn bytes_read(&self) -> u64 {
        self.counts.read
    }

    /// Bytes accepted for sending through this wrapper so far.
    pub const fn bytes_written(&self) -> u64 {
        self.counts.written
    }

    /// Returns a reference to the inner stream.
    pub const fn get_ref(&self) -> &IO {
        &self.io
    }

    /// Returns a mutable reference to the inner stream; operations on it are not counted.
    pub const fn get_mut(&mut self) -> &mut IO {
        &mut self.io
    }

    /// Returns the inner stream; its later operations are not counted.
    pub fn into_inner(self) -> IO {
        self.io
    }
}

impl Counts {
    #[inline]
    fn add_read(&mut self, bytes: usize) {
        self.read += bytes as u64;
        self.total.add_read(bytes as u64);
    }

    #[inline]
    fn add_written(&mut self, result: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = result {
            self.written += *bytes as u64;
            self.total.add_written(*bytes as u64);
        }
    }
}

impl<IO: AsyncRead> AsyncRead for CountedIo<IO> {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        let result = this.io.poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = result {
            this.counts
                .add_read(buf.filled().len().saturating_sub(before));
        }
        result
    }
}

impl<IO: Passthrough> Passthrough for CountedIo<IO> {
    fn is_passthrough(&self) -> bool {
        self.io.is_passthrough()
    }

    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.io.poll_departure(cx)
    }

    fn has_unread(&self) -> bool {
        self.io.has_unread()
    }

    fn poll_read_to_pipe(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        let result = self.io.poll_read_to_pipe(cx, pipe);
        if let Poll::Ready(Ok(bytes)) = result {
            self.counts.add_read(bytes);
        }
        result
    }

    fn poll_write_from_pipe(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        let result = self.io.poll_write_from_pipe(cx, pipe);
        self.counts.add_written(&result);
        result
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_sent(cx)
    }
}

impl<IO: AsyncWrite> AsyncWrite for CountedIo<IO> {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let result = this.io.poll_write(cx, buf);
        this.counts.add_written(&result);
        result
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_shutdown(cx)
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let result = this.io.poll_write_vectored(cx, bufs);
        this.counts.add_written(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
