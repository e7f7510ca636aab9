//! The IO wrapper.

use super::state::{DEFAULT, State, Timer};
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

/// IO whose operations fail when it is half-closed and silent for too long; see the
/// [module docs](super).
///
/// # Panics
///
/// An operation that waits on half-closed IO panics outside of a tokio runtime with time enabled.
#[pin_project]
#[derive(Debug)]
pub struct HalfClosedTimeoutIo<IO> {
    #[pin]
    io: IO,
    watch: Watch,
}

impl<IO> HalfClosedTimeoutIo<IO> {
    /// Allows at most 60 seconds of silence once `io` is half-closed.
    pub fn new(io: IO) -> Self {
        Self::within(DEFAULT, io)
    }

    pub(super) fn within(timeout: Duration, io: IO) -> Self {
        let watch = Watch::new(timeout);
        Self { io, watch }
    }

    /// Sets how long it may be silent once it is half-closed.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        if timeout != self.watch.state.timeout() {
            self.watch = Watch::new(timeout);
        }
        self
    }

    /// The IO inside.
    pub const fn get_ref(&self) -> &IO {
        &self.io
    }

    /// The IO inside; what is done with it directly is not seen.
    pub const fn get_mut(&mut self) -> &mut IO {
        &mut self.io
    }

    /// Takes the IO out of its limit.
    pub fn into_inner(self) -> IO {
        self.io
    }

    pub(super) fn state(&self) -> Arc<State> {
        self.watch.state.clone()
    }
}

/// Follows both directions of one connection.
#[derive(Debug)]
struct Watch {
    state: Arc<State>,
    read: Direction,
    write: Direction,
}

#[derive(Debug, Default)]
struct Direction {
    ended: bool,
    /// What waited last in this direction; its wait may begin before the connection is half-closed.
    task: Option<Waker>,
    timer: Timer,
}

impl Watch {
    fn new(timeout: Duration) -> Self {
        Self {
            state: Arc::new(State::new(timeout)),
            read: Direction::default(),
            write: Direction::default(),
        }
    }

    #[inline]
    const fn is_half_closed(&self) -> bool {
        self.read.ended != self.write.ended
    }

    /// A byte moved.
    #[inline]
    fn moved(&self) {
        if self.is_half_closed() {
            self.state.touch();
        }
    }

    /// The direction has ended.
    #[inline]
    fn end(&mut self, way: Way) {
        let direction = way.of(&mut self.read, &mut self.write);
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
        // What waits already has no timer yet.
        for direction in [&mut self.read, &mut self.write] {
            if let Some(task) = direction.task.take() {
                task.wake();
            }
        }
    }

    /// An operation waits; ready with an error when the half-closed connection was silent too long.
    fn wait(&mut self, way: Way, cx: &mut Context<'_>) -> Poll<io::Error> {
        let half_closed = self.is_half_closed();
        let Self { state, read, write } = self;
        let direction = way.of(read, write);
        if half_closed {
            let elapsed = state.poll_elapsed(&mut direction.timer, cx);
            return elapsed.map(Into::into);
        }
        match &mut direction.task {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn written(
        &mut self,
        result: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match result {
            Poll::Pending => return self.wait(Way::Write, cx).map(Err),
            Poll::Ready(Ok(1..)) => self.moved(),
            Poll::Ready(_) => {}
        }
        result
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.state.close();
    }
}

#[derive(Clone, Copy)]
enum Way {
    Read,
    Write,
}

impl Way {
    const fn of<'a>(self, read: &'a mut Direction, write: &'a mut Direction) -> &'a mut Direction {
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
        let room = buf.remaining();
        let result = this.io.poll_read(cx, buf);
        match result {
            Poll::Pending => return this.watch.wait(Way::Read, cx).map(Err),
            Poll::Ready(Ok(())) if buf.remaining() < room => this.watch.moved(),
            // A read into no room says nothing.
            Poll::Ready(Ok(())) if room > 0 => this.watch.end(Way::Read),
            Poll::Ready(_) => {}
        }
        result
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
            return this.watch.wait(Way::Write, cx).map(Err);
        }
        result
    }

    #[inline]
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let result = this.io.poll_shutdown(cx);
        match result {
            Poll::Pending => return this.watch.wait(Way::Write, cx).map(Err),
            Poll::Ready(Ok(())) => this.watch.end(Way::Write),
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
