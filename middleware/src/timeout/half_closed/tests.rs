use super::*;
use crate::{
    Connection,
    connection::Socket,
    error::{Elapsed, TimeoutPhase, find},
    outcome::Outcome,
    testing::assert_transparent,
};
use std::{
    error::Error,
    future::pending,
    io::{self, IoSlice},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy, copy_bidirectional, duplex, split},
    sync::oneshot,
    time::{Instant, advance, sleep, timeout},
};
use tower::{BoxError, ServiceBuilder, ServiceExt};

static_assertions::assert_impl_all!(HalfClosedTimeoutIo<DuplexStream>: Send, Sync, Unpin);

const LIMIT: Duration = Duration::from_secs(7);
const MOMENT: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);

type Limited = Connection<HalfClosedTimeoutIo<Socket<DuplexStream>>>;

/// Runs `handler` within the layer; returns its result and duration.
async fn serve<T>(
    ours: DuplexStream,
    handler: impl AsyncFnOnce(Limited) -> T,
) -> (Result<T, BoxError>, Duration) {
    let mut handler = Some(handler);
    let layer = HalfClosedTimeoutLayer::new().with_timeout(LIMIT);
    let stack = ServiceBuilder::new().layer(layer).service_fn(|connection| {
        let handler = handler.take().unwrap();
        async move { io::Result::Ok(handler(connection).await) }
    });
    let begun = Instant::now();
    let served = timeout(DAY * 9, stack.oneshot(Connection::accept(ours))).await;
    (served.expect("ends some day"), begun.elapsed())
}

/// A pipe whose other side has half-closed.
async fn half_closed() -> (DuplexStream, DuplexStream) {
    let (ours, mut theirs) = duplex(8);
    theirs.shutdown().await.unwrap();
    (ours, theirs)
}

#[track_caller]
fn assert_elapsed(error: &(dyn Error + 'static), after: Duration) {
    let expected = Elapsed::new(TimeoutPhase::HALF_CLOSED, after);
    assert_eq!(find(error), Some(&expected), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_client_that_ended_its_side_does_not_stay_with_a_silent_server() {
    let (ours, _client) = half_closed().await;
    let (mut upstream, mut server) = duplex(8);
    let (served, took) = serve(ours, async |mut connection| {
        copy_bidirectional(&mut connection, &mut upstream).await
    })
    .await;
    assert_elapsed(&*served.unwrap_err(), LIMIT);
    assert_eq!(took, LIMIT);
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn each_byte_starts_the_time_anew() {
    let (ours, mut client) = half_closed().await;
    let (mut upstream, mut server) = duplex(8);
    let says = tokio::spawn(async move {
        for _ in 0..5 {
            sleep(LIMIT - MOMENT).await;
            server.write_all(b"x").await.unwrap();
        }
        pending::<()>().await;
    });
    let (served, took) = serve(ours, async |mut connection| {
        copy_bidirectional(&mut connection, &mut upstream).await
    })
    .await;
    assert_elapsed(&*served.unwrap_err(), LIMIT);
    assert_eq!(took, (LIMIT - MOMENT) * 5 + LIMIT);
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"xxxxx");
    says.abort();
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_stays_silent_after_our_end_fails_the_read() {
    let (ours, _silent) = duplex(8);
    let mut io = HalfClosedTimeoutIo::new(ours).with_timeout(LIMIT);
    sleep(DAY).await;
    io.shutdown().await.unwrap();
    let begun = Instant::now();
    let error = timeout(DAY, io.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_elapsed(&error, LIMIT);
    assert_eq!(begun.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_waits_sees_its_error_in_the_service() {
    let (ours, _reads_nothing) = half_closed().await;
    let (served, took) = serve(ours, async |mut connection| {
        assert_eq!(connection.read(&mut [0]).await.unwrap(), 0);
        sleep(LIMIT / 2).await;
        connection.write_all(&[0; 9]).await.unwrap_err()
    })
    .await;
    assert_elapsed(&served.unwrap(), LIMIT);
    assert_eq!(took, LIMIT / 2 + LIMIT, "eight bytes went into the pipe");
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_write_counts_and_waits() {
    for vectored in [false, true] {
        let (ours, mut peer) = half_closed().await;
        let mut io = HalfClosedTimeoutIo::new(ours).with_timeout(LIMIT);
        assert_eq!(io.read(&mut [0]).await.unwrap(), 0);
        for _ in 0..3 {
            sleep(LIMIT - MOMENT).await;
            let bytes = [0; 8];
            let written = match vectored {
                true => io.write_vectored(&[IoSlice::new(&bytes)]).await,
                false => io.write(&bytes).await,
            };
            assert_eq!(written.unwrap(), 8);
            peer.read_exact(&mut [0; 8]).await.unwrap();
        }
        io.write_all(&[0; 8]).await.unwrap();
        let begun = Instant::now();
        let error = io.write_all(b"x").await.unwrap_err();
        assert_elapsed(&error, LIMIT);
        assert_eq!(begun.elapsed(), LIMIT);
    }
}

#[tokio::test(start_paused = true)]
async fn there_is_no_limit_while_both_directions_are_open() {
    let (ours, mut client) = duplex(8);
    let wakes = tokio::spawn(async move {
        sleep(DAY).await;
        client.write_all(b"x").await.unwrap();
        client
    });
    let (served, _) = serve(ours, async |mut connection| {
        let byte = connection.read_u8().await.unwrap();
        assert!(timeout(DAY, connection.write_all(&[0; 9])).await.is_err());
        byte
    })
    .await;
    assert_eq!(served.unwrap(), b'x');
    drop(wakes);
}

#[tokio::test(start_paused = true)]
async fn there_is_no_limit_after_both_directions_have_ended_or_the_connection_is_gone() {
    for dropped in [false, true] {
        let (ours, _client) = half_closed().await;
        let (served, took) = serve(ours, async move |mut connection| {
            assert_eq!(connection.read(&mut [0]).await.unwrap(), 0);
            sleep(LIMIT - MOMENT).await;
            if dropped {
                drop(connection);
                return sleep(DAY).await;
            }
            connection.shutdown().await.unwrap();
            sleep(DAY).await;
        })
        .await;
        served.unwrap();
        assert_eq!(took, DAY + LIMIT - MOMENT);
    }
}

#[tokio::test(start_paused = true)]
async fn halves_in_two_tasks_fail_however_they_were_waiting() {
    // The read waits first, and our end comes from the other task.
    let (ours, _silent) = duplex(8);
    let (mut reads, mut writes) = split(HalfClosedTimeoutIo::new(ours).with_timeout(LIMIT));
    let reading = tokio::spawn(async move { reads.read_u8().await });
    sleep(LIMIT * 3).await;
    let begun = Instant::now();
    writes.shutdown().await.unwrap();
    let error = timeout(DAY, reading).await.unwrap().unwrap().unwrap_err();
    assert_elapsed(&error, LIMIT);
    assert_eq!(begun.elapsed(), LIMIT);

    // The write waits first, and the peer's end is read in the other task.
    let (ours, mut peer) = duplex(8);
    let (mut reads, mut writes) = split(HalfClosedTimeoutIo::new(ours).with_timeout(LIMIT));
    let writing = tokio::spawn(async move { writes.write_all(&[0; 9]).await });
    sleep(LIMIT * 3).await;
    let begun = Instant::now();
    peer.shutdown().await.unwrap();
    assert_eq!(reads.read(&mut [0]).await.unwrap(), 0);
    let error = timeout(DAY, writing).await.unwrap().unwrap().unwrap_err();
    assert_elapsed(&error, LIMIT);
    assert_eq!(begun.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_copies_in_two_tasks_is_ended_too() {
    let (ours, _client) = half_closed().await;
    let (upstream, mut server) = duplex(8);
    let (served, took) = serve(ours, async |connection| {
        let (mut from_client, mut to_client) = split(connection);
        let (mut from_server, mut to_server) = split(upstream);
        let up = tokio::spawn(async move {
            copy(&mut from_client, &mut to_server).await?;
            to_server.shutdown().await
        });
        let down = copy(&mut from_server, &mut to_client);
        let (up, down) = tokio::join!(up, down);
        up.unwrap().and(down)
    })
    .await;
    assert_elapsed(&*served.unwrap_err(), LIMIT);
    assert_eq!(took, LIMIT);
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_handed_off_keeps_its_limit() {
    let (ours, _client) = half_closed().await;
    let (give, take) = oneshot::channel();
    let (served, _) = serve(ours, async move |connection| {
        give.send(connection).ok().unwrap();
    })
    .await;
    served.unwrap();
    let mut connection: Limited = take.await.unwrap();
    assert_eq!(connection.read(&mut [0]).await.unwrap(), 0);
    let error = connection.write_all(&[0; 9]).await.unwrap_err();
    assert_elapsed(&error, LIMIT);
}

#[tokio::test(start_paused = true)]
async fn what_is_ready_at_the_limit_wins() {
    let (ours, mut peer) = duplex(8);
    let mut io = HalfClosedTimeoutIo::new(ours).with_timeout(LIMIT);
    io.shutdown().await.unwrap();
    peer.write_all(b"x").await.unwrap();
    advance(LIMIT * 2).await;
    assert_eq!(io.read_u8().await.unwrap(), b'x');
    let begun = Instant::now();
    assert_elapsed(&io.read_u8().await.unwrap_err(), LIMIT);
    assert_eq!(begun.elapsed(), LIMIT, "the byte started the time anew");
}

#[tokio::test(start_paused = true)]
async fn a_read_into_no_room_is_no_end() {
    let (ours, _silent) = duplex(8);
    let mut io = HalfClosedTimeoutIo::new(ours).with_timeout(LIMIT);
    assert_eq!(io.read(&mut []).await.unwrap(), 0);
    assert!(timeout(DAY, io.read_u8()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_longest_timeout_is_no_panic() {
    let (ours, _client) = half_closed().await;
    let mut io = HalfClosedTimeoutIo::new(ours).with_timeout(Duration::MAX);
    assert_eq!(io.read(&mut [0]).await.unwrap(), 0);
    assert!(timeout(DAY, io.write_all(&[0; 9])).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_default_is_a_minute_and_the_outcome_names_the_phase() {
    let (ours, _client) = half_closed().await;
    let stack = ServiceBuilder::new().layer(HalfClosedTimeoutLayer::default());
    let stack = stack.service_fn(|mut connection: Connection<_>| async move {
        connection.read_u8().await.unwrap_err();
        pending::<io::Result<()>>().await
    });
    let begun = Instant::now();
    let connection = Connection::accept(ours);
    let info = connection.info().clone();
    let error = stack.oneshot(connection).await.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::from_secs(60));
    assert_eq!(
        error.to_string(),
        "half closed connection timed out after 60s"
    );
    let outcome = Outcome::of(&info, Some(&*error));
    assert_eq!(outcome, Outcome::TimedOut(TimeoutPhase::HALF_CLOSED));
}

#[tokio::test(start_paused = true)]
async fn the_wrapper_is_transparent() {
    assert_transparent(HalfClosedTimeoutIo::new);
}

#[test]
fn a_waker_may_poll_the_layers_future_at_once() {
    use std::{
        sync::{Arc, mpsc},
        task::{Wake, Waker},
        thread,
    };

    struct Eager(Arc<state::HalfClosedState>);
    impl Wake for Eager {
        fn wake(self: Arc<Self>) {
            self.0.set_task(Waker::noop());
        }
    }

    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        let state = Arc::new(state::HalfClosedState::new(LIMIT));
        state.set_task(&Waker::from(Arc::new(Eager(state.clone()))));
        state.half_close();
        done.send(()).unwrap();
    });
    assert!(is_done.recv_timeout(Duration::from_secs(10)).is_ok());
}
