//! The stream wrapper.

use super::state::{HalfClosedState, SilenceTimer};
use crate::{
    io::{Passthrough, Pipe},
    timeout::DEFAULT,
};
use pin_project::pin_project;
use std::{
    io::{self, IoSlice},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that fails when it is half-closed and silent for too long; see the [module docs](super).
///
/// # Panics
///
/// A pending operation on a half-closed stream panics outside of a tokio runtime with time enabled.
#[pin_project]
#[derive(Debug)]
pub struct HalfClosedTimeoutIo<IO> {
    #[pin]
    io: IO,
    watch: HalfClosedWatch,
}

impl<IO> HalfClosedTimeoutIo<IO> {
    /// Allows at most 60 seconds of silence once `io` is half-closed.
    pub fn new(io: IO) -> Self {
        Self::within(DEFAULT, io)
    }

    pub(super) fn within(timeout: Duration, io: IO) -> Self {
        let watch = HalfClosedWatch::new(timeout);
        Self { io, watch }
    }

    /// Sets how long it may be silent once it is half-closed.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        if timeout != self.watch.state.timeout() {
            self.watch = HalfClosedWatch::new(timeout);
        }
        self
    }

    /// Returns a reference to the inner stream.
    pub const fn get_ref(&self) -> &IO {
        &self.io
    }

    /// Returns a mutable reference to the inner stream; operations on it bypass the timeout.
    pub const fn get_mut(&mut self) -> &mut IO {
        &mut self.io
    }

    /// Returns the inner stream, without the timeout.
    pub fn into_inner(self) -> IO {
        self.io
    }

    pub(super) fn state(&self) -> Arc<HalfClosedState> {
        self.watch.state.clone()
    }
}

/// Follows both directions of one connection.
#[derive(Debug)]
struct HalfClosedWatch {
    state: Arc<HalfClosedState>,
    read: DirectionState,
    write: DirectionState,
}

#[derive(Debug, Default)]
struct DirectionState {
    ended: bool,
    /// The task that waited last; the wait may begin before the connection is half-closed.
    task: Option<Waker>,
    timer: SilenceTimer,
}

impl HalfClosedWatch {
    fn new(timeout: Duration) -> Self {
        Self {
            state: Arc::new(HalfClosedState::new(timeout)),
            read: DirectionState::default(),
            write: DirectionState::default(),
        }
    }

    #[inline]
    const fn is_half_closed(&self) -> bool {
        self.read.ended != self.write.ended
    }

    /// Records that data was moved.
    #[inline]
    fn moved(&self) {
        if self.is_half_closed() {
            self.state.touch();
        }
    }

    /// Records the end of a direction.
    #[inline]
    fn end(&mut self, side: Side) {
        let direction = side.of(&mut self.read, &mut self.write);
        if !mem::replace(&mut direction.ended, true) {
            self.changed();
        }
    }

    #[cold]
    fn changed(&mut self) {
        if !self.is_half_closed() {
            return self.state.close();
        }
        self.state.half_close();
        // Wake pending operations, which have no timer yet.
        for direction in [&mut self.read, &mut self.write] {
            if let Some(task) = direction.task.take() {
                task.wake();
            }
        }
    }

    /// Registers a pending operation; ready with an error when the timeout has elapsed.
    fn wait(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<io::Error> {
        let half_closed = self.is_half_closed();
        let Self { state, read, write } = self;
        let direction = side.of(read, write);
        if half_closed {
            let elapsed = state.poll_elapsed(&mut direction.timer, cx);
            return elapsed.map(Into::into);
        }
        match &mut direction.task {
            Some(task) => task.clone_from(cx.waker()),
            empty => *empty = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn written(
        &mut self,
        result: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match result {
            Poll::Pending => return self.wait(Side::Write, cx).map(Err),
            Poll::Ready(Ok(1..)) => self.moved(),
            Poll::Ready(_) => {}
        }
        result
    }
}

impl Drop for HalfClosedWatch {
    fn drop(&mut self) {
        self.state.close();
    }
}

#[derive(Clone, Copy)]
enum Side {
    Read,
    Write,
}

impl Side {
    const fn of<'a>(
        self,
        read: &'a mut DirectionState,
        write: &'a mut DirectionState,
    ) -> &'a mut DirectionState {
        match self {
            Self::Read => read,
            Self::Write => write,
        }
    }
}

impl<IO: AsyncRead> AsyncRead for HalfClosedTimeoutIo<IO> {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        let capacity = buf.remaining();
        let result = this.io.poll_read(cx, buf);
        match result {
            Poll::Pending => return this.watch.wait(Side::Read, cx).map(Err),
            Poll::Ready(Ok(())) if buf.remaining() < capacity => this.watch.moved(),
            // An empty buffer cannot indicate the end of the stream.
            Poll::Ready(Ok(())) if capacity > 0 => this.watch.end(Side::Read),
            Poll::Ready(_) => {}
        }
        result
    }
}

impl<IO: Passthrough> Passthrough for HalfClosedTimeoutIo<IO> {
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
        match result {
            Poll::Pending => return self.watch.wait(Side::Read, cx).map(Err),
            Poll::Ready(Ok(1..)) => self.watch.moved(),
            Poll::Ready(Ok(0)) => self.watch.end(Side::Read),
            Poll::Ready(Err(_)) => {}
        }
        result
    }

    fn poll_write_from_pipe(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        let result = self.io.poll_write_from_pipe(cx, pipe);
        self.watch.written(result, cx)
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_sent(cx)
    }
}

impl<IO: AsyncWrite> AsyncWrite for HalfClosedTimeoutIo<IO> {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let result = this.io.poll_write(cx, buf);
        this.watch.written(result, cx)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let result = this.io.poll_flush(cx);
        if result.is_pending() {
            return this.watch.wait(Side::Write, cx).map(Err);
        }
        result
    }

    #[inline]
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let result = this.io.poll_shutdown(cx);
        match result {
            Poll::Pending => return this.watch.wait(Side::Write, cx).map(Err),
            Poll::Ready(Ok(())) => this.watch.end(Side::Write),
            Poll::Ready(Err(_)) => {}
        }
        result
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let result = this.io.poll_write_vectored(cx, bufs);
        this.watch.written(result, cx)
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
