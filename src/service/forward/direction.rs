//! One direction of a forwarded connection.

use super::{
    pipes::PooledPipe,
    report::{Failure, ForwardStep, Side},
    scratch::{SCRATCH, with_scratch},
};
use portcullis_middleware::io::Passthrough;
use std::{
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Moves bytes from one side to the other.
///
/// Bytes are read into the scratch of the thread and written immediately. Only what the other side does not
/// accept is kept, so an idle direction holds no buffer. After two reads in a row that filled the scratch,
/// bytes move through a pipe of the kernel, if both sides are sockets.
#[derive(Debug)]
pub(super) struct Direction {
    from: Side,
    rest: Rest,
    stage: Stage,
    /// Reads in a row that filled the scratch.
    full_reads: u8,
    /// The sockets refused to move bytes through a pipe.
    copies: bool,
    /// Bytes were written after the last flush.
    unflushed: bool,
    /// Bytes that were written.
    moved: u64,
    pub(super) first_byte: Option<Duration>,
}

/// What was read and is not yet written; it goes first.
#[derive(Debug)]
enum Rest {
    Nothing,
    Bytes { bytes: Box<[u8]>, written: usize },
    Pipe(PooledPipe),
}

#[derive(Debug)]
enum Stage {
    Open,
    /// The input has ended; the other side is notified after the rest.
    Ended,
    /// The input was truncated. What was received is delivered before the error is reported.
    Truncated(io::Error),
    Done,
}

/// What one move did.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    bytes: usize,
    /// The last read found no input, so the task is woken when there is some.
    is_drained: bool,
}

/// What a direction needs to know about the rest of the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings {
    /// The other direction is done, so the connections are dropped after this one.
    pub(super) is_last: bool,
    /// The side that is read has reset its connection, so that its end is not to be passed on.
    pub(super) is_reset: bool,
}

impl Direction {
    pub(super) const fn new(from: Side) -> Self {
        Self {
            from,
            rest: Rest::Nothing,
            stage: Stage::Open,
            full_reads: 0,
            copies: false,
            unflushed: false,
            moved: 0,
            first_byte: None,
        }
    }

    /// Bytes that were written.
    pub(super) const fn moved(&self) -> u64 {
        self.moved
    }

    /// Whether the input has ended.
    pub(super) const fn has_ended(&self) -> bool {
        !matches!(self.stage, Stage::Open)
    }

    pub(super) const fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// Whether bytes were read that the other side has not received.
    pub(super) const fn is_in_transit(&self) -> bool {
        !matches!(self.rest, Rest::Nothing) || self.unflushed
    }

    /// Ends the direction, because its output has failed.
    pub(super) fn stop(&mut self) {
        self.stage = Stage::Done;
        self.rest = Rest::Nothing;
        self.unflushed = false;
    }

    /// Moves bytes until the input has ended and the other side knows.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        surroundings: Surroundings,
    ) -> Poll<Result<(), Failure>>
    where
        R: AsyncRead + Passthrough + Unpin,
        W: AsyncWrite + Passthrough + Unpin,
    {
        let mut turn = TURN;
        loop {
            if let Err(error) = ready!(self.poll_write_rest(cx, to)) {
                return Poll::Ready(Err(self.write_failure(error)));
            }
            if self.has_ended() {
                return self.poll_end(cx, to, surroundings);
            }
            if turn == 0 {
                // Other tasks of the thread get a turn, too.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let is_drained = match self.poll_move(cx, from, to) {
                Poll::Ready(Ok(moved)) => {
                    turn = turn.saturating_sub(moved.bytes);
                    moved.is_drained && matches!(self.rest, Rest::Nothing)
                }
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Pending => true,
            };
            if is_drained {
                // Only now, so that a batch of writes is flushed once.
                ready!(self.poll_flush(cx, to))?;
                return Poll::Pending;
            }
        }
    }

    /// Reads once and writes what the other side accepts; pending if there is no input.
    fn poll_move<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<Result<Moved, Failure>>
    where
        R: AsyncRead + Passthrough + Unpin,
        W: AsyncWrite + Passthrough + Unpin,
    {
        let splices = self.full_reads >= FULL_READS && !self.copies;
        if splices
            && from.is_passthrough()
            && to.is_passthrough()
            && let Some(pipe) = PooledPipe::take()
        {
            return self.poll_splice(cx, from, pipe);
        }
        with_scratch(|scratch| self.poll_copy(cx, from, to, scratch))
    }

    fn poll_copy<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        scratch: &mut [u8],
    ) -> Poll<Result<Moved, Failure>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut buffer = ReadBuf::new(scratch);
        // TLS returns one record at a time, so several are gathered.
        let pending = loop {
            let before = buffer.filled().len();
            match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
                Poll::Pending => break true,
                Poll::Ready(Ok(())) if buffer.filled().len() == before => {
                    self.stage = Stage::Ended;
                    break false;
                }
                Poll::Ready(Ok(())) if buffer.remaining() < RECORD => break false,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.stage = Stage::Truncated(error);
                    break false;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.read_failure(error))),
            }
        };
        let filled = buffer.filled();
        let is_full = SCRATCH - filled.len() < RECORD;
        self.full_reads = if is_full {
            self.full_reads.saturating_add(1)
        } else {
            0
        };
        if filled.is_empty() && pending {
            return Poll::Pending;
        }
        let mut written = 0;
        while written < filled.len() {
            match Pin::new(&mut *to).poll_write(cx, &filled[written..]) {
                Poll::Ready(Ok(0)) => {
                    let error = io::ErrorKind::WriteZero.into();
                    return Poll::Ready(Err(self.write_failure(error)));
                }
                Poll::Ready(Ok(bytes)) => {
                    written += bytes;
                    self.wrote(bytes);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.write_failure(error))),
                Poll::Pending => {
                    let bytes = filled[written..].into();
                    self.rest = Rest::Bytes { bytes, written: 0 };
                    break;
                }
            }
        }
        Poll::Ready(Ok(Moved {
            bytes: filled.len(),
            is_drained: pending,
        }))
    }

    /// Moves bytes into `pipe`, which becomes the rest.
    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Passthrough,
        mut pipe: PooledPipe,
    ) -> Poll<Result<Moved, Failure>> {
        match ready!(from.poll_read_to_pipe(cx, pipe.get_mut())) {
            Ok(0) => {
                self.stage = Stage::Ended;
                Poll::Ready(Ok(Moved::default()))
            }
            Ok(read) => {
                if read < SCRATCH / 2 {
                    // Little input is cheaper to copy, with two calls in place of four.
                    self.full_reads = 0;
                }
                self.rest = Rest::Pipe(pipe);
                Poll::Ready(Ok(Moved {
                    bytes: read,
                    is_drained: false,
                }))
            }
            Err(error) if is_unsupported(&error) => {
                self.copies = true;
                Poll::Ready(Ok(Moved::default()))
            }
            Err(error) => Poll::Ready(Err(self.read_failure(error))),
        }
    }

    fn poll_write_rest<W>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Passthrough + Unpin,
    {
        loop {
            let (written, is_empty) = match &mut self.rest {
                Rest::Nothing => return Poll::Ready(Ok(())),
                Rest::Bytes { bytes, written } => {
                    let new = ready!(Pin::new(&mut *to).poll_write(cx, &bytes[*written..]))?;
                    *written += new;
                    (new, *written == bytes.len())
                }
                Rest::Pipe(pipe) => {
                    let new = ready!(to.poll_write_from_pipe(cx, pipe.get_mut()))?;
                    (new, pipe.get_mut().is_empty())
                }
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.wrote(written);
            if is_empty {
                // Also gives the pipe back.
                self.rest = Rest::Nothing;
            }
        }
    }

    fn poll_flush<W>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<Result<(), Failure>>
    where
        W: AsyncWrite + Unpin,
    {
        if self.unflushed {
            let flushed = ready!(Pin::new(to).poll_flush(cx));
            flushed.map_err(|error| self.write_failure(error))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Passes the end of the input on.
    fn poll_end<W>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
        surroundings: Surroundings,
    ) -> Poll<Result<(), Failure>>
    where
        W: AsyncWrite + Passthrough + Unpin,
    {
        let needs_shutdown = matches!(self.stage, Stage::Ended)
            && !surroundings.is_reset
            // Dropping the socket then has the same effect, without a system call.
            && !(surroundings.is_last && to.is_passthrough());
        if needs_shutdown {
            match ready!(Pin::new(&mut *to).poll_shutdown(cx)) {
                // The other side is gone, and reading from it will show how.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
                Err(error) => return Poll::Ready(Err(self.write_failure(error))),
                Ok(()) => {}
            }
            self.unflushed = false;
        } else {
            ready!(self.poll_flush(cx, to))?;
        }
        Poll::Ready(match mem::replace(&mut self.stage, Stage::Done) {
            Stage::Truncated(error) => Err(self.read_failure(error)),
            _ => Ok(()),
        })
    }

    fn wrote(&mut self, bytes: usize) {
        self.moved += bytes as u64;
        self.unflushed = true;
    }

    /// Whether input has arrived.
    pub(super) const fn has_read(&self) -> bool {
        self.moved > 0 || self.is_in_transit()
    }

    fn read_failure(&self, error: io::Error) -> Failure {
        let step = ForwardStep::Read(self.from);
        Failure { step, error }
    }

    fn write_failure(&self, error: io::Error) -> Failure {
        let step = ForwardStep::Write(self.from.other());
        Failure { step, error }
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied
    )
}

/// Bytes that a direction moves before other tasks get a turn. Moves through a pipe take one unit of tokio's
/// budget for any number of bytes.
const TURN: usize = 1024 * 1024;

/// Reads in a row that fill the scratch, after which a pipe is worth its two calls more.
const FULL_READS: u8 = 2;

/// The space that the largest TLS record needs (RFC 8446, section 5.1).
const RECORD: usize = 16 * 1024;
