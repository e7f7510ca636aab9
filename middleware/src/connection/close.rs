//! Graceful close of a connection: flush, end the write side, linger.

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

/// Limits of a lingering close: total time, silence of the peer, and discarded input.
///
/// By default 30 seconds in total and 5 seconds without input, with unlimited input. These are the defaults
/// of nginx (`lingering_time` and `lingering_timeout`).
///
/// A TCP socket that is closed with unread input, or that receives input later, answers with a reset. The
/// reset discards output that the peer has not read yet. RFC 9112, section 9.6, therefore tells servers to
/// read on until the peer closes or has certainly received the response. A peer that is silent for longer
/// than the limit, and sends more while it is still reading, can still lose the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linger {
    time: Duration,
    silence: Duration,
    bytes: usize,
}

impl Linger {
    /// The default: 30 seconds in total, 5 seconds without input.
    pub const fn new() -> Self {
        Self {
            time: Duration::from_secs(30),
            silence: Duration::from_secs(5),
            bytes: usize::MAX,
        }
    }

    /// Sets the time limit of the whole close, including the flush.
    #[must_use]
    pub const fn with_timeout(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Sets the limit on the peer's silence. Each byte restarts it.
    #[must_use]
    pub const fn with_idle_timeout(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// Limits the bytes of input that are read and discarded; unlimited by default.
    #[must_use]
    pub const fn with_bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// The time limit of the whole close.
    pub const fn time(&self) -> Duration {
        self.time
    }

    /// The limit on the peer's silence.
    pub const fn silence(&self) -> Duration {
        self.silence
    }

    /// The limit on input that is read and discarded.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The deadline of a close that begins now.
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
pub struct Lingering(Pin<Box<LingerState>>);

#[pin_project]
#[derive(Debug)]
struct LingerState {
    bytes: usize,
    silence: Duration,
    deadline: Instant,
    /// The time of the last input.
    last_input: Instant,
    /// Fires at the earlier of both limits. It is only reset after it fired.
    #[pin]
    timer: Sleep,
    _place: Option<LingerPlace>,
}

impl Lingering {
    fn new(linger: Linger, deadline: Instant, place: Option<LingerPlace>) -> Self {
        let last_input = Instant::now();
        Self(Box::pin(LingerState {
            bytes: linger.bytes,
            silence: linger.silence,
            deadline,
            last_input,
            timer: sleep_until(deadline.min(after(last_input, linger.silence))),
            _place: place,
        }))
    }

    /// Discards input of `io`; ready when the peer has closed too, or a limit is reached.
    pub fn poll(&mut self, cx: &mut Context<'_>, io: &mut (impl AsyncRead + Unpin)) -> Poll<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut state = self.0.as_mut().project();
        for _ in 0..READS {
            let now = Instant::now();
            // The timer is only polled without input, so it is not enough alone.
            if *state.bytes == 0 || now >= *state.deadline {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::uninit(&mut buffer);
            match Pin::new(&mut *io).poll_read(cx, &mut buffer) {
                // An error ends the connection, as the end of input does.
                Poll::Ready(result) if result.is_err() || buffer.filled().is_empty() => {
                    return Poll::Ready(());
                }
                Poll::Ready(_) => {
                    *state.bytes = state.bytes.saturating_sub(buffer.filled().len());
                    *state.last_input = now;
                }
                Poll::Pending => loop {
                    ready!(state.timer.as_mut().poll(cx));
                    let until = after(*state.last_input, *state.silence).min(*state.deadline);
                    if until <= Instant::now() {
                        return Poll::Ready(());
                    }
                    state.timer.as_mut().reset(until);
                },
            }
        }
        // Continuous input must not occupy the thread.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Counts the lingering connections that have released the slots of their service.
///
/// If all places are taken, a connection lingers and keeps its slots. Lingering connections are therefore
/// limited by the limits of the stack and these places together.
#[derive(Debug)]
struct LingerPlaces {
    taken: AtomicUsize,
}

impl LingerPlaces {
    const fn new() -> Self {
        Self {
            taken: AtomicUsize::new(0),
        }
    }

    fn take(&'static self) -> Option<LingerPlace> {
        let more = |taken| (taken < PLACES).then_some(taken + 1);
        let taken = self.taken.fetch_update(RELAXED, RELAXED, more);
        taken.is_ok().then(|| LingerPlace(self))
    }
}

/// One of the places; dropping it frees it.
#[derive(Debug)]
struct LingerPlace(&'static LingerPlaces);

impl Drop for LingerPlace {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, RELAXED);
    }
}

impl<IO> Connection<IO> {
    /// Starts to linger, for I/O wrappers that close a connection in `poll` functions.
    ///
    /// The write side must have been shut down before. [`Lingering::poll`] then discards input until the peer
    /// closes or a limit of `linger` is reached; the total time starts now.
    ///
    /// Permits that the connection only needs while it is served, such as those of a
    /// [`connection_limit`](crate::limit::connection_limit), are released now, for up to 1,024 lingering
    /// connections of a process. Beyond that number, connections keep their permits until they are closed. A
    /// graceful shutdown waits for lingering connections in either case and force-closes them at its
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
    /// Closes the connection after the peer can have received all output.
    ///
    /// This flushes, ends the write side, and then discards input until the peer closes too, for at most 30
    /// seconds in total and 5 seconds without input. Dropping a TCP socket with unread input would make the
    /// kernel send a reset, and the peer could lose the last output; see [`Linger`].
    ///
    /// A lingering connection holds no permit of a [`connection_limit`](crate::limit::connection_limit); see
    /// [`linger`](Self::linger).
    ///
    /// # Errors
    ///
    /// If the output could not be flushed and ended in time. The connection is dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection, possibly with unsent output.
    pub async fn close(self) -> io::Result<()> {
        self.close_within(Linger::new()).await
    }

    /// Like [`close`](Self::close), within the limits of `linger`.
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

/// `since + time`, or a year later if that overflows.
fn after(since: Instant, time: Duration) -> Instant {
    since.checked_add(time).unwrap_or(since + A_YEAR)
}

const A_YEAR: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// Reads per poll, before other tasks run.
const READS: usize = 16;

/// How many connections of the process may linger after they released their slots.
const PLACES: usize = 1024;

static LINGERING: LingerPlaces = LingerPlaces::new();

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

    /// The duration of a close whose peer sends `bytes` bytes, one per `pause`.
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

    /// Endless, continuous input.
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
        static OURS: LingerPlaces = LingerPlaces::new();
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
