//! The stream wrapper.

use super::{Bandwidth, SharedBandwidth, bucket::TokenBucket};
use crate::{ConnectionInfo, guard::Observer, internal::note_timer, io::Passthrough};
use pin_project::pin_project;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// A stream that reads and writes a limited number of bytes per second; see the [module docs](super).
///
/// # Panics
///
/// An operation that waits panics outside of a tokio runtime with time enabled.
#[pin_project]
#[derive(Debug)]
pub struct BandwidthIo<IO> {
    #[pin]
    io: IO,
    read: DirectionBandwidth,
    write: DirectionBandwidth,
}

impl<IO> BandwidthIo<IO> {
    pub(super) const fn new(io: IO, read: DirectionBandwidth, write: DirectionBandwidth) -> Self {
        Self { io, read, write }
    }

    /// Returns a reference to the inner stream.
    pub const fn get_ref(&self) -> &IO {
        &self.io
    }

    /// Returns a mutable reference to the inner stream; operations on it are not limited.
    pub const fn get_mut(&mut self) -> &mut IO {
        &mut self.io
    }

    /// Returns the inner stream, without the limits.
    pub fn into_inner(self) -> IO {
        self.io
    }
}

/// The limits of one direction.
#[derive(Debug, Default)]
pub(super) struct DirectionBandwidth {
    own: Option<TokenBucket>,
    shared: Option<SharedBandwidth>,
    timer: Option<Pin<Box<Sleep>>>,
    /// `None` if the limits apply.
    observing: Option<Box<Observing>>,
}

/// What a direction needs that only observes.
#[derive(Debug)]
pub(super) struct Observing {
    pub(super) observer: Arc<Observer>,
    pub(super) info: ConnectionInfo,
    pub(super) reason: &'static str,
    /// Whether bytes would have been held back.
    pub(super) noted: bool,
}

impl Observing {
    fn note(&mut self) {
        if !self.noted {
            self.noted = true;
            self.observer.observe(&self.info, self.reason, self.reason);
        }
    }
}

impl DirectionBandwidth {
    pub(super) fn new(
        own: Option<Bandwidth>,
        shared: Option<SharedBandwidth>,
        observing: Option<Box<Observing>>,
    ) -> Self {
        Self {
            own: own.map(TokenBucket::new),
            shared,
            timer: None,
            observing,
        }
    }

    const fn is_unlimited(&self) -> bool {
        self.own.is_none() && self.shared.is_none()
    }

    /// How many bytes may pass at `now`, or else when to look again.
    fn available(&self, now: Instant) -> Result<u64, Instant> {
        let own = self.own.map_or(Ok(u64::MAX), |own| own.available(now));
        let shared = self.shared.as_ref();
        let shared = shared.map_or(Ok(u64::MAX), |shared| {
            shared.with(|shared| shared.available(now))
        });
        match (own, shared) {
            (Ok(own), Ok(shared)) => Ok(own.min(shared)),
            (Err(next), Ok(_)) | (Ok(_), Err(next)) => Err(next),
            (Err(own), Err(shared)) => Err(own.max(shared)),
        }
    }

    /// Waits until bytes may pass, and returns how many.
    fn poll_available(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if self.observing.is_some() {
            return Poll::Ready(usize::MAX);
        }
        loop {
            let next = match self.available(Instant::now()) {
                Ok(bytes) => return Poll::Ready(usize::try_from(bytes).unwrap_or(usize::MAX)),
                Err(next) => next,
            };
            let timer = match &mut self.timer {
                Some(timer) => {
                    timer.as_mut().reset(next);
                    timer
                }
                None => {
                    note_timer();
                    self.timer.insert(Box::pin(sleep_until(next)))
                }
            };
            ready!(timer.as_mut().poll(cx));
        }
    }

    fn take(&mut self, bytes: usize) {
        let (mut bytes, now) = (bytes as u64, Instant::now());
        if self.observing.is_some() {
            let available = self.available(now).unwrap_or(0);
            if let Some(observing) = &mut self.observing
                && bytes > available
            {
                observing.note();
            }
            // What the limits would have held back is not taken from them.
            bytes = bytes.min(available);
        }
        if let Some(own) = &mut self.own {
            own.take(bytes, now);
        }
        if let Some(shared) = &self.shared {
            shared.with(|shared| shared.take(bytes, now));
        }
    }
}

impl<IO: Passthrough> Passthrough for BandwidthIo<IO> {
    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.io.poll_departure(cx)
    }

    fn has_unread(&self) -> bool {
        self.io.has_unread()
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_sent(cx)
    }
}

impl<IO: AsyncRead> AsyncRead for BandwidthIo<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        if this.read.is_unlimited() {
            return this.io.poll_read(cx, buf);
        }
        let available = ready!(this.read.poll_available(cx));
        let before = buf.filled().len();
        let mut io = this.io.take(available as u64);
        let result = Pin::new(&mut io).poll_read(cx, buf);
        this.read.take(buf.filled().len() - before);
        result
    }
}

impl<IO: AsyncWrite> AsyncWrite for BandwidthIo<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        if this.write.is_unlimited() || buf.is_empty() {
            return this.io.poll_write(cx, buf);
        }
        let available = ready!(this.write.poll_available(cx)).min(buf.len());
        let result = this.io.poll_write(cx, &buf[..available]);
        if let Poll::Ready(Ok(written)) = &result {
            this.write.take(*written);
        }
        result
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total = bufs.iter().map(|buf| buf.len()).sum();
        if self.write.is_unlimited() || total == 0 {
            return self.project().io.poll_write_vectored(cx, bufs);
        }
        let this = self.project();
        let available = ready!(this.write.poll_available(cx));
        let result = if available >= total {
            this.io.poll_write_vectored(cx, bufs)
        } else {
            // A list cannot be shortened without an allocation, so only its first part is written.
            let first = bufs.iter().find(|buf| !buf.is_empty());
            let first = first.map_or(&[][..], |buf| buf);
            this.io.poll_write(cx, &first[..first.len().min(available)])
        };
        if let Poll::Ready(Ok(written)) = &result {
            this.write.take(*written);
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
