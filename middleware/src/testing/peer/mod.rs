//! Scripted peers.

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

/// The steps of a scripted peer; [`connection`](Self::connection) creates its connection.
///
/// The peer performs its steps by the clock and independently of our reads. The clock starts with the first
/// operation. A script with pauses needs a runtime, and takes no real time while the clock is paused.
///
/// | steps | effect |
/// |---|---|
/// | [`sends`](Self::sends), [`dribbles`](Self::dribbles) | bytes, immediately or slowly |
/// | [`stalls`](Self::stalls), [`waits_for`](Self::waits_for), [`waits_for_end`](Self::waits_for_end) | silence, for a time or until we have written something |
/// | [`stops_reading`](Self::stops_reading), [`reads_again`](Self::reads_again) | our writes wait, or continue |
/// | [`half_closes`](Self::half_closes), [`resets`](Self::resets) | the end of the input or of the connection |
///
/// After the last step, the peer stays connected, silent and reading. It accepts whole writes, unless
/// [`takes`](Self::takes) or [`takes_every`](Self::takes_every) limit them.
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
#[must_use = "a script has no effect until it is made into a connection"]
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

/// The state of the connection at the end of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PeerEnd {
    Open,
    HalfClosed,
    Reset,
}

impl Peer {
    /// A silent peer that accepts whole writes, including vectored ones.
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

    /// Sends `bytes` immediately. A read returns bytes of at most one such step.
    ///
    /// # Panics
    ///
    /// Panics if `bytes` is empty, which would look like the end of the stream, and after the end.
    #[track_caller]
    pub fn sends(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        assert!(!bytes.is_empty(), "a peer must send at least one byte");
        assert!(
            self.end == PeerEnd::Open,
            "a peer that has half-closed cannot send"
        );
        self.then(PeerStep::Send(bytes.to_vec()))
    }

    /// Sends `bytes` in pieces of `size` bytes, with a pause of `every` before each.
    ///
    /// # Panics
    ///
    /// Panics like [`sends`](Self::sends), and if `size` is zero.
    #[track_caller]
    pub fn dribbles(mut self, bytes: impl AsRef<[u8]>, size: usize, every: Duration) -> Self {
        let bytes = bytes.as_ref();
        assert!(!bytes.is_empty(), "a peer must send at least one byte");
        assert!(size > 0, "pieces contain at least one byte");
        for piece in bytes.chunks(size) {
            self = self.stalls(every).sends(piece);
        }
        self
    }

    /// Pauses for `time`.
    ///
    /// # Panics
    ///
    /// Panics after [`resets`](Self::resets).
    #[track_caller]
    pub fn stalls(self, time: Duration) -> Self {
        self.then(PeerStep::Stall(time))
    }

    /// Waits until we have written another `bytes` bytes; each byte counts for one step.
    ///
    /// # Panics
    ///
    /// Panics while the peer does not read, because it would wait indefinitely, and after
    /// [`resets`](Self::resets).
    #[track_caller]
    pub fn waits_for(self, bytes: usize) -> Self {
        assert!(
            self.reading,
            "a peer that does not read would wait indefinitely"
        );
        self.then(PeerStep::WaitFor(bytes))
    }

    /// Waits until our write side is shut down.
    ///
    /// # Panics
    ///
    /// Panics like [`waits_for`](Self::waits_for).
    #[track_caller]
    pub fn waits_for_end(self) -> Self {
        assert!(
            self.reading,
            "a peer that does not read would wait indefinitely"
        );
        self.then(PeerStep::WaitForEnd)
    }

    /// Stops reading, so that writes, flushes and shutdowns wait, as with a zero window.
    ///
    /// # Panics
    ///
    /// Panics if the peer has already stopped reading, and after [`resets`](Self::resets).
    #[track_caller]
    pub fn stops_reading(mut self) -> Self {
        assert!(self.reading, "this peer has stopped reading already");
        self.reading = false;
        self.then(PeerStep::Reading(false))
    }

    /// Resumes reading.
    ///
    /// # Panics
    ///
    /// Panics if the peer has not stopped reading, and after [`resets`](Self::resets).
    #[track_caller]
    pub fn reads_again(mut self) -> Self {
        assert!(!self.reading, "this peer has not stopped reading");
        self.reading = true;
        self.then(PeerStep::Reading(true))
    }

    /// Half-closes, so that our reads return the end of the stream and our writes continue.
    ///
    /// # Panics
    ///
    /// Panics after the end.
    #[track_caller]
    pub fn half_closes(mut self) -> Self {
        assert!(self.end == PeerEnd::Open, "a peer can half-close only once");
        self.end = PeerEnd::HalfClosed;
        self.then(PeerStep::HalfClose)
    }

    /// Resets the connection.
    ///
    /// Writes, flushes and shutdowns fail with [`ConnectionReset`](std::io::ErrorKind::ConnectionReset),
    /// and so do reads after they have returned the earlier input.
    ///
    /// # Panics
    ///
    /// Panics if the peer has already reset the connection.
    #[track_caller]
    pub fn resets(self) -> Self {
        let mut reset = self.then(PeerStep::Reset);
        reset.end = PeerEnd::Reset;
        reset
    }

    /// Accepts at most `most` bytes of each write.
    ///
    /// # Panics
    ///
    /// Panics if `most` is zero; see [`stops_reading`](Self::stops_reading).
    #[track_caller]
    pub const fn takes(mut self, most: usize) -> Self {
        assert!(most > 0, "a write of zero bytes would look like a failure");
        self.takes = most;
        self
    }

    /// Accepts at most `most` bytes of each write, after a wait of `every`.
    ///
    /// # Panics
    ///
    /// Panics like [`takes`](Self::takes).
    #[track_caller]
    pub const fn takes_every(mut self, most: usize, every: Duration) -> Self {
        self.every = every;
        self.takes(most)
    }

    /// Disables vectored writes, so that only the first of several buffers is accepted.
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

    /// Returns the raw stream to this peer, for a whole stack.
    pub fn io(self) -> PeerIo {
        PeerIo::new(self)
    }

    /// Returns the raw stream to this peer, and a record of what the peer observed.
    pub fn pair(self) -> (PeerIo, Seen) {
        let io = self.io();
        let seen = io.seen();
        (io, seen)
    }

    /// Returns a connection to this peer, and a record of what the peer observed.
    pub fn connection(self) -> (Connection<Socket<PeerIo>>, Seen) {
        let (io, seen) = self.pair();
        (Connection::accept(io), seen)
    }

    #[track_caller]
    fn then(mut self, step: PeerStep) -> Self {
        assert!(self.end != PeerEnd::Reset, "a reset is the last step");
        self.steps.push_back(step);
        self
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self::new()
    }
}
