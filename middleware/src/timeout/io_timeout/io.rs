//! The stream wrapper.

use super::bound::{DirectionTimeout, IoOperation, RareTimeout};
use crate::{
    ConnectionInfo,
    io::{Passthrough, Pipe},
    timeout::DEFAULT,
};
use pin_project::pin_project;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose reads and writes time out; see the [module docs](super).
///
/// Each direction has its own timeout and timer, so that the halves of [`split`](tokio::io::split) may wait in
/// two tasks. An operation may move to another task.
///
/// # Panics
///
/// A pending operation panics outside of a tokio runtime with time enabled, and after the shutdown of the
/// runtime in which its direction first waited.
#[pin_project]
#[derive(Debug)]
pub struct TimeoutIo<IO> {
    #[pin]
    io: IO,
    pub(super) read: DirectionTimeout,
    pub(super) write: RareTimeout,
    /// Of the connection with this stream, if it is known.
    info: Option<ConnectionInfo>,
}

impl<IO> TimeoutIo<IO> {
    /// Limits each read and each write to 60 seconds.
    pub const fn new(io: IO) -> Self {
        Self {
            io,
            read: DirectionTimeout::new(Some(DEFAULT)),
            write: RareTimeout::new(Some(DEFAULT)),
            info: None,
        }
    }

    /// Leaves the timing to the clock of the connection's server, where it has one.
    pub(super) fn with_info(mut self, info: ConnectionInfo) -> Self {
        self.info = Some(info);
        self
    }

    /// Sets how long a read may wait; `None` disables the timeout.
    #[must_use]
    pub fn with_read_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.read = DirectionTimeout::new(limit.into());
        self
    }

    /// Disables the read timeout.
    #[must_use]
    pub fn without_read_timeout(mut self) -> Self {
        self.read = DirectionTimeout::new(None);
        self
    }

    /// Sets how long a write, flush or shutdown may wait; `None` disables the timeout.
    #[must_use]
    pub fn with_write_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.write = RareTimeout::new(limit.into());
        self
    }

    /// Returns a reference to the inner stream.
    pub const fn get_ref(&self) -> &IO {
        &self.io
    }

    /// Returns a mutable reference to the inner stream; operations on it bypass the timeouts.
    pub const fn get_mut(&mut self) -> &mut IO {
        &mut self.io
    }

    /// Returns a pinned reference to the inner stream.
    pub fn get_pin_mut(self: Pin<&mut Self>) -> Pin<&mut IO> {
        self.project().io
    }

    /// Returns the inner stream, without the timeouts.
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
        this.read
            .check(IoOperation::Read, result, this.info.as_ref(), cx)
    }
}

impl<IO: Passthrough> Passthrough for TimeoutIo<IO> {
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
        self.read
            .check(IoOperation::Read, result, self.info.as_ref(), cx)
    }

    fn poll_write_from_pipe(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        let result = self.io.poll_write_from_pipe(cx, pipe);
        self.write
            .check(IoOperation::Write, result, self.info.as_ref(), cx)
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = self.io.poll_sent(cx);
        self.write
            .check(IoOperation::Write, result, self.info.as_ref(), cx)
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
        this.write
            .check(IoOperation::Write, result, this.info.as_ref(), cx)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let result = this.io.poll_flush(cx);
        this.write
            .check(IoOperation::Flush, result, this.info.as_ref(), cx)
    }

    #[inline]
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let result = this.io.poll_shutdown(cx);
        this.write
            .check(IoOperation::Shutdown, result, this.info.as_ref(), cx)
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let result = this.io.poll_write_vectored(cx, bufs);
        this.write
            .check(IoOperation::Write, result, this.info.as_ref(), cx)
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
