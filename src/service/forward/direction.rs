//! One direction of a forwarded connection.

use super::{
    pipes::PooledPipe,
    report::{Failure, ForwardStep, Side},
    scratch::BATCH,
    streak::Streak,
};
use portcullis_middleware::{connection::EndedBy, io::Passthrough};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
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
    pub(super) rest: Rest,
    pub(super) stage: Stage,
    /// Why reading failed. What was received is delivered before.
    failure: Option<io::Error>,
    pub(super) streak: Streak,
    /// The sockets refused to move bytes through a pipe.
    pub(super) copies: bool,
    /// Bytes were written after the last flush.
    unflushed: bool,
    /// Bytes that were written.
    moved: u64,
    /// The first byte was read, and its time recorded.
    pub(super) has_begun: bool,
    /// Nothing was written since the input of the other direction ended.
    pub(super) is_quiet: bool,
}

/// What was read and is not yet written; it goes first.
#[derive(Debug)]
pub(super) enum Rest {
    Nothing,
    Bytes(Box<Unwritten>),
    Pipe(PooledPipe),
    /// The output has failed, and so many bytes were read since.
    Discarded(usize),
}

#[derive(Debug)]
pub(super) struct Unwritten {
    pub(super) bytes: Box<[u8]>,
    pub(super) written: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    /// The input has ended; the other side is notified after the rest.
    Ended,
    /// Reading failed, which is reported after the rest.
    Failed,
    /// The output has failed, so input is discarded.
    Stopped,
    Done,
}

/// The rest of the connection, of which a direction needs to know when something ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) other: &'a Direction,
    /// The first write that failed, in this direction or the other.
    pub(super) failure: Option<&'a Failure>,
}

impl Surroundings<'_> {
    /// The other direction is done, so the connections are dropped after this one.
    const fn is_last(self) -> bool {
        self.other.is_done()
    }

    /// The side that is read has reset its connection, so that its end is not to be passed on.
    fn is_reset(self) -> bool {
        self.failure.is_some_and(|failure| !failure.is_closed())
    }

    /// The other direction has ended in order, so that the peer knows that nothing more follows.
    ///
    /// Out of line, so that it is not determined before it is asked for.
    #[cold]
    #[inline(never)]
    pub(super) const fn other_ended(self) -> bool {
        self.other.is_done() && self.failure.is_none()
    }
}

impl Direction {
    pub(super) fn new(from: Side) -> Self {
        Self {
            from,
            rest: Rest::Nothing,
            stage: Stage::Open,
            failure: None,
            streak: Streak::default(),
            copies: false,
            unflushed: false,
            moved: 0,
            has_begun: false,
            is_quiet: false,
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

    /// Whether nothing is to be done before more input arrives.
    pub(super) const fn waits_for_input(&self) -> bool {
        matches!((&self.stage, &self.rest), (Stage::Open, Rest::Nothing))
    }

    /// The cause of the end of the input; `None` while it is open.
    pub(super) fn ended_by(&self) -> Option<EndedBy> {
        match &self.failure {
            Some(error) => Some(self.from.or_gate(error)),
            None => self.has_ended().then(|| self.from.into()),
        }
    }

    /// Whether nothing more will be written.
    pub(super) const fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Stopped | Stage::Done)
    }

    /// Whether the other side has not received everything that was read, or does not know that reading failed.
    pub(super) const fn is_in_transit(&self) -> bool {
        matches!(self.rest, Rest::Bytes(_) | Rest::Pipe(_))
            || self.unflushed
            || matches!(self.stage, Stage::Failed)
    }

    /// Notes that reading failed.
    pub(super) fn fail(&mut self, error: io::Error) {
        self.stage = Stage::Failed;
        self.failure = Some(error);
    }

    /// Stops writing, because the output has failed. Input is discarded from now on.
    pub(super) fn stop(&mut self) {
        self.stage = Stage::Stopped;
        self.failure = None;
        self.rest = Rest::Discarded(0);
        self.unflushed = false;
    }

    /// Whether the end of TCP alone may end this stream after the other one has ended, and `read` bytes were read now.
    ///
    /// Many TLS peers answer a `close_notify` by closing. But a backend that has sent something since has answered, and
    /// its answer may be truncated.
    pub(super) const fn may_just_end(&self, read: usize) -> bool {
        matches!(self.from, Side::Client) || self.is_quiet && read == 0
    }

    /// Whether input was read and has not ended, so that there is nothing to record.
    pub(super) const fn is_flowing(&self) -> bool {
        self.has_begun && !self.has_ended()
    }

    /// Discards input of a stopped direction, so that the peer goes on to receive; of a backend, some.
    fn discard<R>(&mut self, cx: &mut Context<'_>, from: &mut R, scratch: &mut [u8])
    where
        R: AsyncRead + Unpin,
    {
        for _ in 0..TURN / BATCH {
            let Rest::Discarded(discarded) = &mut self.rest else {
                return;
            };
            if matches!(self.from, Side::Backend) && *discarded > LAST_INPUT {
                return;
            }
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    *discarded = discarded.saturating_add(buffer.filled().len());
                }
                Poll::Ready(_) => {
                    self.stage = Stage::Done;
                    return;
                }
            }
        }
        cx.waker().wake_by_ref();
    }

    /// Moves bytes through `scratch` until the input has ended and the other side knows.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        surroundings: Surroundings<'_>,
        scratch: &mut [u8],
    ) -> Poll<Result<(), Failure>>
    where
        R: AsyncRead + Passthrough + Unpin,
        W: AsyncWrite + Passthrough + Unpin,
    {
        let mut turn = TURN;
        loop {
            if !matches!(self.rest, Rest::Nothing)
                && let Err(error) = ready!(self.poll_write_rest(cx, to))
            {
                return Poll::Ready(Err(self.write_failure(error)));
            }
            match self.stage {
                Stage::Open => {}
                Stage::Ended | Stage::Failed => return self.poll_end(cx, to, surroundings),
                Stage::Stopped => {
                    self.discard(cx, from, scratch);
                    return Poll::Ready(Ok(()));
                }
                Stage::Done => return Poll::Ready(Ok(())),
            }
            if turn == 0 {
                // Other tasks of the thread get a turn, too.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.poll_move(cx, from, to, surroundings, scratch) {
                Poll::Ready(Ok(taken)) => turn = turn.saturating_sub(taken),
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                // Only now, so that a batch of writes is flushed once.
                Poll::Pending => {
                    ready!(self.poll_flush(cx, to))?;
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_flush<W>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<Result<(), Failure>>
    where
        W: AsyncWrite + Passthrough + Unpin,
    {
        // A socket holds nothing back.
        if self.unflushed && !to.is_passthrough() {
            let flushed = ready!(Pin::new(to).poll_flush(cx));
            flushed.map_err(|error| self.write_failure(error))?;
        }
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// Passes the end of the input on.
    fn poll_end<W>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
        surroundings: Surroundings<'_>,
    ) -> Poll<Result<(), Failure>>
    where
        W: AsyncWrite + Passthrough + Unpin,
    {
        let needs_shutdown = matches!(self.stage, Stage::Ended)
            && !surroundings.is_reset()
            // Dropping the socket then has the same effect, without a system call.
            && !(surroundings.is_last() && to.is_passthrough());
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
        if surroundings.is_reset() || matches!(self.stage, Stage::Failed) {
            // The reset that follows discards what the system has not sent.
            let sent = ready!(to.poll_sent(cx));
            sent.map_err(|error| self.write_failure(error))?;
        }
        self.stage = Stage::Done;
        Poll::Ready(match self.failure.take() {
            Some(error) => {
                let step = ForwardStep::Read(self.from);
                Err(Failure { step, error })
            }
            None => Ok(()),
        })
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        self.moved += bytes as u64;
        self.unflushed = true;
        self.is_quiet = false;
    }

    /// Whether input has arrived.
    pub(super) const fn has_read(&self) -> bool {
        self.moved > 0 || matches!(self.rest, Rest::Bytes(_) | Rest::Pipe(_))
    }

    /// Bytes that were read after the output has failed.
    pub(super) const fn discarded(&self) -> usize {
        match self.rest {
            Rest::Discarded(bytes) => bytes,
            _ => 0,
        }
    }

    pub(super) fn write_failure(&self, error: io::Error) -> Failure {
        let step = ForwardStep::Write(self.from.other());
        Failure { step, error }
    }
}

/// What a backend may still send to a client that is gone.
pub(super) const LAST_INPUT: usize = 1024 * 1024;

/// Bytes that a direction copies before other tasks get a turn; through a pipe it moves more. A read or a write takes
/// one unit of tokio's budget for any number of bytes, so that alone would allow much longer turns.
const TURN: usize = 1024 * 1024;
