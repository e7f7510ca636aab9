//! IO that does what a seed says, and writes down what is asked of it.

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

/// In-memory IO that follows a script made from a seed and records the calls that it receives.
///
/// It reads and writes in parts, lets an operation wait once (and wakes it at once), fails now and
/// then, ends its input at some time, refuses to write after its shutdown, and knows vectored writes
/// for half of the seeds. The same calls get the same answers for the same seed.
#[derive(Debug)]
pub struct ScriptedIo {
    random: Random,
    calls: Calls,
    vectored: bool,
    /// Per direction: the operation has waited, the next one is not to wait.
    waited: [bool; 2],
    ended: bool,
    shut_down: bool,
}

/// What a [`ScriptedIo`] was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// A read into that much room.
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

/// The calls that a [`ScriptedIo`] received, from outside of what it is wrapped in.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    /// Takes the calls since the last time.
    pub fn take(&self) -> Vec<Call> {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, call: Call) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(call);
    }
}

impl ScriptedIo {
    /// IO that follows the script of `seed`.
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

    /// IO that follows the script of `seed`, and the record of what it is asked for.
    pub fn pair(seed: u64) -> (Self, Calls) {
        let io = Self::new(seed);
        let calls = io.calls.clone();
        (io, calls)
    }

    /// Whether the operation waits or fails now.
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
            // As `AsyncWrite` does by default.
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
