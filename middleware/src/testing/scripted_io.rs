//! A stream that follows a seed and records its calls.

use super::random::Random;
use crate::connection::Transport;
use std::{
    io::{self, IoSlice},
    mem,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// An in-memory stream that follows a script made from a seed and records its calls.
///
/// It reads and writes in parts, returns pending once per operation (and wakes it immediately), fails
/// occasionally, ends its input at some point, and rejects writes after its shutdown. Half of the seeds
/// support vectored writes. For the same seed, the same calls have the same results.
#[derive(Debug)]
pub struct ScriptedIo {
    random: Random,
    calls: Calls,
    vectored: bool,
    /// Whether the operation of each direction has waited, so that the next poll is ready.
    waited: [bool; 2],
    ended: bool,
    shut_down: bool,
}

/// A call of a [`ScriptedIo`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// A read into a buffer with this capacity.
    Read(usize),
    /// A write of these bytes.
    Write(Vec<u8>),
    /// A vectored write of these buffers.
    WriteVectored(Vec<Vec<u8>>),
    /// A flush.
    Flush,
    /// A shutdown of the write side.
    Shutdown,
}

/// The calls that a [`ScriptedIo`] received, available from outside of its wrapper.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    /// Takes the calls since the previous time.
    pub fn take(&self) -> Vec<Call> {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, call: Call) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(call);
    }
}

impl ScriptedIo {
    /// Creates a stream that follows the script of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self {
            calls: Calls::default(),
            vectored: random.one_in(2),
            waited: [false, false],
            ended: false,
            shut_down: false,
            random,
        }
    }

    /// Creates a stream that follows the script of `seed`, and the record of its calls.
    pub fn pair(seed: u64) -> (Self, Calls) {
        let io = Self::new(seed);
        let calls = io.calls.clone();
        (io, calls)
    }

    /// Decides whether the operation waits or fails now.
    fn begin(&mut self, direction: usize, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if !mem::take(&mut self.waited[direction]) && self.random.one_in(4) {
            self.waited[direction] = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.random.one_in(32) {
            let kind = ERRORS[self.random.below(ERRORS.len())];
            return Poll::Ready(Err(kind.into()));
        }
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, length: usize, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        std::task::ready!(self.begin(WRITE, cx))?;
        if self.shut_down {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Poll::Ready(Ok(self.part_of(length)))
    }

    fn part_of(&mut self, length: usize) -> usize {
        match length {
            0 => 0,
            _ => 1 + self.random.below(length),
        }
    }
}

impl Transport for ScriptedIo {}

impl AsyncRead for ScriptedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.calls.push(Call::Read(buf.remaining()));
        std::task::ready!(self.begin(READ, cx))?;
        self.ended |= self.random.one_in(32);
        if !self.ended {
            let length = self.part_of(buf.remaining());
            for _ in 0..length {
                buf.put_slice(&[self.random.below(256) as u8]);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ScriptedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.calls.push(Call::Write(buf.to_vec()));
        self.write(buf.len(), cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.calls.push(Call::Flush);
        self.begin(WRITE, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.calls.push(Call::Shutdown);
        std::task::ready!(self.begin(WRITE, cx))?;
        self.shut_down = true;
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let copies = bufs.iter().map(|buf| buf.to_vec()).collect();
        self.calls.push(Call::WriteVectored(copies));
        let lengths = bufs.iter().map(|buf| buf.len());
        let length = match self.vectored {
            true => lengths.sum(),
            // Like the default of `AsyncWrite`.
            false => lengths.into_iter().find(|&length| length > 0).unwrap_or(0),
        };
        self.write(length, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }
}

const READ: usize = 0;
const WRITE: usize = 1;

const ERRORS: [io::ErrorKind; 4] = [
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::BrokenPipe,
    io::ErrorKind::Interrupted,
    io::ErrorKind::UnexpectedEof,
];
