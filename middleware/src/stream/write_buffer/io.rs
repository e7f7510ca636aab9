//! The stream wrapper.

use super::{output::Output, waiter::Waiter};
use crate::io::Passthrough;
use pin_project::pin_project;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose small writes are buffered; see the [module docs](super).
///
/// # Cancel safety
///
/// All operations are cancel safe. A pending write has taken no bytes, and the next operation sends what a
/// dropped flush, shutdown or read has not sent.
///
/// # Two tasks
///
/// A pending read sends buffered data, so it polls the write side of the inner stream. The halves of
/// [`split`](tokio::io::split) may still wait in two tasks. Each is woken when it can continue, even if the
/// other one is dropped.
#[pin_project]
#[derive(Debug)]
pub struct WriteBufferIo<IO> {
    #[pin]
    io: IO,
    output: Output,
    /// A pending read, which flushes the buffer.
    reader: Waiter,
    /// A pending write, flush or shutdown.
    writer: Waiter,
}

impl<IO> WriteBufferIo<IO> {
    /// Buffers up to `bytes` of output; zero disables the buffer.
    pub const fn new(io: IO, bytes: usize) -> Self {
        Self {
            io,
            output: Output::new(bytes),
            reader: Waiter::new(),
            writer: Waiter::new(),
        }
    }

    /// Buffered data that was not yet sent.
    pub fn unsent(&self) -> &[u8] {
        self.output.unsent()
    }

    /// Returns a reference to the inner stream.
    pub const fn get_ref(&self) -> &IO {
        &self.io
    }

    /// Returns a mutable reference to the inner stream; writes to it overtake buffered data.
    pub const fn get_mut(&mut self) -> &mut IO {
        &mut self.io
    }

    /// Returns a pinned reference to the inner stream.
    pub fn get_pin_mut(self: Pin<&mut Self>) -> Pin<&mut IO> {
        self.project().io
    }

    /// Returns the inner stream and drops [unsent](Self::unsent) data.
    pub fn into_inner(self) -> IO {
        self.io
    }

    #[cfg(test)]
    pub(crate) fn buffer_capacity(&self) -> usize {
        self.output.capacity()
    }
}

impl<IO: AsyncWrite> WriteBufferIo<IO> {
    /// Performs a write, flush or shutdown on the write side.
    fn poll_write_side<T>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(Pin<&mut IO>, &mut Output, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut this = self.project();
        let output = this.output;
        let mut result = operation(this.io.as_mut(), output, cx);
        if result.is_pending()
            && output.is_due()
            && let Some(both) = this.reader.joined(cx.waker())
        {
            // The pending read must continue if this operation is dropped.
            let mut cx = Context::from_waker(&both);
            result = operation(this.io, output, &mut cx);
        }
        if result.is_pending() {
            this.writer.wait(cx.waker());
            return result;
        }
        this.writer.done();
        if output.is_due() {
            this.reader.wake();
        }
        result
    }

    /// Sends and flushes all data, for a pending read.
    #[cold]
    fn poll_flush_for_read(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        let output = this.output;
        let mut result = output.poll_flush(this.io.as_mut(), cx);
        if result.is_pending()
            && let Some(both) = this.writer.joined(cx.waker())
        {
            result = output.poll_flush(this.io, &mut Context::from_waker(&both));
        }
        if result.is_ready() {
            // The stream will not wake the writer any more.
            this.writer.wake();
        }
        result
    }
}

impl<IO: Passthrough> Passthrough for WriteBufferIo<IO> {
    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.io.poll_departure(cx)
    }

    fn has_unread(&self) -> bool {
        self.io.has_unread()
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_sent(cx)
    }
}

impl<IO: AsyncRead + AsyncWrite> AsyncRead for WriteBufferIo<IO> {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.as_mut().project();
        let result = this.io.poll_read(cx, buf);
        if result.is_ready() || this.output.is_off() {
            this.reader.done();
            return result;
        }
        this.reader.wait(cx.waker());
        if this.output.is_due()
            && let Poll::Ready(Err(error)) = self.as_mut().poll_flush_for_read(cx)
        {
            self.project().reader.done();
            return Poll::Ready(Err(error));
        }
        self.project().output.release();
        Poll::Pending
    }
}

impl<IO: AsyncWrite> AsyncWrite for WriteBufferIo<IO> {
    #[inline]
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.as_mut().project();
        if this.output.fits(buf.len()) {
            this.output.push(buf);
            this.reader.wake();
            return Poll::Ready(Ok(buf.len()));
        }
        if this.output.is_off() {
            return this.io.poll_write(cx, buf);
        }
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_side(cx, |io, output, cx| output.poll_flush(io, cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_side(cx, |io, output, cx| output.poll_shutdown(io, cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.as_mut().project();
        if this.output.is_off() {
            return this.io.poll_write_vectored(cx, bufs);
        }
        self.poll_write_side(cx, |io, output, cx| output.poll_write(io, cx, bufs))
    }

    /// Small buffers are gathered even if the inner stream cannot do that.
    fn is_write_vectored(&self) -> bool {
        !self.output.is_off() || self.io.is_write_vectored()
    }
}

/// For a wrapper that writes its output directly into the buffer.
#[cfg(feature = "transcode")]
impl<IO: AsyncWrite> WriteBufferIo<IO> {
    /// Sends buffered data unless `capacity` bytes are free.
    pub(crate) fn poll_capacity(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        capacity: usize,
    ) -> Poll<io::Result<()>> {
        let buffer = self.as_mut().buffer();
        if buffer.capacity() - buffer.len() >= capacity {
            return Poll::Ready(Ok(()));
        }
        self.poll_send(cx)
    }

    /// The buffer; data appended within its capacity is output.
    pub(crate) fn buffer(self: Pin<&mut Self>) -> &mut Vec<u8> {
        self.project().output.buffer()
    }

    /// Sends buffered data, without a flush.
    pub(crate) fn poll_send(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_side(cx, |io, output, cx| output.poll_send(io, cx))
    }
}
