//! How a direction moves bytes: through the scratch of the thread, or through a pipe of the kernel.

use super::{
    direction::{Direction, Rest, Stage, Surroundings, Unwritten},
    pipes::PooledPipe,
    report::Failure,
    scratch::SCRATCH,
};
use portcullis_middleware::io::Passthrough;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

impl Direction {
    /// Reads once and writes what the other side accepts; pending if there is no further input. Returns what this takes
    /// of a turn.
    pub(super) fn poll_move<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        surroundings: Surroundings<'_>,
        scratch: &mut [u8],
    ) -> Poll<Result<usize, Failure>>
    where
        R: AsyncRead + Passthrough + Unpin,
        W: AsyncWrite + Passthrough + Unpin,
    {
        let are_sockets = from.is_passthrough() && to.is_passthrough();
        if are_sockets && self.streak.is_bulk() && !self.copies {
            if let Some(pipe) = PooledPipe::take() {
                return self.poll_splice(cx, from, pipe);
            }
            // Tries again later, because a failed attempt takes system calls.
            self.streak.reset();
        }
        let scratch = match are_sockets {
            true => &mut scratch[..SCRATCH],
            false => scratch,
        };
        self.poll_copy(cx, from, to, surroundings, scratch)
    }

    fn poll_copy<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        surroundings: Surroundings<'_>,
        scratch: &mut [u8],
    ) -> Poll<Result<usize, Failure>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let size = scratch.len();
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
                Poll::Ready(Err(error))
                    if error.kind() == io::ErrorKind::UnexpectedEof
                        && surroundings.other_ended()
                        && self.may_just_end(buffer.filled().len()) =>
                {
                    self.stage = Stage::Ended;
                    break false;
                }
                Poll::Ready(Err(error)) => {
                    self.fail(error);
                    break false;
                }
            }
        };
        let filled = buffer.filled();
        let is_full = size - filled.len() < RECORD;
        self.streak.copied(is_full);
        if filled.is_empty() && pending {
            return Poll::Pending;
        }
        let mut written = 0;
        while written < filled.len() {
            let result = match Pin::new(&mut *to).poll_write(cx, &filled[written..]) {
                Poll::Ready(Ok(bytes)) if bytes > 0 => {
                    written += bytes;
                    self.wrote(bytes);
                    continue;
                }
                Poll::Ready(Ok(_)) => Err(self.write_failure(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Err(error)) => Err(self.write_failure(error)),
                Poll::Pending => Ok(filled.len()),
            };
            self.rest = Rest::Bytes(Box::new(Unwritten {
                bytes: filled[written..].into(),
                written: 0,
            }));
            return Poll::Ready(result);
        }
        if pending {
            // That read has registered the task, so another one would only find the same.
            return Poll::Pending;
        }
        Poll::Ready(Ok(filled.len()))
    }

    /// Moves bytes into `pipe`, which becomes the rest.
    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Passthrough,
        mut pipe: PooledPipe,
    ) -> Poll<Result<usize, Failure>> {
        pipe.get_mut().set_limit(fill(self.moved()));
        match ready!(from.poll_read_to_pipe(cx, pipe.get_mut())) {
            Ok(0) => {
                self.stage = Stage::Ended;
                Poll::Ready(Ok(0))
            }
            Ok(read) => {
                #[cfg(test)]
                {
                    SPLICED.set(SPLICED.get() + read);
                    LARGEST.set(LARGEST.get().max(read));
                }
                self.streak.spliced(read);
                self.rest = Rest::Pipe(pipe);
                Poll::Ready(Ok(read / SPLICED_PER_COPIED))
            }
            Err(error) if is_unsupported(&error) => {
                self.copies = true;
                Poll::Ready(Ok(0))
            }
            Err(error) => {
                self.fail(error);
                Poll::Ready(Ok(0))
            }
        }
    }

    pub(super) fn poll_write_rest<W>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Passthrough + Unpin,
    {
        loop {
            let (written, is_empty) = match &mut self.rest {
                Rest::Nothing | Rest::Discarded(_) => return Poll::Ready(Ok(())),
                Rest::Bytes(unwritten) => {
                    let rest = &unwritten.bytes[unwritten.written..];
                    let new = ready!(Pin::new(&mut *to).poll_write(cx, rest))?;
                    let is_empty = new == rest.len();
                    unwritten.written += new;
                    (new, is_empty)
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
}

/// The bytes that a pipe takes at a time in a direction that has moved `moved` bytes.
const fn fill(moved: u64) -> usize {
    if moved < PROVEN {
        FIRST_FILLS
    } else {
        usize::MAX
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied
    )
}

#[cfg(test)]
std::thread_local! {
    /// Bytes that directions of this thread moved into pipes.
    pub(super) static SPLICED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    /// The most that went into a pipe at a time.
    pub(super) static LARGEST: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// The bytes after which a pipe is filled whole: more than the kernel buffers for a side that has never read.
const PROVEN: u64 = 16 * 1024 * 1024;

/// The bytes that a pipe takes before that. The kernel enlarges the receive buffer of a socket that is read in large
/// steps, so otherwise a client would send 20 MiB to a backend that never reads.
const FIRST_FILLS: usize = 256 * 1024;

/// A turn moves so many times the bytes through a pipe that it copies. Longer turns of one connection are cheaper,
/// because what it works on stays in the caches.
const SPLICED_PER_COPIED: usize = 4;

/// The space that the largest TLS record needs (RFC 8446, section 5.1).
const RECORD: usize = 16 * 1024;
