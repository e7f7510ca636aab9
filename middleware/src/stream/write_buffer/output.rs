//! Output that was not yet sent.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite;

/// A buffer of output.
pub(super) struct Output {
    /// Allocated on first use; empty when all data is sent.
    bytes: Vec<u8>,
    /// Number of bytes already sent.
    sent: usize,
    size: usize,
    /// The stream has accepted data since the last flush.
    unflushed: bool,
}

impl Output {
    pub(super) const fn new(size: usize) -> Self {
        Self {
            bytes: Vec::new(),
            sent: 0,
            size,
            unflushed: false,
        }
    }

    /// Whether the buffer is disabled.
    #[inline]
    pub(super) const fn is_off(&self) -> bool {
        self.size == 0
    }

    /// Whether there is something to send or to flush.
    #[inline]
    pub(super) const fn is_due(&self) -> bool {
        self.unflushed || !self.bytes.is_empty()
    }

    pub(super) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Whether to copy a write of `length` bytes; one that would fill the buffer is sent directly.
    #[inline]
    pub(super) const fn fits(&self, length: usize) -> bool {
        length < self.size && length <= self.size.saturating_sub(self.bytes.len())
    }

    /// Buffers `bytes`, which must fit.
    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer().extend_from_slice(bytes);
    }

    /// The buffer, allocated with its full capacity.
    #[inline]
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(self.size);
        }
        &mut self.bytes
    }

    /// Releases the memory of an empty buffer.
    #[inline]
    pub(super) fn release(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Sends all buffered data.
    pub(super) fn poll_send<IO: AsyncWrite>(
        &mut self,
        mut io: Pin<&mut IO>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.bytes.is_empty() {
            let sent = ready!(io.as_mut().poll_write(cx, &self.bytes[self.sent..]))?;
            self.advance(sent)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends all buffered data and flushes the stream.
    pub(super) fn poll_flush<IO: AsyncWrite>(
        &mut self,
        mut io: Pin<&mut IO>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_send(io.as_mut(), cx))?;
        ready!(io.poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// Sends all buffered data and shuts down the write side.
    pub(super) fn poll_shutdown<IO: AsyncWrite>(
        &mut self,
        mut io: Pin<&mut IO>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_send(io.as_mut(), cx))?;
        // A shutdown includes a flush, so pending reads have nothing left to flush.
        self.unflushed = false;
        io.poll_shutdown(cx)
    }

    /// Writes `bufs` behind the buffered data, either copied or directly to the stream.
    pub(super) fn poll_write<IO: AsyncWrite>(
        &mut self,
        mut io: Pin<&mut IO>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs
            .iter()
            .map(|buf| buf.len())
            .fold(0, usize::saturating_add);
        loop {
            if self.fits(length) {
                bufs.iter().for_each(|buf| self.push(buf));
                return Poll::Ready(Ok(length));
            }
            if self.bytes.is_empty() {
                return self.poll_write_through(io, cx, bufs);
            }
            if !io.is_write_vectored() {
                ready!(self.poll_send(io.as_mut(), cx))?;
                continue;
            }
            // One system call for buffered and new data.
            let unsent = self.unsent();
            let mut slices = [IoSlice::new(&[]); SLICES];
            slices[0] = IoSlice::new(unsent);
            let count = bufs.len().min(SLICES - 1);
            slices[1..=count].copy_from_slice(&bufs[..count]);
            let unsent = unsent.len();
            let sent = ready!(io.as_mut().poll_write_vectored(cx, &slices[..=count]))?;
            self.advance(sent.min(unsent))?;
            if sent > unsent {
                return Poll::Ready(Ok(sent - unsent));
            }
        }
    }

    /// Writes `bufs`, which exceed the buffer, while it is empty.
    fn poll_write_through<IO: AsyncWrite>(
        &mut self,
        io: Pin<&mut IO>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = match bufs.iter().find(|buf| !buf.is_empty()) {
            Some(_) if io.is_write_vectored() => ready!(io.poll_write_vectored(cx, bufs))?,
            // Small buffers in front of a large one are gathered nevertheless.
            Some(first) if self.fits(first.len()) => {
                let mut copied = 0;
                for buf in bufs {
                    if !self.fits(buf.len()) {
                        break;
                    }
                    self.push(buf);
                    copied += buf.len();
                }
                return Poll::Ready(Ok(copied));
            }
            Some(first) => ready!(io.poll_write(cx, first))?,
            None => 0,
        };
        self.unflushed |= sent > 0;
        Poll::Ready(Ok(sent))
    }

    /// Records that the stream accepted `sent` buffered bytes.
    fn advance(&mut self, sent: usize) -> io::Result<()> {
        if sent == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unflushed = true;
        self.sent += sent;
        if self.sent >= self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        }
        Ok(())
    }
}

impl fmt::Debug for Output {
    /// Prints lengths only: the data may be sensitive.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("unsent", &self.unsent().len())
            .field("size", &self.size)
            .field("unflushed", &self.unflushed)
            .finish_non_exhaustive()
    }
}

/// Maximum number of buffers in one vectored write; the next write continues behind them.
const SLICES: usize = 16;
