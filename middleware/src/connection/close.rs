//! The polite end of a connection: flush, end the write side, linger.

use super::{Connection, Phase};
use pin_project::pin_project;
use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::{Instant, Sleep, sleep_until, timeout_at},
};

/// Bounds of a lingering close: total time, silence of the peer, and discarded input.
///
/// By default 30 seconds in all and 5 seconds without input, with no bound on the number of bytes. These
/// are the defaults of nginx (`lingering_time` and `lingering_timeout`).
///
/// A TCP socket that is closed with input unread, or that gets input later, answers with a reset, and
/// the reset discards output that the peer has not read yet. RFC 9112, section 9.6, therefore asks a
/// server to read on until the peer closes or has certainly received the response. A peer that is silent
/// for longer than the bound, and sends more while it is still reading, can still lose the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linger {
    time: Duration,
    silence: Duration,
    bytes: usize,
}

impl Linger {
    /// At most 30 seconds, 5 of them without input.
    pub const fn new() -> Self {
        Self {
            time: Duration::from_secs(30),
            silence: Duration::from_secs(5),
            bytes: usize::MAX,
        }
    }

    /// Sets how long the whole close may take, including the flush.
    #[must_use]
    pub const fn with_timeout(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Sets how long the peer may send nothing; each byte starts this time again.
    #[must_use]
    pub const fn with_idle_timeout(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// Sets how many bytes of input are read and discarded; unlimited by default.
    #[must_use]
    pub const fn with_bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// How long the whole close may take.
    pub const fn time(&self) -> Duration {
        self.time
    }

    /// How long the peer may send nothing.
    pub const fn silence(&self) -> Duration {
        self.silence
    }

    /// How many bytes of input are read and discarded.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// When a close that begins now has to end.
    fn deadline(self) -> Instant {
        after(Instant::now(), self.time)
    }
}

impl Default for Linger {
    fn default() -> Self {
        Self::new()
    }
}

/// Discards the input of a connection whose write side has ended; see [`Connection::linger`].
#[derive(Debug)]
pub struct Lingering(Pin<Box<State>>);

#[pin_project]
#[derive(Debug)]
struct State {
    bytes: usize,
    silence: Duration,
    deadline: Instant,
    /// When input came last.
    heard: Instant,
    /// Fires at the earlier of both bounds. It is set anew only after it fired.
    #[pin]
    timer: Sleep,
    _place: Option<Place>,
}

impl Lingering {
    fn new(linger: Linger, deadline: Instant, place: Option<Place>) -> Self {
        let heard = Instant::now();
        Self(Box::pin(State {
            bytes: linger.bytes,
            silence: linger.silence,
            deadline,
            heard,
            timer: sleep_until(deadline.min(after(heard, linger.silence))),
            _place: place,
        }))
    }

    /// Discards input of `io`; ready when the peer has ended too, or a bound is reached.
    pub fn poll(&mut self, cx: &mut Context<'_>, io: &mut (impl AsyncRead + Unpin)) -> Poll<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut state = self.0.as_mut().project();
        for _ in 0..READS {
            let now = Instant::now();
            // The timer alone is not enough: it is asked only where there is no input.
            if *state.bytes == 0 || now >= *state.deadline {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::uninit(&mut buffer);
            match Pin::new(&mut *io).poll_read(cx, &mut buffer) {
                // An error ends the connection as well as an end of input does.
                Poll::Ready(result) if result.is_err() || buffer.filled().is_empty() => {
                    return Poll::Ready(());
                }
                Poll::Ready(_) => {
                    *state.bytes = state.bytes.saturating_sub(buffer.filled().len());
                    *state.heard = now;
                }
                Poll::Pending => loop {
                    ready!(state.timer.as_mut().poll(cx));
                    let until = after(*state.heard, *state.silence).min(*state.deadline);
                    if until <= Instant::now() {
                        return Poll::Ready(());
                    }
                    state.timer.as_mut().reset(until);
                },
            }
        }
        // Input that never pauses must not occupy the thread.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Counts the connections that linger without the slots that they held for their service.
///
/// Where no place is free, a connection lingers all the same and keeps its slots. So lingering
/// connections cannot pile up beyond the limits of the stack and these places together.
#[derive(Debug)]
struct Places {
    taken: AtomicUsize,
}

impl Places {
    const fn new() -> Self {
        Self {
            taken: AtomicUsize::new(0),
        }
    }

    fn take(&'static self) -> Option<Place> {
        let more = |taken| (taken < PLACES).then_some(taken + 1);
        let taken = self.taken.fetch_update(RELAXED, RELAXED, more);
        taken.is_ok().then(|| Place(self))
    }
}

/// One of the places, until it is dropped.
#[derive(Debug)]
struct Place(&'static Places);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, RELAXED);
    }
}

impl<IO> Connection<IO> {
    /// Begins to linger; for IO wrappers that end a connection in `poll` functions.
    ///
    /// The write side must have been shut down. [`Lingering::poll`] then discards input until the peer
    /// closes or a bound of `linger` is reached; the whole [`Linger::with_timeout`] counts from here.
    ///
    /// Slots that serve requests, such as the permits of a
    /// [`connection_limit`](crate::limit::connection_limit), are released now
    /// ([`Slots::is_released_by_linger`](super::Slots::is_released_by_linger)), for up to 1,024
    /// lingering connections of a process. Beyond that number, connections keep their slots until they
    /// are closed. A server's drain waits for a lingering connection in either case, and cuts it at its
    /// deadline.
    ///
    /// [`close`](Self::close) and [`close_within`](Self::close_within) do all of this.
    pub fn linger(&mut self, linger: Linger) -> Lingering {
        self.linger_until(linger, linger.deadline())
    }

    fn linger_until(&mut self, linger: Linger, deadline: Instant) -> Lingering {
        self.info.set_phase(Phase::Closing);
        let place = LINGERING.take();
        if place.is_some() {
            self.guards.release_for_linger();
        }
        Lingering::new(linger, deadline, place)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    /// Closes the connection and makes sure that the peer can receive all output.
    ///
    /// This flushes, ends the write side, and then reads and discards input until the peer closes too:
    /// at most 30 seconds in all and 5 seconds without input. Dropping a TCP socket with input unread
    /// would make the kernel send a reset, and the peer could lose the last output; see [`Linger`].
    ///
    /// While the connection lingers it holds no permit of a
    /// [`connection_limit`](crate::limit::connection_limit); see [`linger`](Self::linger).
    ///
    /// # Errors
    ///
    /// When the output could not be flushed and ended in time; the connection is dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection, at worst with output unsent.
    pub async fn close(self) -> io::Result<()> {
        self.close_within(Linger::new()).await
    }

    /// Like [`close`](Self::close), within the bounds of `linger`.
    ///
    /// # Errors
    ///
    /// As [`close`](Self::close).
    pub async fn close_within(mut self, linger: Linger) -> io::Result<()> {
        self.info.set_phase(Phase::Closing);
        let deadline = linger.deadline();
        timeout_at(deadline, async {
            self.io.flush().await?;
            self.io.shutdown().await
        })
        .await??;
        let mut lingering = self.linger_until(linger, deadline);
        poll_fn(|cx| lingering.poll(cx, &mut self.io)).await;
        Ok(())
    }
}

/// `since + time`, or as good as never.
fn after(since: Instant, time: Duration) -> Instant {
    since.checked_add(time).unwrap_or(since + FOREVER)
}

const FOREVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// Reads in one turn, before other tasks get theirs.
const READS: usize = 16;

/// How many connections of the process may linger without their slots.
const PLACES: usize = 1024;

static LINGERING: Places = Places::new();

const RELAXED: Ordering = Ordering::Relaxed;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{Slot, Slots, Socket};
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    };
    use tokio::{
        io::DuplexStream,
        time::{sleep, timeout},
    };

    fn pair() -> (Connection<Socket<DuplexStream>>, DuplexStream) {
        crate::testing::in_memory(64)
    }

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// How long a close takes whose peer sends a byte each `pause`, `bytes` of them.
    async fn closes_after(linger: Linger, pause: Duration, bytes: usize) -> Duration {
        let (connection, mut peer) = pair();
        let peer = tokio::spawn(async move {
            for _ in 0..bytes {
                sleep(pause).await;
                let _ = peer.write_all(b"x").await;
            }
            // Open, and silent.
            std::future::pending::<()>().await;
            drop(peer);
        });
        let begun = Instant::now();
        connection.close_within(linger).await.unwrap();
        peer.abort();
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn each_byte_starts_the_silence_again() {
        let linger = Linger::new();
        assert_eq!(closes_after(linger, millis(4900), 2).await, millis(14_800));
        assert_eq!(closes_after(linger, millis(5100), 2).await, millis(5000));
        let linger = linger.with_idle_timeout(millis(70));
        assert_eq!(closes_after(linger, millis(60), 3).await, millis(250));
    }

    #[tokio::test(start_paused = true)]
    async fn the_whole_time_holds_however_often_the_peer_sends() {
        assert_eq!(
            closes_after(Linger::new(), millis(100), 1000).await,
            millis(30_000)
        );
        let linger = Linger::new().with_timeout(millis(700));
        assert_eq!(closes_after(linger, millis(100), 1000).await, millis(700));
        let unlimited = linger.with_idle_timeout(Duration::MAX);
        assert_eq!(closes_after(unlimited, millis(1), 0).await, millis(700));
    }

    /// Input without end and without pause.
    struct Endless;

    impl AsyncRead for Endless {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            buf.initialize_unfilled().fill(b'x');
            buf.set_filled(buf.capacity());
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn input_without_pause_neither_extends_the_time_nor_occupies_the_thread() {
        let (mut connection, _peer) = pair();
        let others_run = Arc::new(AtomicBool::new(false));
        let other = others_run.clone();
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            other.store(true, RELAXED);
        });
        let begun = Instant::now();
        let mut lingering = connection.linger(Linger::new().with_timeout(millis(30)));
        let lingers = poll_fn(|cx| lingering.poll(cx, &mut Endless));
        timeout(Duration::from_secs(60), lingers).await.unwrap();
        assert!(begun.elapsed() >= millis(30));
        assert!(others_run.load(RELAXED));
    }

    /// Counts what is released.
    struct Counted {
        released: AtomicUsize,
        by_linger: bool,
    }

    impl Slots for Counted {
        fn release(&self, _key: usize) {
            self.released.fetch_add(1, RELAXED);
        }

        fn is_released_by_linger(&self) -> bool {
            self.by_linger
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_lingers_holds_only_what_is_not_for_its_service() {
        let [server, limit] = [false, true].map(|by_linger| {
            Arc::new(Counted {
                released: AtomicUsize::new(0),
                by_linger,
            })
        });
        let released = || [&server, &limit].map(|slots| slots.released.load(RELAXED));
        let (mut connection, peer) = pair();
        connection.hold_slot(Slot::new(server.clone(), 0));
        connection.hold_slot(Slot::new(limit.clone(), 0));
        let info = connection.info().clone();
        let closed = tokio::spawn(connection.close());
        sleep(millis(1)).await;
        assert_eq!((released(), info.phase()), ([0, 1], Phase::Closing));
        drop(peer);
        closed.await.unwrap().unwrap();
        assert_eq!((released(), info.phase()), ([1, 1], Phase::Closed));
    }

    #[test]
    fn there_are_so_many_places_and_each_comes_back() {
        static OURS: Places = Places::new();
        let mut taken: Vec<_> = (0..PLACES).map_while(|_| OURS.take()).collect();
        assert_eq!(taken.len(), PLACES);
        assert!(OURS.take().is_none());
        taken.pop();
        let again = OURS.take();
        assert!(again.is_some() && OURS.take().is_none());
        drop((taken, again));
        assert_eq!(OURS.taken.load(RELAXED), 0);
    }
}
