use super::*;
use crate::{
    Connection, ConnectionInfo,
    connection::{Address, ForcedClose, ListenerInfo, Socket},
    drain::{DrainStage, DrainTrigger},
    error::{Elapsed, TimeoutPhase, find},
    handler::OnErrorLayer,
    internal::{begin_watch, end_watch, expire},
    observe::trace::tests::log::Log,
};
use std::{
    future::{pending, ready},
    io,
    sync::Arc,
    task::{Context, Wake, Waker},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, advance, sleep, timeout},
};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{BoxError, Layer, Service, ServiceBuilder, service_fn};
use tracing::Level;

type Conn = Connection<Socket<DuplexStream>>;

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(1);

/// Serves a connection by echoing, and returns how the call ended and after what time.
async fn served(
    layer: ConnectionTimeoutLayer,
    client: impl AsyncFnOnce(&mut DuplexStream),
) -> (Result<(), BoxError>, Duration) {
    let mut stack = ServiceBuilder::new().layer(layer).service_fn(echo);
    let (ours, mut theirs) = duplex(64);
    let begun = Instant::now();
    let call = stack.call(Connection::accept(ours));
    let call = async { (call.await, begun.elapsed()) };
    // The client keeps its side open after it is done.
    let (ended, _client) = tokio::join!(call, async {
        client(&mut theirs).await;
        theirs
    });
    ended
}

async fn echo(mut connection: Connection<Socket<DuplexStream>>) -> Result<(), BoxError> {
    let mut byte = [0];
    while connection.read(&mut byte).await? > 0 {
        connection.write_all(&byte).await?;
    }
    Ok(())
}

/// Exchanges one byte.
async fn exchange(client: &mut DuplexStream) {
    client.write_all(b"x").await.unwrap();
    client.read_u8().await.unwrap();
}

#[track_caller]
fn assert_elapsed(result: Result<(), BoxError>, phase: TimeoutPhase, limit: Duration) {
    let error = result.expect_err("should have timed out");
    assert_eq!(find(&*error), Some(&Elapsed::new(phase, limit)));
}

#[tokio::test(start_paused = true)]
async fn without_limits_a_silent_connection_stays_open() {
    let silent = served(ConnectionTimeoutLayer::new(), async |_| {});
    assert!(timeout(SECOND * 86_400, silent).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_ends_at_the_first_byte_timeout() {
    let layer = ConnectionTimeoutLayer::new().with_first_byte_timeout(SECOND * 10);
    let (result, took) = served(layer.clone(), async |_| {}).await;
    assert_elapsed(result, TimeoutPhase::FIRST_BYTE, SECOND * 10);
    assert_eq!(took, SECOND * 10);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_a_byte_in_time_may_be_silent_from_then_on() {
    let layer = ConnectionTimeoutLayer::new().with_first_byte_timeout(SECOND * 10);
    let talks = served(layer.clone(), async |client| {
        sleep(SECOND * 10 - MOMENT).await;
        exchange(client).await;
    });
    assert!(timeout(SECOND * 86_400, talks).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_after_the_timeout_and_at_most_a_quarter_more() {
    let layer = ConnectionTimeoutLayer::new().with_idle_timeout(SECOND * 8);
    let (result, took) = served(layer.clone(), async |_| {}).await;
    assert_elapsed(result, TimeoutPhase::IDLE, SECOND * 8);
    assert_eq!(took, SECOND * 8);

    let last = SECOND * 30 + SECOND / 2;
    let (result, took) = served(layer.clone(), async |client| {
        exchange(client).await;
        sleep(last).await;
    })
    .await;
    assert_elapsed(result, TimeoutPhase::IDLE, SECOND * 8);
    assert!((SECOND * 8..=SECOND * 10).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_a_byte_per_timeout_stays_open() {
    let layer = ConnectionTimeoutLayer::new().with_idle_timeout(SECOND * 8);
    let (result, took) = served(layer.clone(), async |client| {
        for _ in 0..100 {
            sleep(SECOND * 8 - MOMENT).await;
            exchange(client).await;
        }
    })
    .await;
    assert_elapsed(result, TimeoutPhase::IDLE, SECOND * 8);
    assert!(took > SECOND * 799, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_busy_connection_ends_at_its_lifetime() {
    let layer = ConnectionTimeoutLayer::new().with_max_lifetime(SECOND * 60);
    let mut stack = ServiceBuilder::new().layer(layer).service_fn(echo);
    let (ours, mut client) = duplex(64);
    let begun = Instant::now();
    let call = tokio::spawn(stack.call(Connection::accept(ours)));
    while client.write_all(b"x").await.is_ok() && client.read_u8().await.is_ok() {
        sleep(SECOND / 10).await;
    }
    // The client notices with its next byte.
    assert_eq!(begun.elapsed(), SECOND * 60 + SECOND / 10);
    assert_elapsed(call.await.unwrap(), TimeoutPhase::LIFETIME, SECOND * 60);
}

#[tokio::test(start_paused = true)]
async fn the_jitter_spreads_the_ends_of_connections() {
    let layer = ConnectionTimeoutLayer::new()
        .with_max_lifetime(SECOND * 60)
        .with_lifetime_jitter(SECOND * 30);
    let mut ends = Vec::new();
    for _ in 0..50 {
        let (result, took) = served(layer.clone(), async |_| {}).await;
        assert_elapsed(result, TimeoutPhase::LIFETIME, SECOND * 60);
        assert!(
            (SECOND * 60..=SECOND * 90 + MOMENT).contains(&took),
            "{took:?}"
        );
        ends.push(took);
    }
    let (first, last) = (ends.iter().min().unwrap(), ends.iter().max().unwrap());
    assert!(*last - *first > SECOND * 10);
}

#[tokio::test(start_paused = true)]
async fn a_connection_below_its_least_throughput_ends_with_the_window() {
    // Ten bytes are five in each direction.
    let layer = ConnectionTimeoutLayer::new().with_min_throughput(10, SECOND * 5);
    for (per_second, ends) in [(1, false), (0, true)] {
        let begun = Instant::now();
        let slow = served(layer.clone(), async |client| {
            for _ in 0..20 {
                for _ in 0..per_second {
                    exchange(client).await;
                }
                sleep(SECOND).await;
            }
        });
        let (result, took) = slow.await;
        assert_elapsed(result, TimeoutPhase::THROUGHPUT, SECOND * 5);
        assert_eq!(took == SECOND * 5, ends, "{took:?}");
        assert!(begun.elapsed() >= took);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_completes_at_its_timeout_has_completed() {
    let layer = ConnectionTimeoutLayer::new().with_max_lifetime(SECOND);
    let mut stack = ServiceBuilder::new().layer(layer).service_fn(
        async |_: Connection<Socket<DuplexStream>>| {
            sleep(SECOND).await;
            Ok::<_, BoxError>(())
        },
    );
    let (ours, _theirs) = duplex(64);
    stack.call(Connection::accept(ours)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_connection_is_closed_before_the_error_is_seen() {
    let layer = ConnectionTimeoutLayer::new().with_first_byte_timeout(SECOND);
    let mut stack = ServiceBuilder::new().layer(layer).service_fn(echo);
    let (ours, mut client) = duplex(64);
    let mut call = std::pin::pin!(stack.call(Connection::accept(ours)));
    assert!((&mut call).await.is_err());
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn huge_and_empty_limits_do_not_panic() {
    let layer = ConnectionTimeoutLayer::new()
        .with_first_byte_timeout(Duration::MAX)
        .with_idle_timeout(Duration::MAX)
        .with_max_lifetime(Duration::MAX)
        .with_lifetime_jitter(SECOND)
        .with_min_throughput(1, Duration::MAX);
    let silent = served(layer.clone(), async |_| {});
    assert!(timeout(SECOND, silent).await.is_err());
    let layer = ConnectionTimeoutLayer::new().with_idle_timeout(Duration::ZERO);
    let (result, _) = served(layer.clone(), async |_| {}).await;
    assert_elapsed(result, TimeoutPhase::IDLE, Duration::ZERO);
}

#[test]
#[should_panic(expected = "a window of no time")]
fn a_window_of_no_time_panics() {
    let _ = ConnectionTimeoutLayer::new().with_min_throughput(1, Duration::ZERO);
}

#[tokio::test]
async fn a_flood_of_bytes_does_not_outlive_the_lifetime() {
    let layer = ConnectionTimeoutLayer::new().with_max_lifetime(SECOND / 5);
    let mut stack = ServiceBuilder::new().layer(layer).service_fn(
        async |_: Connection<Socket<DuplexStream>>| -> Result<(), BoxError> {
            // Each poll ends because the task has used up its budget.
            loop {
                tokio::task::coop::consume_budget().await;
            }
        },
    );
    let (ours, _theirs) = duplex(64);
    let begun = Instant::now();
    let result = stack.call(Connection::accept(ours)).await;
    assert_elapsed(result, TimeoutPhase::LIFETIME, SECOND / 5);
    assert!(begun.elapsed() < SECOND * 5);
}

#[tokio::test(start_paused = true)]
async fn each_direction_has_a_least_throughput_of_its_own() {
    let new = ConnectionTimeoutLayer::new;
    let window = SECOND * 5;
    for (layer, read, written, ends) in [
        (new().with_min_read_throughput(10, window), 10, 0, false),
        (new().with_min_read_throughput(10, window), 9, 90, true),
        (new().with_min_write_throughput(10, window), 0, 10, false),
        (new().with_min_write_throughput(10, window), 90, 9, true),
        (new().with_min_throughput(10, window), 5, 5, false),
        (new().with_min_throughput(10, window), 9, 0, true),
    ] {
        let mut stack = layer.layer(service_fn(
            move |mut connection: Connection<Socket<DuplexStream>>| async move {
                let mut input = vec![0; read];
                for _ in 0..3 {
                    connection.read_exact(&mut input).await?;
                    connection.write_all(&vec![7; written]).await?;
                    sleep(window).await;
                }
                Ok::<_, BoxError>(())
            },
        ));
        let (ours, mut client) = duplex(1 << 10);
        client.write_all(&vec![7; read * 3]).await.unwrap();
        let result = stack.call(Connection::accept(ours)).await;
        match ends {
            false => result.unwrap(),
            true => assert_elapsed(result, TimeoutPhase::THROUGHPUT, window),
        }
    }
}

/// Records when each stage is reached, and ends the service at `until`.
async fn stages(
    layer: ConnectionTimeoutLayer,
    until: DrainStage,
) -> (Vec<Duration>, Result<(), BoxError>) {
    let reached = Arc::new(std::sync::Mutex::new(Vec::new()));
    let times = reached.clone();
    let begun = Instant::now();
    let service = service_fn(move |connection: Connection<Socket<DuplexStream>>| {
        let times = times.clone();
        async move {
            let info = connection.info().clone();
            for stage in [DrainStage::Notified, DrainStage::Closing] {
                info.drain_signal().unwrap().clone().reached(stage).await;
                assert_eq!(info.drain_stage(), stage);
                times.lock().unwrap().push(begun.elapsed());
                if stage == until {
                    return Ok::<(), BoxError>(());
                }
            }
            pending().await
        }
    });
    let (ours, _client) = duplex(8);
    let result = layer.layer(service).call(Connection::accept(ours)).await;
    let times = reached.lock().unwrap().clone();
    (times, result)
}

#[tokio::test(start_paused = true)]
async fn a_grace_period_asks_the_service_to_end_before_the_timeout() {
    let layer = ConnectionTimeoutLayer::new()
        .with_max_lifetime(SECOND * 60)
        .with_lifetime_grace(SECOND * 10);
    let (times, result) = stages(layer.clone(), DrainStage::Notified).await;
    result.unwrap();
    assert_eq!(times, [SECOND * 60]);
    let (times, result) = stages(layer.clone(), DrainStage::Closing).await;
    result.unwrap();
    assert_eq!(times, [SECOND * 60, SECOND * 65]);
    // A service that ignores the signal.
    let (times, result) = stages(layer.clone(), DrainStage::Serving).await;
    assert_eq!(times, [SECOND * 60, SECOND * 65]);
    assert_elapsed(result, TimeoutPhase::LIFETIME, SECOND * 60);
    let (result, took) = served(layer.clone(), async |_| {}).await;
    assert_elapsed(result, TimeoutPhase::LIFETIME, SECOND * 60);
    assert_eq!(took, SECOND * 70);
}

#[tokio::test(start_paused = true)]
async fn an_endless_grace_period_notifies_the_service_and_cuts_nothing() {
    let layer = ConnectionTimeoutLayer::new()
        .with_max_lifetime(SECOND * 60)
        .with_lifetime_grace(Duration::MAX);
    let (times, result) = stages(layer.clone(), DrainStage::Notified).await;
    result.unwrap();
    assert_eq!(times, [SECOND * 60]);
    let silent = served(layer, async |_| {});
    assert!(timeout(SECOND * 86_400, silent).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn with_a_grace_period_the_drain_of_the_server_is_seen_as_before() {
    let (trigger, signal) = DrainTrigger::pair();
    let listener = Arc::new(ListenerInfo::new().with_drain(signal));
    let layer = ConnectionTimeoutLayer::new()
        .with_max_lifetime(SECOND * 60)
        .with_lifetime_grace(SECOND * 10);
    let mut stack = layer.layer(service_fn(
        async |connection: Connection<Socket<DuplexStream>>| {
            connection.info().drain().await;
            Ok::<_, BoxError>(connection.info().drain_stage())
        },
    ));
    let mut connection = |client: &mut Option<DuplexStream>| {
        let (ours, theirs) = duplex(8);
        *client = Some(theirs);
        let info =
            ConnectionInfo::from_listener(listener.clone(), Address::Unknown, Address::Unknown);
        (info.clone(), stack.call(Connection::with_info(ours, info)))
    };
    let (mut first, mut second) = (None, None);
    let ((ended, alone), (info, serving)) = (connection(&mut first), connection(&mut second));
    let serving = tokio::spawn(serving);
    sleep(SECOND * 59).await;
    drop(tokio::spawn(alone));
    assert!(!ended.is_draining() && !info.is_draining());
    trigger.close();
    assert_eq!(info.drain_stage(), DrainStage::Closing);
    assert_eq!(serving.await.unwrap().unwrap(), DrainStage::Closing);
}

/// A stack that hands the connection to the caller, and its client.
async fn handed_off(
    layer: &ConnectionTimeoutLayer,
) -> (Connection<Socket<DuplexStream>>, DuplexStream) {
    let hand_off = service_fn(async |connection| Ok::<_, BoxError>(connection));
    let (ours, theirs) = duplex(64);
    let connection = layer.layer(hand_off).call(Connection::accept(ours));
    (connection.await.unwrap(), theirs)
}

fn tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn limits_hold_after_the_connection_was_handed_off() {
    let new = ConnectionTimeoutLayer::new;
    for (layer, ends) in [
        (new().with_first_byte_timeout(SECOND * 8), SECOND * 8),
        (new().with_idle_timeout(SECOND * 8), SECOND * 8),
        (new().with_max_lifetime(SECOND * 8), SECOND * 8),
        (new().with_min_throughput(1, SECOND * 8), SECOND * 8),
        (
            new()
                .with_max_lifetime(SECOND * 8)
                .with_lifetime_grace(SECOND),
            SECOND * 9,
        ),
    ] {
        let log = Log::of_lines(Level::DEBUG);
        let begun = Instant::now();
        let (mut connection, _client) = handed_off(&layer).await;
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(begun.elapsed(), ends);
        let is_forced = |error: &io::Error| error.get_ref().is_some_and(|e| e.is::<ForcedClose>());
        assert!(is_forced(&error), "{error}");
        assert_eq!(log.lines().len(), 1);
        assert_eq!(tasks(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_an_error_handler_gets_back_is_not_checked_any_more() {
    for fails in [false, true] {
        let log = Log::of_lines(Level::DEBUG);
        let mut stack = ServiceBuilder::new()
            .layer(OnErrorLayer::new(async |error: BoxError, connection| {
                assert_eq!(tasks(), 0);
                let mut connection: Conn = connection.expect("the service has returned it");
                sleep(SECOND * 10).await;
                connection.write_all(b"sorry").await?;
                Err(error)
            }))
            .layer(ConnectionTimeoutLayer::new().with_max_lifetime(SECOND * 8))
            .service_fn(move |_: Connection<_>| {
                ready(match fails {
                    true => Err(BoxError::from("broken")),
                    false => Ok(()),
                })
            });
        let (ours, mut theirs) = duplex(64);
        let result = stack.call(Connection::accept(ours)).await;
        assert_eq!(result.is_err(), fails);
        assert_eq!(tasks(), 0);
        let mut received = String::new();
        theirs.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, if fails { "sorry" } else { "" });
        assert!(
            log.lines()
                .iter()
                .all(|line| !line.text.contains("handed off"))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_an_error_handler_hands_off_is_checked_by_the_timeout_around_it() {
    let handler = async |_, connection: Option<Conn>| Ok::<_, BoxError>(connection);
    let mut stack = ServiceBuilder::new()
        .layer(ConnectionTimeoutLayer::new().with_max_lifetime(SECOND * 8))
        .layer(OnErrorLayer::new(handler))
        .service_fn(|_: Connection<_>| ready(Err(BoxError::from("broken"))));
    let (ours, _theirs) = duplex(64);
    let connection = stack.call(Connection::accept(ours)).await.unwrap();
    let begun = Instant::now();
    connection.unwrap().read_u8().await.unwrap_err();
    assert_eq!(begun.elapsed(), SECOND * 8);
}

#[tokio::test(start_paused = true)]
async fn the_checks_end_with_a_connection_that_was_handed_off() {
    let layer = ConnectionTimeoutLayer::new().with_max_lifetime(SECOND * 3600);
    for detaches in [false, true] {
        let (connection, _client) = handed_off(&layer).await;
        sleep(SECOND).await;
        assert_eq!(tasks(), 1);
        let kept = match detaches {
            true => Some(connection.detach()),
            false => {
                drop(connection);
                None
            }
        };
        sleep(MOMENT).await;
        assert_eq!(tasks(), 0);
        drop(kept);
    }
    let (result, _) = served(layer.clone(), async |client| {
        client.shutdown().await.unwrap()
    })
    .await;
    result.unwrap();
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_observes_notes_each_exceeded_limit_once_and_closes_nothing() {
    let layer = ConnectionTimeoutLayer::new()
        .with_first_byte_timeout(SECOND)
        .with_idle_timeout(SECOND * 4)
        .with_max_lifetime(SECOND * 60)
        .with_lifetime_grace(SECOND)
        .with_min_throughput(1, SECOND * 10)
        .with_observe(true);
    let log = Log::of_lines(Level::INFO);
    let mut stack = layer.layer(service_fn(echo));
    let (ours, mut client) = duplex(64);
    let connection = Connection::accept(ours);
    let info = connection.info().clone();
    let serving = tokio::spawn(stack.call(connection));
    sleep(SECOND * 600).await;
    exchange(&mut client).await;
    let notes: Vec<_> = info
        .notes()
        .map(|note| (note.by(), note.reason()))
        .collect();
    let phases = ["first_byte", "idle", "throughput", "lifetime"];
    assert_eq!(notes, phases.map(|phase| ("connection_timeout", phase)));
    assert_eq!((layer.observed(), log.lines().len()), (4, 4));
    assert!(!info.is_draining());
    client.shutdown().await.unwrap();
    serving.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_observes_the_throughput_closes_by_its_other_limits() {
    let layer = ConnectionTimeoutLayer::new()
        .with_max_lifetime(SECOND * 60)
        .with_min_throughput(1, SECOND * 10)
        .with_throughput_observe(true);
    let mut stack = layer.layer(service_fn(echo));
    let (ours, _client) = duplex(64);
    let connection = Connection::accept(ours);
    let info = connection.info().clone();
    let started = Instant::now();
    let ended = stack.call(connection).await.unwrap_err();
    assert_eq!(started.elapsed(), SECOND * 60);
    let elapsed = find::<Elapsed>(&*ended).unwrap();
    assert_eq!(elapsed.phase(), TimeoutPhase::LIFETIME);
    let notes: Vec<_> = info.notes().map(|note| note.reason()).collect();
    assert_eq!(notes, ["throughput"]);
}

/// What the clock of a server does from time to time.
fn tick(info: &ConnectionInfo) {
    let mut wakers = Vec::new();
    expire(info, Instant::now(), &mut wakers);
    wakers.into_iter().for_each(Waker::wake);
}

/// A connection of a server with a clock, and the client's side.
fn watched() -> (Connection<Socket<DuplexStream>>, DuplexStream) {
    let (ours, theirs) = duplex(64);
    let connection = Connection::accept(ours);
    begin_watch(connection.info());
    (connection, theirs)
}

#[tokio::test(start_paused = true)]
async fn a_server_s_clock_wakes_the_call_for_its_checks() {
    let layer = ConnectionTimeoutLayer::new().with_idle_timeout(SECOND * 8);
    let mut stack = ServiceBuilder::new().layer(layer).service_fn(echo);
    let (connection, _client) = watched();
    let info = connection.info().clone();
    let mut call = task::spawn(stack.call(connection));
    for _ in 0..4 {
        assert_pending!(call.poll());
        advance(SECOND * 2 - MOMENT).await;
        tick(&info);
        assert!(!call.is_woken(), "before the check");
        advance(MOMENT * 2).await;
        assert!(!call.is_woken(), "by a timer");
        tick(&info);
        assert!(call.is_woken());
    }
    assert_elapsed(assert_ready!(call.poll()), TimeoutPhase::IDLE, SECOND * 8);
}

#[tokio::test(start_paused = true)]
async fn a_forced_close_does_not_take_the_check_away() {
    let layer = ConnectionTimeoutLayer::new().with_max_lifetime(SECOND);
    let deaf = async |_: Connection<Socket<DuplexStream>>| pending::<Result<(), BoxError>>().await;
    let mut stack = ServiceBuilder::new().layer(layer).service_fn(deaf);
    let (connection, _client) = watched();
    let info = connection.info().clone();
    let mut call = task::spawn(stack.call(connection));
    assert_pending!(call.poll());
    info.force_close();
    assert_pending!(call.poll());
    advance(SECOND + MOMENT).await;
    tick(&info);
    assert!(call.is_woken());
    assert_elapsed(assert_ready!(call.poll()), TimeoutPhase::LIFETIME, SECOND);
}

#[tokio::test(start_paused = true)]
async fn short_limits_and_a_second_layer_have_timers_and_so_has_a_call_whose_clock_ends() {
    for (outer, inner, clock_ends) in [(1, 60, true), (1, 1, false), (60, 1, false)] {
        let limit = |seconds| ConnectionTimeoutLayer::new().with_max_lifetime(SECOND * seconds);
        let mut stack = ServiceBuilder::new()
            .layer(limit(outer))
            .layer(limit(inner))
            .service_fn(echo);
        let (connection, _client) = watched();
        let info = connection.info().clone();
        let mut call = task::spawn(stack.call(connection));
        assert_pending!(call.poll());
        if clock_ends {
            let mut wakers = Vec::new();
            end_watch(&info, &mut wakers);
            wakers.into_iter().for_each(Waker::wake);
            assert!(call.is_woken());
            assert_pending!(call.poll());
        }
        advance(SECOND + MOMENT).await;
        tick(&info);
        assert!(call.is_woken(), "{outer} {inner}");
        assert_elapsed(assert_ready!(call.poll()), TimeoutPhase::LIFETIME, SECOND);
    }
    let layer = ConnectionTimeoutLayer::new().with_idle_timeout(SECOND);
    let mut stack = ServiceBuilder::new().layer(layer).service_fn(echo);
    let (connection, _client) = watched();
    let mut call = task::spawn(stack.call(connection));
    assert_pending!(call.poll());
    advance(SECOND / 4 + MOMENT).await;
    assert!(call.is_woken(), "a quarter is too short for a clock");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_polled_by_another_task_wakes_that_one_and_a_dropped_one_none() {
    struct Task;
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    let layer = ConnectionTimeoutLayer::new().with_max_lifetime(SECOND);
    let deaf = async |_: Connection<Socket<DuplexStream>>| pending::<Result<(), BoxError>>().await;
    for expires in [false, true] {
        let mut stack = ServiceBuilder::new().layer(layer.clone()).service_fn(deaf);
        let (connection, _client) = watched();
        let info = connection.info().clone();
        let mut call = Box::pin(stack.call(connection));
        let tasks = [Arc::new(Task), Arc::new(Task)];
        for task in &tasks {
            let waker = task.clone().into();
            assert_pending!(call.as_mut().poll(&mut Context::from_waker(&waker)));
        }
        // The task itself, the call and the clock.
        assert_eq!(tasks.each_ref().map(Arc::strong_count), [1, 3]);
        if expires {
            advance(SECOND + MOMENT).await;
            tick(&info);
        }
        drop(call);
        assert_eq!(tasks.each_ref().map(Arc::strong_count), [1, 1]);
    }
}
