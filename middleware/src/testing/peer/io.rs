//! The stream to a scripted peer.

use super::{Peer, Seen, timeline::Timeline};
use crate::connection::{Address, Transport};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// The raw stream to a [`Peer`], created by [`Peer::io`].
#[derive(Debug)]
pub struct PeerIo {
    timeline: Timeline,
    takes: usize,
    every: Duration,
    vectored: bool,
    peer: Address,
    local: Address,
    seen: Seen,
    /// When the pending write is accepted.
    taken_at: Option<Instant>,
    /// A pending read, which a write of ours may wake.
    reader: Option<Waker>,
    /// One per direction, because the halves may be in two tasks.
    timers: [Option<Pin<Box<Sleep>>>; 2],
}

impl PeerIo {
    pub(super) fn new(script: Peer) -> Self {
        Self {
            timeline: Timeline::new(script.steps),
            takes: script.takes,
            every: script.every,
            vectored: script.vectored,
            peer: script.peer,
            local: script.local,
            seen: Seen::new(),
            taken_at: None,
            reader: None,
            timers: [None, None],
        }
    }

    /// Returns the record of what the peer observes.
    pub fn seen(&self) -> Seen {
        self.seen.clone()
    }

    /// Waits until `end`, or indefinitely.
    fn poll_until(
        &mut self,
        direction: usize,
        end: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(end) = end else {
            return Poll::Pending;
        };
        let timer = self.timers[direction].get_or_insert_with(|| Box::pin(sleep_until(end)));
        if timer.deadline() != end {
            timer.as_mut().reset(end);
        }
        timer.as_mut().poll(cx)
    }

    /// Waits until the peer reads.
    fn poll_reading(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let next = self.timeline.advance(Instant::now());
            if self.timeline.is_reset() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if self.timeline.is_reading() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_until(WRITE, next, cx));
        }
    }

    /// Waits until the peer accepts a write.
    fn poll_taking(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_reading(cx))?;
            if self.every.is_zero() {
                return Poll::Ready(Ok(()));
            }
            let now = Instant::now();
            let every = self.every;
            let taken_at = *self.taken_at.get_or_insert_with(|| now + every);
            if taken_at <= now {
                self.taken_at = None;
                return Poll::Ready(Ok(()));
            }
            let next = self.timeline.advance(now);
            let end = next.map_or(taken_at, |next| next.min(taken_at));
            ready!(self.poll_until(WRITE, Some(end), cx));
        }
    }

    /// Passes an event of our side to the peer.
    fn notify(&mut self, notify: impl FnOnce(&mut Timeline)) {
        notify(&mut self.timeline);
        self.timeline.advance(Instant::now());
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn poll_write_some<'a>(
        &mut self,
        cx: &mut Context<'_>,
        bufs: impl Iterator<Item = &'a [u8]>,
    ) -> Poll<io::Result<usize>> {
        if self.seen.state().shut_down {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.poll_taking(cx))?;
        let taken: Vec<u8> = bufs.flatten().copied().take(self.takes).collect();
        let length = taken.len();
        if length > 0 {
            let mut seen = self.seen.state();
            seen.writes.push(taken);
            seen.unflushed = true;
            drop(seen);
            self.notify(|timeline| timeline.receive(length));
        }
        Poll::Ready(Ok(length))
    }
}

impl Drop for PeerIo {
    fn drop(&mut self) {
        self.seen.set_dropped();
    }
}

impl Transport for PeerIo {
    fn peer_address(&self) -> Address {
        self.peer.clone()
    }

    fn local_address(&self) -> Address {
        self.local.clone()
    }

    fn reset_on_drop(&self) -> io::Result<()> {
        self.seen.state().reset = true;
        Ok(())
    }
}

impl AsyncRead for PeerIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            let next = self.timeline.advance(Instant::now());
            if let Some(bytes) = self.timeline.read(buf.remaining()) {
                buf.put_slice(&bytes);
                return Poll::Ready(Ok(()));
            }
            if self.timeline.is_reset() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if self.timeline.is_half_closed() {
                return Poll::Ready(Ok(()));
            }
            self.reader = Some(cx.waker().clone());
            ready!(self.poll_until(READ, next, cx));
        }
    }
}

impl AsyncWrite for PeerIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_some(cx, std::iter::once(buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_reading(cx))?;
        self.seen.state().unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_reading(cx))?;
        let mut seen = self.seen.state();
        seen.unflushed = false;
        seen.shut_down = true;
        drop(seen);
        self.notify(Timeline::receive_end);
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bufs = bufs.iter().map(|buf| &**buf);
        if self.vectored {
            return self.poll_write_some(cx, bufs);
        }
        // Like the default of `AsyncWrite`.
        self.poll_write_some(cx, bufs.filter(|buf| !buf.is_empty()).take(1))
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }
}

const READ: usize = 0;
const WRITE: usize = 1;
