mod absence;
mod clock;
mod slow;

use self::slow::Slow;
use super::*;
use crate::{
    Connection,
    error::{Elapsed, TimeoutPhase, find},
    testing::{Peer, assert_transparent},
};
use std::{
    cell::Cell,
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex, split},
    net::{TcpListener, TcpStream},
    task::coop,
    time::{Instant, advance, sleep, timeout},
};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{ServiceBuilder, ServiceExt};

static_assertions::assert_impl_all!(TimeoutIo<TcpStream>: Send, Sync, Unpin);

thread_local! {
    /// Number of checks of timers in this thread.
    pub(super) static WATCHED: Cell<usize> = const { Cell::new(0) };
}

const BOUND: Duration = Duration::from_secs(9);
const MOMENT: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);

fn bounded<IO>(io: IO) -> TimeoutIo<IO> {
    TimeoutIo::new(io)
        .with_read_timeout(BOUND)
        .with_write_timeout(BOUND)
}

fn slow(takes: Duration) -> TimeoutIo<Slow> {
    bounded(Slow::taking(takes))
}

fn in_memory() -> (TimeoutIo<DuplexStream>, DuplexStream) {
    let (ours, theirs) = duplex(8);
    (bounded(ours), theirs)
}

#[track_caller]
fn assert_elapsed<T>(result: io::Result<T>, phase: TimeoutPhase, after: Duration) {
    let Err(error) = result else {
        panic!("should have timed out");
    };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(find(&error), Some(&Elapsed::new(phase, after)));
}

async fn read(io: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
    io.read(&mut [0; 4]).await
}

fn poll_read(io: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    Pin::new(io).poll_read(cx, &mut ReadBuf::new(&mut [0; 4]))
}

/// The duration of `work`, in paused time to the millisecond.
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let result = timeout(DAY, work).await.expect("should end some day");
    (result, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_read_may_take_its_bound_and_no_longer() {
    assert_eq!(read(&mut slow(BOUND)).await.unwrap(), 1);
    let mut io = slow(BOUND + MOMENT);
    let (late, took) = timed(read(&mut io)).await;
    assert_elapsed(late, TimeoutPhase::READ, BOUND);
    assert_eq!(took, BOUND);
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_write_may_take_its_bound_and_no_longer() {
    let mut at_the_bound = slow(BOUND);
    assert_eq!(at_the_bound.write(b"ab").await.unwrap(), 2);
    let bufs = [IoSlice::new(b"ab")];
    assert_eq!(at_the_bound.write_vectored(&bufs).await.unwrap(), 1);
    at_the_bound.flush().await.unwrap();
    at_the_bound.shutdown().await.unwrap();

    let late = || slow(BOUND + MOMENT);
    let start = Instant::now();
    assert_elapsed(late().write(b"ab").await, TimeoutPhase::WRITE, BOUND);
    let vectored = late().write_vectored(&bufs).await;
    assert_elapsed(vectored, TimeoutPhase::WRITE, BOUND);
    assert_elapsed(late().flush().await, TimeoutPhase::WRITE, BOUND);
    assert_elapsed(late().shutdown().await, TimeoutPhase::WRITE, BOUND);
    assert_eq!(start.elapsed(), BOUND * 4);
}

#[tokio::test(start_paused = true)]
async fn the_layer_bounds_both_directions_by_a_minute() {
    let stack = ServiceBuilder::new().layer(IoTimeoutLayer::default());
    let stack = stack.service_fn(|mut connection: Connection<_>| async move {
        let silence = timed(read(&mut connection)).await;
        let full = timed(connection.write_all(&[0; 9])).await;
        io::Result::Ok((silence, full))
    });
    let (ours, _theirs) = duplex(8);
    let (silence, full) = stack.oneshot(Connection::accept(ours)).await.unwrap();
    let minute = Duration::from_secs(60);
    assert_eq!((silence.1, full.1), (minute, minute));
    assert_elapsed(silence.0, TimeoutPhase::READ, minute);
    assert_elapsed(full.0, TimeoutPhase::WRITE, minute);
}

#[tokio::test(start_paused = true)]
async fn each_direction_can_be_switched_off_alone() {
    let stack = |layer: IoTimeoutLayer| {
        let stack = ServiceBuilder::new().layer(layer);
        stack.service_fn(move |mut connection: Connection<_>| async move {
            let silence = timeout(DAY, read(&mut connection)).await;
            let full = timeout(DAY, connection.write_all(&[0; 9])).await;
            io::Result::Ok((silence.is_err(), full.is_err()))
        })
    };
    let both = IoTimeoutLayer::new()
        .without_read_timeout()
        .with_write_timeout(None);
    for (layer, expected) in [
        (IoTimeoutLayer::new().without_read_timeout(), (true, false)),
        (
            IoTimeoutLayer::new().with_write_timeout(None),
            (false, true),
        ),
        (both, (true, true)),
    ] {
        let (ours, _theirs) = duplex(8);
        let waited = stack(layer).oneshot(Connection::accept(ours)).await;
        assert_eq!(waited.unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn operations_that_are_ready_create_no_timer() {
    WATCHED.set(0);
    let mut io = slow(Duration::ZERO);
    for _ in 0..1000 {
        read(&mut io).await.unwrap();
        io.write_all(b"ab").await.unwrap();
        io.flush().await.unwrap();
    }
    assert_eq!(io.read.timer_deadline(), None);
    assert_eq!(io.write.timer_deadline(), None);
    assert_eq!(WATCHED.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_direction_that_is_switched_off_creates_no_timer() {
    let mut io = slow(MOMENT).without_read_timeout();
    read(&mut io).await.unwrap();
    assert_eq!(io.read.timer_deadline(), None);
}

#[tokio::test(start_paused = true)]
async fn one_registration_serves_all_operations_of_a_quarter() {
    WATCHED.set(0);
    let mut io = slow(Duration::from_millis(10));
    let deadline = Instant::now() + BOUND / 4;
    for _ in 0..224 {
        read(&mut io).await.unwrap();
        assert_eq!(io.read.timer_deadline(), Some(deadline));
    }
    assert_eq!(WATCHED.get(), 1);
    for _ in 0..10 {
        read(&mut io).await.unwrap();
    }
    assert_eq!(WATCHED.get(), 2);
    let later = io.read.timer_deadline().unwrap();
    assert!(later > deadline && later <= deadline + BOUND / 4);
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_fires_early_is_set_to_what_remains() {
    let (mut io, mut peer) = in_memory();
    let mut first = task::spawn(());
    let start = Instant::now();
    assert_pending!(first.enter(|cx, _| poll_read(&mut io, cx)));
    sleep(Duration::from_secs(5)).await;
    peer.write_all(b"x").await.unwrap();
    assert!(assert_ready!(first.enter(|cx, _| poll_read(&mut io, cx))).is_ok());
    assert_eq!(io.read.timer_deadline(), Some(start + BOUND / 4));
    let (late, took) = timed(read(&mut io)).await;
    assert_elapsed(late, TimeoutPhase::READ, BOUND);
    assert_eq!(took, BOUND);
}

#[tokio::test(start_paused = true)]
async fn halves_in_two_tasks_time_out_each_by_its_own_bound() {
    let (ours, _theirs) = duplex(8);
    let io = bounded(ours).with_read_timeout(BOUND / 3);
    let (mut read_half, mut write_half) = split(io);
    let reading = tokio::spawn(async move { timed(read(&mut read_half)).await });
    let writing = tokio::spawn(async move { timed(write_half.write_all(&[0; 9])).await });
    let (silence, after) = reading.await.unwrap();
    assert_elapsed(silence, TimeoutPhase::READ, BOUND / 3);
    assert_eq!(after, BOUND / 3);
    let (full, after) = writing.await.unwrap();
    assert_elapsed(full, TimeoutPhase::WRITE, BOUND);
    assert_eq!(after, BOUND);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_moves_to_another_task_is_woken_there() {
    let (mut io, _silent) = in_memory();
    assert_pending!(task::spawn(read(&mut io)).poll());
    sleep(BOUND / 3).await;
    let moved = tokio::spawn(async move { timed(read(&mut io)).await });
    let (late, took) = moved.await.unwrap();
    assert_elapsed(late, TimeoutPhase::READ, BOUND);
    assert_eq!(took, BOUND - BOUND / 3);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_moves_back_is_woken_where_it_was_at_first() {
    let (mut io, _silent) = in_memory();
    let (late, took) = timed(async {
        poll_fn(|cx| {
            assert_pending!(poll_read(&mut io, cx));
            Poll::Ready(())
        })
        .await;
        task::spawn(()).enter(|cx, _| assert_pending!(poll_read(&mut io, cx)));
        read(&mut io).await
    })
    .await;
    assert_elapsed(late, TimeoutPhase::READ, BOUND);
    assert_eq!(took, BOUND);
}

#[tokio::test(start_paused = true)]
async fn after_a_timeout_a_new_wait_begins_and_nothing_is_lost() {
    let (mut io, mut peer) = in_memory();
    assert_elapsed(read(&mut io).await, TimeoutPhase::READ, BOUND);
    let (late, took) = timed(read(&mut io)).await;
    assert_elapsed(late, TimeoutPhase::READ, BOUND);
    assert_eq!(took, BOUND);

    assert_elapsed(io.write_all(&[0; 9]).await, TimeoutPhase::WRITE, BOUND);
    peer.write_all(b"late").await.unwrap();
    let mut received = [0; 4];
    io.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"late");
    peer.read_exact(&mut [0; 8]).await.unwrap();
    io.write_all(b"on it").await.unwrap();
    peer.read_exact(&mut [0; 5]).await.unwrap();
}

/// A pending write, on a stream whose flush is always ready, like TCP.
#[tokio::test(start_paused = true)]
async fn a_flush_with_nothing_to_do_does_not_excuse_a_write_that_waits() {
    let (mut io, _theirs) = in_memory();
    io.write_all(&[0; 8]).await.unwrap();
    let (late, took) = timed(async {
        loop {
            tokio::select! {
                result = io.write_all(b"x") => break result,
                () = sleep(Duration::from_secs(2)) => io.flush().await?,
            }
        }
    })
    .await;
    assert_elapsed(late, TimeoutPhase::WRITE, BOUND);
    assert_eq!(took, BOUND);
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_waited_ends_the_wait() {
    let mut io = slow(BOUND - MOMENT);
    io.flush().await.unwrap();
    io.flush().await.unwrap();
    io.shutdown().await.unwrap();
    io.write_all(b"x").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_waited_ends_the_wait_of_a_dropped_write_too() {
    let mut io = slow(BOUND - MOMENT);
    assert_pending!(task::spawn(io.write(b"x")).poll());
    io.flush().await.unwrap();
    assert_eq!(io.write(b"x").await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_without_budget_tries_again_and_is_woken_at_the_deadline() {
    // The peer is silent, whatever budget the task has.
    let mut io = bounded(Peer::new().io());
    poll_fn(|cx| {
        while coop::has_budget_remaining() {
            let _ = pin!(coop::consume_budget()).poll(cx);
        }
        let mut waiting = task::spawn(read(&mut io));
        assert_pending!(waiting.poll());
        assert!(waiting.is_woken());
        Poll::Ready(())
    })
    .await;
    tokio::task::yield_now().await;
    let (late, took) = timed(read(&mut io)).await;
    assert_elapsed(late, TimeoutPhase::READ, BOUND);
    assert_eq!(took, BOUND);
}

/// The bytes may have arrived, but the stream checks for them only with coop budget.
#[tokio::test(start_paused = true)]
async fn a_task_without_budget_does_not_time_out() {
    let (mut io, mut peer) = in_memory();
    assert_pending!(task::spawn(read(&mut io)).poll());
    advance(BOUND).await;
    peer.write_all(b"x").await.unwrap();
    poll_fn(|cx| {
        while coop::has_budget_remaining() {
            let _ = pin!(coop::consume_budget()).poll(cx);
        }
        assert_pending!(task::spawn(read(&mut io)).poll());
        Poll::Ready(())
    })
    .await;
    tokio::task::yield_now().await;
    assert_eq!(read(&mut io).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_bound_of_zero_fails_what_is_not_ready_at_once() {
    let (ours, mut theirs) = duplex(8);
    let mut io = TimeoutIo::new(ours).with_read_timeout(Duration::ZERO);
    for _ in 0..2 {
        let (late, took) = timed(read(&mut io)).await;
        assert_elapsed(late, TimeoutPhase::READ, Duration::ZERO);
        assert_eq!(took, Duration::ZERO);
        sleep(BOUND).await;
    }
    theirs.write_all(b"x").await.unwrap();
    assert_eq!(read(&mut io).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn huge_bounds_do_not_panic() {
    for bound in [Duration::MAX, DAY * 365_000, DAY * 365 * 30] {
        let (ours, mut theirs) = duplex(8);
        let mut io = TimeoutIo::new(ours).with_read_timeout(bound);
        assert!(timeout(BOUND, read(&mut io)).await.is_err());
        theirs.write_all(b"x").await.unwrap();
        assert_eq!(read(&mut io).await.unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tcp_peer_that_does_nothing_is_cut_both_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (_idle, accepted) = tokio::join!(client, listener.accept());
    let mut io = bounded(accepted.unwrap().0);
    let (silence, _) = timed(read(&mut io)).await;
    assert_elapsed(silence, TimeoutPhase::READ, BOUND);
    let (full, _) = timed(async {
        let chunk = vec![0; 1 << 16];
        loop {
            match io.write(&chunk).await {
                Ok(_) => {}
                full => break full,
            }
        }
    })
    .await;
    assert_elapsed(full, TimeoutPhase::WRITE, BOUND);
}

#[tokio::test(start_paused = true)]
async fn the_wrapper_is_transparent() {
    assert_transparent(bounded);
    assert_transparent(|io| {
        TimeoutIo::new(io)
            .without_read_timeout()
            .with_write_timeout(None)
    });
}

#[test]
fn the_wrapper_is_small() {
    assert!(size_of::<TimeoutIo<()>>() <= 80);
}
