//! The innermost wrapper, which counts bytes and can be closed from outside.

use super::{
    ConnectionInfo, KernelSocket, Phase, Transport,
    control::{IoDirection, Requests},
};
use crate::{
    departure,
    io::{Passthrough, Pipe},
};
use std::{
    error, fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The raw stream of a connection, with byte counts and forced closing.
///
/// [`ConnectionInfo::force_close`] and [`ConnectionInfo::force_reset`] reach the stream here wherever it is:
/// under TLS, in a box, split between two tasks, moved to another task. All operations then fail with
/// [`io::ErrorKind::ConnectionAborted`] and [`ForcedClose`] as source, and pending ones wake up. This costs
/// one relaxed load per operation.
///
/// [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer) or [`Connection::accept`](super::Connection::accept)
/// adds this wrapper. All other wrappers are independent of portcullis.
#[derive(Debug)]
pub struct Socket<Io: Transport> {
    /// `None` only after `into_inner`, because fields cannot be moved out of a type with `Drop`.
    io: Option<Io>,
    info: ConnectionInfo,
    /// The waker of the last operation that was pending. The mailbox notes in which directions it has it, so that it is
    /// stored only once. Halves in two tasks take turns.
    waiting: Option<Waker>,
}

impl<Io: Transport> Socket<Io> {
    pub(super) const fn new(io: Io, info: ConnectionInfo) -> Self {
        Self {
            io: Some(io),
            info,
            waiting: None,
        }
    }

    /// The raw stream.
    pub fn get_ref(&self) -> &Io {
        self.io.as_ref().expect(TAKEN)
    }

    /// The raw stream, mutably. Bytes that are read or written through it are not counted.
    pub fn get_mut(&mut self) -> &mut Io {
        self.io.as_mut().expect(TAKEN)
    }

    /// Returns the raw stream. It can no longer be closed from outside.
    pub fn into_inner(mut self) -> Io {
        // A setting that no operation has applied. A forced close no longer concerns the stream.
        let _ = self.obey();
        self.io.take().expect(TAKEN)
    }

    fn io(&mut self) -> Pin<&mut Io> {
        Pin::new(self.get_mut())
    }

    /// Applies the posted requests; fails if they end the connection.
    #[inline]
    fn obey(&self) -> io::Result<()> {
        let requests = self.info.control().requests();
        if requests.is_empty() {
            return Ok(());
        }
        self.obey_requests(requests)
    }

    #[cold]
    fn obey_requests(&self, requests: Requests) -> io::Result<()> {
        if requests.end() {
            return Err(ForcedClose::new().into());
        }
        let settings = self.info.control().take_settings();
        // Only hints. A connection that is gone already fails in the operation itself.
        if settings.has(Requests::NODELAY) || settings.has(Requests::DELAY) {
            let _ = self.get_ref().set_nodelay(settings.has(Requests::NODELAY));
        }
        if settings.has(Requests::LATE_OPTIONS)
            && let Some(options) = self.info.late_options()
            && let Some(socket) = self.get_ref().kernel_socket()
        {
            let _ = options(socket);
        }
        Ok(())
    }

    /// Called when an operation is pending, so that a request wakes it.
    #[inline]
    fn wait<T>(&mut self, direction: IoDirection, cx: &Context<'_>) -> Poll<io::Result<T>> {
        match &self.waiting {
            Some(known)
                if self.info.control().is_left(direction) && known.will_wake(cx.waker()) =>
            {
                Poll::Pending
            }
            _ => self.leave_waker(direction, cx),
        }
    }

    /// Out of line, so that the path of later operations remains small.
    #[cold]
    fn leave_waker<T>(&mut self, direction: IoDirection, cx: &Context<'_>) -> Poll<io::Result<T>> {
        let known = self.waiting.as_ref();
        let is_known = known.is_some_and(|known| known.will_wake(cx.waker()));
        if !is_known {
            self.waiting = Some(cx.waker().clone());
        }
        self.info.control().leave(direction, is_known);
        let requests = self.info.control().wait(direction, cx.waker());
        if !requests.is_empty() {
            self.obey_requests(requests)?;
        }
        Poll::Pending
    }

    #[inline]
    fn write_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        operation: impl FnOnce(Pin<&mut Io>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.obey()?;
        match operation(self.io(), cx) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.wait(IoDirection::Write, cx),
        }
    }
}

impl<Io: Transport> Drop for Socket<Io> {
    fn drop(&mut self) {
        let control = self.info.control();
        // A task may also have left one without an operation, for a forced close.
        control.forget_wakers();
        let Some(io) = &self.io else {
            self.info.set_phase(Phase::Detached);
            return;
        };
        let requests = control.requests();
        if requests.has(Requests::RESET) || requests.has(Requests::ABORT) {
            let _ = io.reset_on_drop();
        }
        self.info.set_phase(Phase::Closed);
    }
}

impl<Io: Transport> AsyncRead for Socket<Io> {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.obey()?;
        let room = buf.remaining();
        match self.io().poll_read(cx, buf) {
            Poll::Ready(result) => {
                self.info.add_read(room - buf.remaining());
                Poll::Ready(result)
            }
            Poll::Pending => self.wait(IoDirection::Read, cx),
        }
    }
}

impl<Io: Transport> Passthrough for Socket<Io> {
    fn is_passthrough(&self) -> bool {
        self.get_ref().kernel_socket().is_some()
    }

    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let departed = departure::poll_raw(self.get_ref(), cx);
        departure::unless_sent(self.info.bytes_read() > 0, departed)
    }

    fn has_unread(&self) -> bool {
        self.get_ref()
            .kernel_socket()
            .is_some_and(KernelSocket::has_unread)
    }

    fn poll_read_to_pipe(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        self.obey()?;
        let Some(socket) = self.get_ref().kernel_socket() else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        match socket.poll_read_to_pipe(cx, pipe) {
            Poll::Ready(result) => {
                self.info.add_read(*result.as_ref().unwrap_or(&0));
                Poll::Ready(result)
            }
            Poll::Pending => self.wait(IoDirection::Read, cx),
        }
    }

    fn poll_write_from_pipe(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        let result = self.write_with(cx, |io, cx| match io.kernel_socket() {
            Some(socket) => socket.poll_write_from_pipe(cx, pipe),
            None => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        });
        self.info.count_written(&result);
        result
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_with(cx, |io, cx| match io.kernel_socket() {
            Some(socket) => socket.poll_sent(cx),
            None => Poll::Ready(Ok(())),
        })
    }
}

impl<Io: Transport> AsyncWrite for Socket<Io> {
    #[inline]
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = self.write_with(cx, |io, cx| io.poll_write(cx, buf));
        self.info.count_written(&result);
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_with(cx, |io, cx| io.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_with(cx, |io, cx| io.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = self.write_with(cx, |io, cx| io.poll_write_vectored(cx, bufs));
        self.info.count_written(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.get_ref().is_write_vectored()
    }
}

/// The connection was force-closed, by a handle or at the deadline of a shutdown.
///
/// It is the source of the [`io::ErrorKind::ConnectionAborted`] that all operations then fail with.
#[derive(Debug)]
pub struct ForcedClose(());

impl ForcedClose {
    /// The error for code that waited for something other than I/O; see [`ConnectionInfo::closed`].
    pub const fn new() -> Self {
        Self(())
    }
}

impl Default for ForcedClose {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for ForcedClose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connection was force-closed")
    }
}

impl error::Error for ForcedClose {}

impl From<ForcedClose> for io::Error {
    fn from(error: ForcedClose) -> Self {
        Self::new(io::ErrorKind::ConnectionAborted, error)
    }
}

const TAKEN: &str = "the stream is there until `into_inner` consumes the socket";
