//! The IO wrapper.

use super::bound::{Bound, DEFAULT, Operation};
use pin_project::pin_project;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// IO whose reads and writes fail when they wait for too long; see the [module docs](super).
///
/// The two directions have each their bound, deadline and timer: halves of
/// [`split`](tokio::io::split) may wait in two tasks. An operation may move to another task.
///
/// # Panics
///
/// An operation that waits panics outside of a tokio runtime with time enabled, and when the runtime
/// in which its direction first waited was shut down.
#[pin_project]
#[derive(Debug)]
pub struct TimeoutIo<IO> {
    #[pin]
    io: IO,
    pub(super) read: Bound,
    pub(super) write: Bound,
}

impl<IO> TimeoutIo<IO> {
    /// Allows each read and each write at most 60 seconds.
    pub const fn new(io: IO) -> Self {
        Self {
            io,
            read: Bound::new(Some(DEFAULT)),
            write: Bound::new(Some(DEFAULT)),
        }
    }

    /// Sets how long a read may wait; `None` disables the timeout.
    #[must_use]
    pub fn with_read_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.read = Bound::new(limit.into());
        self
    }

    /// Disables the read timeout.
    #[must_use]
    pub fn without_read_timeout(mut self) -> Self {
        self.read = Bound::new(None);
        self
    }

    /// Sets how long a write, flush or shutdown may wait; `None` disables the timeout.
    #[must_use]
    pub fn with_write_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.write = Bound::new(limit.into());
        self
    }

    /// The IO inside.
    pub const fn get_ref(&self) -> &IO {
        &self.io
    }

    /// The IO inside; what is done with it directly has no bounds.
    pub const fn get_mut(&mut self) -> &mut IO {
        &mut self.io
    }

    /// The IO inside, pinned.
    pub fn get_pin_mut(self: Pin<&mut Self>) -> Pin<&mut IO> {
        self.project().io
    }

    /// Takes the IO out of its bounds.
    pub fn into_inner(self) -> IO {
        self.io
    }
}

impl<IO: AsyncRead> AsyncRead for TimeoutIo<IO> {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        let result = this.io.poll_read(cx, buf);
        this.read.hold(Operation::Read, result, cx)
    }
}

impl<IO: AsyncWrite> AsyncWrite for TimeoutIo<IO> {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let result = this.io.poll_write(cx, buf);
        this.write.hold(Operation::Write, result, cx)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let result = this.io.poll_flush(cx);
        this.write.hold(Operation::Flush, result, cx)
    }

    #[inline]
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let result = this.io.poll_shutdown(cx);
        this.write.hold(Operation::Shutdown, result, cx)
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let result = this.io.poll_write_vectored(cx, bufs);
        this.write.hold(Operation::Write, result, cx)
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
