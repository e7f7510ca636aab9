//! A stream that the test controls, and that keeps only the last waker per direction.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One operation that reached the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Sent(String),
    Flushed,
    ShutDown,
}

/// Clones share the stream, so that a test keeps one.
#[derive(Clone, Debug)]
pub(super) struct Wire(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    steps: Vec<Step>,
    /// How many bytes may be sent; a flush waits while it is zero.
    room: usize,
    polls: usize,
    vectored: bool,
    failure: Option<io::ErrorKind>,
    input: VecDeque<u8>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Wire {
    /// Accepts all output.
    pub(super) fn open() -> Self {
        Self::with(usize::MAX, true)
    }

    /// Accepts all output, without vectored writes.
    pub(super) fn plain() -> Self {
        Self::with(usize::MAX, false)
    }

    /// Accepts `room` bytes; the rest waits.
    pub(super) fn with_room(room: usize) -> Self {
        Self::with(room, true)
    }

    fn with(room: usize, vectored: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            steps: Vec::new(),
            room,
            polls: 0,
            vectored,
            failure: None,
            input: VecDeque::new(),
            reader: None,
            writer: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Accepts `room` more bytes and wakes the waiting task.
    pub(super) fn make_room(&self, room: usize) {
        let mut state = self.state();
        state.room = state.room.saturating_add(room);
        wake(&mut state.writer);
    }

    /// The next write, flush or shutdown fails.
    pub(super) fn fail(&self, kind: io::ErrorKind) {
        let mut state = self.state();
        state.failure = Some(kind);
        wake(&mut state.writer);
    }

    /// Sends input from the peer.
    pub(super) fn receive(&self, bytes: &[u8]) {
        let mut state = self.state();
        state.input.extend(bytes);
        wake(&mut state.reader);
    }

    /// Forgets the writer, as streams may after a later poll was ready.
    pub(super) fn forget_wakers(&self) {
        self.state().writer = None;
    }

    /// Number of polls of the write side.
    pub(super) fn write_polls(&self) -> usize {
        self.state().polls
    }

    /// Operations that reached the stream since the previous call.
    pub(super) fn steps(&self) -> Vec<Step> {
        mem::take(&mut self.state().steps)
    }

    /// Bytes sent since the previous call.
    pub(super) fn sent(&self) -> String {
        let sent = |step| match step {
            Step::Sent(bytes) => bytes,
            Step::Flushed | Step::ShutDown => String::new(),
        };
        self.steps().into_iter().map(sent).collect()
    }
}

impl State {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.polls += 1;
        if let Some(kind) = self.failure.take() {
            return Poll::Ready(Err(kind.into()));
        }
        if self.room == 0 {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if state.input.is_empty() {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let length = state.input.len().min(buf.remaining());
        state
            .input
            .drain(..length)
            .for_each(|byte| buf.put_slice(&[byte]));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        std::task::ready!(state.poll(cx))?;
        state.steps.push(Step::Flushed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        std::task::ready!(state.poll(cx))?;
        state.steps.push(Step::ShutDown);
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.state();
        assert!(state.vectored || bufs.len() == 1);
        std::task::ready!(state.poll(cx))?;
        let mut bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.to_vec()).collect();
        bytes.truncate(state.room);
        state.room -= bytes.len();
        let length = bytes.len();
        let text = String::from_utf8(bytes).unwrap();
        state.steps.push(Step::Sent(text));
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        self.state().vectored
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
