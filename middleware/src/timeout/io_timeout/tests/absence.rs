//! Handlers that drop a read and return to it, and late tasks.

use super::*;
use std::future::ready;
use tokio::{
    join,
    task::yield_now,
    time::{MissedTickBehavior, interval},
};

type Served = Connection<TimeoutIo<crate::connection::Socket<DuplexStream>>>;

/// Runs `handler` within the layer, with a silent client.
async fn serve<T>(handler: impl AsyncFnOnce(Served) -> T) -> T {
    let (ours, _silent) = duplex(8);
    serve_on(ours, handler).await
}

async fn serve_on<T>(ours: DuplexStream, handler: impl AsyncFnOnce(Served) -> T) -> T {
    let layer = IoTimeoutLayer::new()
        .with_read_timeout(BOUND)
        .with_write_timeout(BOUND);
    let mut handler = Some(handler);
    let stack = ServiceBuilder::new().layer(layer).service_fn(|connection| {
        let handler = handler.take().unwrap();
        async move { io::Result::Ok(handler(connection).await) }
    });
    stack.oneshot(Connection::accept(ours)).await.unwrap()
}

/// Polls a read once.
async fn give_up(io: &mut (impl AsyncRead + Unpin)) {
    tokio::select! {
        biased;
        _ = read(io) => unreachable!("the peer is silent"),
        () = ready(()) => {}
    }
}

/// Blocks the thread, in paused time.
async fn block(time: Duration) {
    poll_fn(|cx| {
        let _ = pin!(advance(time)).poll(cx);
        Poll::Ready(())
    })
    .await;
}

/// How long a read after `away` waits for a silent peer.
async fn left_after(away: Duration) -> Duration {
    serve(async |mut connection| {
        give_up(&mut connection).await;
        sleep(away).await;
        let (late, took) = timed(read(&mut connection)).await;
        assert_elapsed(late, TimeoutPhase::READ, BOUND);
        took
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_read_that_was_given_up_has_the_whole_bound_after_any_absence() {
    // 90 %, 100 %, 110 %, 120 % and a little more of the timeout, and much more.
    let away = [8100, 9000, 9900, 10_801, 100_000].map(Duration::from_millis);
    for away in away {
        assert_eq!(left_after(away).await, BOUND, "{away:?} away");
    }
}

#[tokio::test(start_paused = true)]
async fn an_absence_costs_less_than_a_quarter_of_the_bound() {
    for away in (0..30).map(|tenths| BOUND * tenths / 10) {
        let left = left_after(away).await;
        let counted = if away < BOUND / 4 {
            away
        } else {
            Duration::ZERO
        };
        assert_eq!(left, BOUND - counted, "{away:?} away");
    }
}

#[tokio::test(start_paused = true)]
async fn absences_add_up_to_nothing() {
    serve(async |mut connection| {
        for away in 0..50 {
            give_up(&mut connection).await;
            sleep(BOUND * (90 + away) / 100).await;
        }
        let (late, took) = timed(read(&mut connection)).await;
        assert_elapsed(late, TimeoutPhase::READ, BOUND);
        assert_eq!(took, BOUND);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_was_waited_for_counts_after_an_absence_too() {
    serve(async |mut connection| {
        let waited = timeout(BOUND / 2, read(&mut connection)).await;
        assert!(waited.is_err());
        sleep(BOUND * 3).await;
        let (late, took) = timed(read(&mut connection)).await;
        assert_elapsed(late, TimeoutPhase::READ, BOUND);
        assert_eq!(took, BOUND / 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_given_up_has_its_bound_too() {
    serve(async |mut connection| {
        connection.write_all(&[0; 8]).await.unwrap();
        tokio::select! {
            biased;
            _ = connection.write_all(b"x") => unreachable!("the pipe is full"),
            () = ready(()) => {}
        }
        sleep(BOUND + MOMENT).await;
        let (late, took) = timed(connection.write_all(b"x")).await;
        assert_elapsed(late, TimeoutPhase::WRITE, BOUND);
        assert_eq!(took, BOUND);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_blocks_its_thread_is_away() {
    serve(async |mut connection| {
        give_up(&mut connection).await;
        block(BOUND * 2).await;
        let (late, took) = timed(read(&mut connection)).await;
        assert_elapsed(late, TimeoutPhase::READ, BOUND);
        assert_eq!(took, BOUND);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn ticks_that_drop_a_read_do_not_prolong_the_wait() {
    async fn tick(io: &mut (impl AsyncRead + Unpin), every: Duration) {
        let (late, took) = timed(async {
            loop {
                tokio::select! {
                    biased;
                    () = sleep(every) => {}
                    result = read(io) => break result,
                }
            }
        })
        .await;
        assert_elapsed(late, TimeoutPhase::READ, BOUND);
        assert_eq!(took, BOUND);
    }
    for every in [10, 2000, 2250, 4500, 7000].map(Duration::from_millis) {
        serve(async |mut connection| tick(&mut connection, every).await).await;
        let (mut alone, _silent) = in_memory();
        tick(&mut alone, every).await;
    }
}

/// The work at each tick takes time, in which the read is not polled.
#[tokio::test(start_paused = true)]
async fn ticks_that_do_something_do_not_keep_a_silent_peer() {
    // Also in step with the timer, which fires at each quarter.
    for every in [100, 250, 700, 1125, 2000, 2250, 4500].map(Duration::from_millis) {
        let (late, took) = serve(async |mut connection| {
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            timed(async {
                loop {
                    tokio::select! {
                        biased;
                        _ = ticks.tick() => sleep(MOMENT * 7).await,
                        result = read(&mut connection) => break result,
                    }
                }
            })
            .await
        })
        .await;
        assert_elapsed(late, TimeoutPhase::READ, BOUND);
        assert!(took <= BOUND * 2, "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_was_watched_fails_however_late_its_task_is() {
    for late in [0, 1, 101, 228, 5000, 1_000_000].map(Duration::from_millis) {
        let begun = Instant::now();
        let reading = async |mut connection: Served| read(&mut connection).await;
        let (end, ()) = join!(serve(reading), advance(BOUND + late));
        assert_elapsed(end, TimeoutPhase::READ, BOUND);
        assert_eq!(begun.elapsed(), BOUND + late);

        let (mut alone, _silent) = in_memory();
        let mut reading = task::spawn(read(&mut alone));
        assert_pending!(reading.poll());
        advance(BOUND + late).await;
        assert_elapsed(assert_ready!(reading.poll()), TimeoutPhase::READ, BOUND);
    }
}

/// Another task that blocks the thread repeatedly.
#[tokio::test(start_paused = true)]
async fn a_peer_is_cut_at_its_bound_on_a_machine_that_is_always_late() {
    let lag = BOUND / 5;
    let blocks = tokio::spawn(async move {
        for _ in 0..100 {
            block(lag).await;
            yield_now().await;
        }
    });
    let reading = async |mut connection: Served| timed(read(&mut connection)).await;
    let (end, took) = serve(reading).await;
    assert_elapsed(end, TimeoutPhase::READ, BOUND);
    assert!(took <= BOUND + lag * 2, "{took:?}");

    let (mut alone, _silent) = in_memory();
    let (end, took) = timed(read(&mut alone)).await;
    assert_elapsed(end, TimeoutPhase::READ, BOUND);
    assert!(took <= BOUND + lag * 2, "{took:?}");
    blocks.abort();
}

#[tokio::test(start_paused = true)]
async fn without_the_layer_a_read_after_a_long_absence_has_the_whole_bound() {
    for away in [8100, 9000, 9900, 10_801, 100_000].map(Duration::from_millis) {
        let (mut io, mut peer) = in_memory();
        give_up(&mut io).await;
        sleep(away).await;
        let (late, took) = timed(read(&mut io)).await;
        assert_elapsed(late, TimeoutPhase::READ, BOUND);
        assert_eq!(took, BOUND, "{away:?} away");

        // And again, once something was read.
        peer.write_all(b"x").await.unwrap();
        read(&mut io).await.unwrap();
        give_up(&mut io).await;
        sleep(away).await;
        assert_eq!(timed(read(&mut io)).await.1, BOUND);
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_layer_polls_that_always_come_too_late_prolong_a_wait_once() {
    let (mut io, _silent) = in_memory();
    for _ in 0..2 {
        assert_pending!(task::spawn(read(&mut io)).poll());
        sleep(BOUND + MOMENT).await;
    }
    let (end, took) = timed(read(&mut io)).await;
    assert_elapsed(end, TimeoutPhase::READ, BOUND);
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_connection_within_the_handler_of_another_is_watched_as_well() {
    serve(async |mut outer| {
        serve(async |mut inner| {
            give_up(&mut outer).await;
            give_up(&mut inner).await;
            sleep(BOUND + MOMENT).await;
            assert_eq!(timed(read(&mut outer)).await.1, BOUND);
            assert_eq!(timed(read(&mut inner)).await.1, BOUND);
        })
        .await;
        give_up(&mut outer).await;
        sleep(BOUND * 2).await;
        assert_eq!(timed(read(&mut outer)).await.1, BOUND);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn data_that_came_during_an_absence_is_read() {
    let (ours, mut theirs) = duplex(8);
    serve_on(ours, async move |mut connection: Served| {
        give_up(&mut connection).await;
        theirs.write_all(b"x").await.unwrap();
        sleep(BOUND * 2).await;
        assert_eq!(read(&mut connection).await.unwrap(), 1);
        assert_eq!(timed(read(&mut connection)).await.1, BOUND);
        drop(theirs);
    })
    .await;
}
