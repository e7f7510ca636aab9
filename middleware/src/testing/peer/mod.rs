//! Peers that follow a script.

mod io;
mod seen;
#[cfg(test)]
mod tests;
mod timeline;

pub use self::{io::PeerIo, seen::Seen};

use self::timeline::PeerStep;
use crate::{
    Connection,
    connection::{Address, Socket},
};
use std::{collections::VecDeque, time::Duration};

/// What the peer of a connection does, step by step; [`connection`](Self::connection) makes it one.
///
/// The peer goes through its steps by the clock, not by our reads: it sends even if its output is not read.
/// The clock begins to run with the first operation. A script without pauses needs no runtime; one with
/// pauses is quick in paused time.
///
/// | Steps | |
/// |---|---|
/// | [`sends`](Self::sends), [`dribbles`](Self::dribbles) | bytes, at once or slowly |
/// | [`stalls`](Self::stalls), [`waits_for`](Self::waits_for), [`waits_for_end`](Self::waits_for_end) | silence, for a time or until we said something |
/// | [`stops_reading`](Self::stops_reading), [`reads_again`](Self::reads_again) | what we write waits |
/// | [`half_closes`](Self::half_closes), [`resets`](Self::resets) | the end |
///
/// When the steps are over the peer stays, silent and reading: a read stays pending. It takes all
/// that is written, unless [`takes`](Self::takes) or [`takes_every`](Self::takes_every) say
/// otherwise.
///
/// ```
/// use portcullis_middleware::testing::Peer;
/// use std::time::Duration;
/// use tokio::{io::{AsyncReadExt, AsyncWriteExt}, time::Instant};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> std::io::Result<()> {
/// let (mut connection, seen) = Peer::new()
///     .dribbles(b"GET /", 1, Duration::from_secs(1))
///     .half_closes()
///     .takes(2)
///     .connection();
///
/// let begun = Instant::now();
/// let mut request = String::new();
/// connection.read_to_string(&mut request).await?;
/// assert_eq!(request, "GET /");
/// assert_eq!(begun.elapsed(), Duration::from_secs(5));
///
/// connection.write_all(b"bye").await?;
/// drop(connection);
/// assert_eq!(seen.writes(), [b"by".to_vec(), b"e".to_vec()]);
/// assert!(seen.is_dropped() && !seen.is_shut_down());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a script does nothing until it is made into a connection"]
pub struct Peer {
    steps: VecDeque<PeerStep>,
    takes: usize,
    every: Duration,
    vectored: bool,
    peer: Address,
    local: Address,
    reading: bool,
    end: PeerEnd,
}

/// How far the peer has come in ending the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PeerEnd {
    Open,
    HalfClosed,
    Reset,
}

impl Peer {
    /// A peer that says nothing, takes all that is written at once, and knows vectored writes.
    pub const fn new() -> Self {
        Self {
            steps: VecDeque::new(),
            takes: usize::MAX,
            every: Duration::ZERO,
            vectored: true,
            peer: Address::Unknown,
            local: Address::Unknown,
            reading: true,
            end: PeerEnd::Open,
        }
    }

    /// Sends `bytes` at once. A read gets bytes of one such step at most, never of two.
    ///
    /// # Panics
    ///
    /// When `bytes` is empty, which would look like the end; or after the end.
    #[track_caller]
    pub fn sends(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        assert!(!bytes.is_empty(), "a peer cannot send nothing");
        assert!(
            self.end == PeerEnd::Open,
            "a peer that ended its side cannot send"
        );
        self.then(PeerStep::Send(bytes.to_vec()))
    }

    /// Sends `bytes` in pieces of `size` bytes, with a pause of `every` before each.
    ///
    /// # Panics
    ///
    /// As [`sends`](Self::sends), and when `size` is zero.
    #[track_caller]
    pub fn dribbles(mut self, bytes: impl AsRef<[u8]>, size: usize, every: Duration) -> Self {
        let bytes = bytes.as_ref();
        assert!(!bytes.is_empty(), "a peer cannot send nothing");
        assert!(size > 0, "pieces hold a byte at least");
        for piece in bytes.chunks(size) {
            self = self.stalls(every).sends(piece);
        }
        self
    }

    /// Does nothing for `time`.
    ///
    /// # Panics
    ///
    /// After [`resets`](Self::resets).
    #[track_caller]
    pub fn stalls(self, time: Duration) -> Self {
        self.then(PeerStep::Stall(time))
    }

    /// Goes on when we have written `bytes` bytes that no step before has waited for.
    ///
    /// # Panics
    ///
    /// While it does not read, for that would never be; or after [`resets`](Self::resets).
    #[track_caller]
    pub fn waits_for(self, bytes: usize) -> Self {
        assert!(self.reading, "a peer that does not read waits for ever");
        self.then(PeerStep::WaitFor(bytes))
    }

    /// Goes on when our side has been shut down.
    ///
    /// # Panics
    ///
    /// As [`waits_for`](Self::waits_for).
    #[track_caller]
    pub fn waits_for_end(self) -> Self {
        assert!(self.reading, "a peer that does not read waits for ever");
        self.then(PeerStep::WaitForEnd)
    }

    /// Takes nothing any more: writes, flushes and shutdowns wait, as with a window of zero.
    ///
    /// # Panics
    ///
    /// When it does not read already, or after [`resets`](Self::resets).
    #[track_caller]
    pub fn stops_reading(mut self) -> Self {
        assert!(self.reading, "this peer has stopped reading already");
        self.reading = false;
        self.then(PeerStep::Reading(false))
    }

    /// Takes again what is written.
    ///
    /// # Panics
    ///
    /// When it has not stopped, or after [`resets`](Self::resets).
    #[track_caller]
    pub fn reads_again(mut self) -> Self {
        assert!(!self.reading, "this peer has not stopped reading");
        self.reading = true;
        self.then(PeerStep::Reading(true))
    }

    /// Ends its side: our reads see the end of the stream, our writes go on.
    ///
    /// # Panics
    ///
    /// When it has ended already.
    #[track_caller]
    pub fn half_closes(mut self) -> Self {
        assert!(self.end == PeerEnd::Open, "a peer ends its side once");
        self.end = PeerEnd::HalfClosed;
        self.then(PeerStep::HalfClose)
    }

    /// Resets the connection: writes, flushes and shutdowns fail with
    /// [`ConnectionReset`](std::io::ErrorKind::ConnectionReset), and so do reads once they have got
    /// what was sent before.
    ///
    /// # Panics
    ///
    /// When it has reset already: nothing follows on that.
    #[track_caller]
    pub fn resets(self) -> Self {
        let mut reset = self.then(PeerStep::Reset);
        reset.end = PeerEnd::Reset;
        reset
    }

    /// Takes `most` bytes of each write at most, whenever it reads.
    ///
    /// # Panics
    ///
    /// When `most` is zero; see [`stops_reading`](Self::stops_reading).
    #[track_caller]
    pub const fn takes(mut self, most: usize) -> Self {
        assert!(most > 0, "a write of nothing looks like a failure");
        self.takes = most;
        self
    }

    /// Takes `most` bytes of each write at most, and lets each write wait for `every` first.
    ///
    /// # Panics
    ///
    /// As [`takes`](Self::takes).
    #[track_caller]
    pub const fn takes_every(mut self, most: usize, every: Duration) -> Self {
        self.every = every;
        self.takes(most)
    }

    /// Knows no vectored writes: of several buffers only the first is taken.
    pub const fn without_vectored_writes(mut self) -> Self {
        self.vectored = false;
        self
    }

    /// Sets the address of the peer; unknown by default.
    pub fn with_peer_address(mut self, address: impl Into<Address>) -> Self {
        self.peer = address.into();
        self
    }

    /// Sets the address that the peer connected to; unknown by default.
    pub fn with_local_address(mut self, address: impl Into<Address>) -> Self {
        self.local = address.into();
        self
    }

    /// The bare stream to this peer, for a whole stack.
    pub fn io(self) -> PeerIo {
        PeerIo::new(self)
    }

    /// The bare stream to this peer, and what the peer saw of us.
    pub fn pair(self) -> (PeerIo, Seen) {
        let io = self.io();
        let seen = io.seen();
        (io, seen)
    }

    /// A connection to this peer, as layers get it, and what the peer saw of us.
    pub fn connection(self) -> (Connection<Socket<PeerIo>>, Seen) {
        let (io, seen) = self.pair();
        (Connection::accept(io), seen)
    }

    #[track_caller]
    fn then(mut self, step: PeerStep) -> Self {
        assert!(self.end != PeerEnd::Reset, "nothing follows on a reset");
        self.steps.push_back(step);
        self
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self::new()
    }
}
