//! Both sides of each threshold, and exact counts under concurrency.

use super::*;
use crate::{
    BoxError, Connection,
    connection::Socket,
    error::{Elapsed, Refused, TimeoutPhase},
    observe::trace::tests::log::Log,
    testing::in_memory,
};
use static_assertions::assert_impl_all;
use std::{
    future::{pending, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};
use tokio::{io::DuplexStream, time::advance};
use tower::{Layer, Service, service_fn};
use tracing::Level;

assert_impl_all!(AlarmLayer: Clone, std::fmt::Debug, Send, Sync);
assert_impl_all!(AlarmHandle: Clone, std::fmt::Debug, Send, Sync);
assert_impl_all!(AlarmWatch<()>: Clone, std::fmt::Debug, Send, Sync);
assert_impl_all!(AlarmFuture<std::future::Ready<()>>: Send, Sync, Unpin);

type Conn = Connection<Socket<DuplexStream>>;

/// Kind, raised, count.
type Seen = Arc<Mutex<Vec<(AlarmKind, bool, u64)>>>;

fn watched(layer: AlarmLayer) -> (AlarmLayer, Seen) {
    let seen = Seen::default();
    let changes = seen.clone();
    let layer = layer.on_alarm(move |alarm| {
        let change = (alarm.kind(), alarm.is_raised(), alarm.count());
        changes.lock().unwrap().push(change);
    });
    (layer, seen)
}

fn take(seen: &Seen) -> Vec<(AlarmKind, bool, u64)> {
    std::mem::take(&mut *seen.lock().unwrap())
}

fn connection() -> Conn {
    in_memory(1).0
}

/// Returns the connection, which stays active.
async fn open(layer: &AlarmLayer) -> Conn {
    let service = service_fn(|connection: Conn| ready(Ok::<_, BoxError>(connection)));
    layer.layer(service).call(connection()).await.unwrap()
}

async fn fail(layer: &AlarmLayer, error: impl Fn() -> BoxError) {
    let service = service_fn(|_: Conn| ready(Err::<(), _>(error())));
    let result = layer.layer(service).call(connection()).await;
    assert!(result.is_err());
}

fn refused() -> BoxError {
    Refused::new("gate", "shut").into()
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn active_connections_raise_at_the_threshold_and_clear_a_tenth_below_it() {
    let (layer, seen) = watched(AlarmLayer::new("web").with_threshold(AlarmKind::Active, 20));
    let handle = layer.handle();
    let mut open_ones = Vec::new();
    for _ in 0..19 {
        open_ones.push(open(&layer).await);
    }
    assert_eq!(take(&seen), []);
    for _ in 0..3 {
        open_ones.push(open(&layer).await);
    }
    assert_eq!(take(&seen), [(AlarmKind::Active, true, 20)]);
    open_ones.truncate(19);
    assert_eq!(take(&seen), []);
    assert!(handle.is_raised(AlarmKind::Active));
    open_ones.truncate(18);
    assert_eq!(take(&seen), [(AlarmKind::Active, false, 18)]);
    assert!(!handle.is_raised(AlarmKind::Active));
    drop(open_ones);
    assert_eq!(handle.count(AlarmKind::Active), 0);
    assert_eq!(take(&seen), []);
}

#[tokio::test(start_paused = true)]
async fn the_smallest_thresholds_clear_too() {
    for hysteresis in [0, 10, 100] {
        let layer = AlarmLayer::new("web").with_hysteresis(hysteresis);
        let (layer, seen) = watched(layer.with_threshold(AlarmKind::Active, 1));
        drop(open(&layer).await);
        let changes = [(AlarmKind::Active, true, 1), (AlarmKind::Active, false, 0)];
        assert_eq!(take(&seen), changes);
    }
}

#[tokio::test(start_paused = true)]
async fn during_the_cool_down_an_alarm_is_not_raised_again() {
    let layer = AlarmLayer::new("web").with_cool_down(10 * SECOND);
    let (layer, seen) = watched(layer.with_threshold(AlarmKind::Active, 1));
    drop(open(&layer).await);
    assert_eq!(take(&seen).len(), 2);
    advance(10 * SECOND - Duration::from_millis(1)).await;
    let held = open(&layer).await;
    assert_eq!(take(&seen), []);
    advance(Duration::from_millis(1)).await;
    drop(open(&layer).await);
    assert_eq!(take(&seen), [(AlarmKind::Active, true, 2)]);
    drop(held);
    assert_eq!(take(&seen), [(AlarmKind::Active, false, 0)]);
}

#[tokio::test(start_paused = true)]
async fn the_counts_of_an_interval_raise_within_it_and_start_anew_after_it() {
    let just_before = 5 * SECOND - Duration::from_millis(1);
    for (wait, expected) in [
        (just_before, vec![(AlarmKind::Opened, true, 3)]),
        (5 * SECOND, vec![]),
    ] {
        let layer = AlarmLayer::new("web").with_interval(10 * SECOND);
        let (layer, seen) = watched(layer.with_threshold(AlarmKind::Opened, 3));
        // Two in the first interval, and two in the second one.
        for wait in [0, 5, 5, 5] {
            advance(wait * SECOND).await;
            drop(open(&layer).await);
        }
        assert_eq!(take(&seen), []);
        advance(wait).await;
        drop(open(&layer).await);
        assert_eq!(take(&seen), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_alarm_of_intervals_clears_after_one_with_fewer_or_none() {
    let layer = AlarmLayer::new("web").with_interval(10 * SECOND);
    let (layer, seen) = watched(layer.with_threshold(AlarmKind::Refused, 2));
    let handle = layer.handle();
    for _ in 0..2 {
        fail(&layer, refused).await;
    }
    assert_eq!(take(&seen), [(AlarmKind::Refused, true, 2)]);
    advance(10 * SECOND).await;
    // The interval that has ended was above the threshold.
    fail(&layer, refused).await;
    assert!(handle.is_raised(AlarmKind::Refused));
    advance(10 * SECOND).await;
    fail(&layer, refused).await;
    assert_eq!(take(&seen), [(AlarmKind::Refused, false, 1)]);

    advance(60 * SECOND).await;
    for _ in 0..2 {
        fail(&layer, refused).await;
    }
    assert_eq!(take(&seen), [(AlarmKind::Refused, true, 2)]);
    advance(20 * SECOND - Duration::from_millis(1)).await;
    assert!(handle.is_raised(AlarmKind::Refused));
    fail(&layer, refused).await;
    advance(20 * SECOND).await;
    assert!(!handle.is_raised(AlarmKind::Refused));
    assert_eq!(handle.count(AlarmKind::Refused), 0);
    fail(&layer, refused).await;
    assert_eq!(take(&seen), [(AlarmKind::Refused, false, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_was_taken_before_the_settings_reads_by_them_and_swallows_no_alarm() {
    let layer = AlarmLayer::new("web").with_interval(SECOND);
    let handle = layer.handle();
    let layer = layer.with_interval(10 * SECOND);
    let (layer, seen) = watched(layer.with_threshold(AlarmKind::Opened, 2));
    drop(open(&layer).await);
    advance(5 * SECOND).await;
    assert_eq!(handle.count(AlarmKind::Opened), 1);
    drop(open(&layer).await);
    assert_eq!(take(&seen), [(AlarmKind::Opened, true, 2)]);
    assert!(handle.is_raised(AlarmKind::Opened));

    advance(15 * SECOND).await;
    assert!(!handle.is_raised(AlarmKind::Opened));
    assert_eq!(handle.count(AlarmKind::Opened), 0);
    assert_eq!(take(&seen), []);
    drop(open(&layer).await);
    assert_eq!(take(&seen), [(AlarmKind::Opened, false, 0)]);
}

#[tokio::test(start_paused = true)]
async fn refusals_and_failures_are_counted_apart_and_success_is_neither() {
    let layer = AlarmLayer::new("web");
    let handle = layer.handle();
    let counts = || AlarmKind::ALL.map(|kind| handle.count(kind));
    fail(&layer, refused).await;
    assert_eq!(counts(), [0, 1, 1, 0]);
    fail(&layer, || "broken".into()).await;
    fail(&layer, || Elapsed::new(TimeoutPhase::READ, SECOND).into()).await;
    assert_eq!(counts(), [0, 3, 1, 2]);
    fail(&layer, || {
        std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()
    })
    .await;
    drop(open(&layer).await);
    assert_eq!(counts(), [0, 5, 1, 2]);
    let mut silent = layer.layer(service_fn(|connection: Conn| async move {
        let _connection = connection;
        pending::<Result<(), BoxError>>().await
    }));
    let serving = silent.call(connection());
    assert_eq!(counts(), [1, 6, 1, 2]);
    drop(serving);
    assert_eq!(counts(), [0, 6, 1, 2]);
    let mut panicking = layer.layer(service_fn(|_: Conn| {
        panic!("in call") as std::future::Ready<Result<(), BoxError>>
    }));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(panicking.call(connection())))).is_err());
    assert_eq!(counts(), [0, 7, 1, 3]);
}

#[tokio::test(start_paused = true)]
async fn each_change_is_logged_once() {
    let log = Log::of_lines(Level::INFO);
    let layer = AlarmLayer::new("web").with_threshold(AlarmKind::Active, 1);
    drop(open(&layer).await);
    let lines = log.lines();
    assert_eq!(lines.len(), 2);
    assert_eq!((lines[0].level, lines[1].level), (Level::WARN, Level::INFO));
    assert_eq!(lines[0].fields["listener"], "web");
    assert_eq!(lines[0].fields["alarm"], "active");
    assert_eq!(lines[1].fields["count"], "0");
    assert_eq!(lines[1].fields["threshold"], "1");
}

#[tokio::test]
async fn a_panic_of_a_callback_changes_no_count_and_reaches_no_service() {
    let (layer, seen) = watched(
        AlarmLayer::new("web")
            .with_threshold(AlarmKind::Active, 1)
            .on_alarm(|_| panic!("callback")),
    );
    drop(open(&layer).await);
    assert_eq!(take(&seen).len(), 2);
    assert_eq!(layer.handle().count(AlarmKind::Active), 0);
}

#[test]
fn counts_and_alarms_are_exact_under_concurrency() {
    const THREADS: u64 = 8;
    const EACH: u64 = 500;
    let layer = AlarmLayer::new("web")
        .with_interval(Duration::from_secs(3600))
        .with_threshold(AlarmKind::Active, THREADS * EACH)
        .with_threshold(AlarmKind::Opened, THREADS * EACH / 2)
        .with_threshold(AlarmKind::Failed, THREADS * EACH + 1);
    let (layer, seen) = watched(layer);
    let opened: Vec<_> = thread::scope(|scope| {
        let open_some = || {
            let open_one = |_| {
                tokio_test::block_on(fail(&layer, || "broken".into()));
                tokio_test::block_on(open(&layer))
            };
            (0..EACH).map(open_one).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(open_some)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let handle = layer.handle();
    let total = THREADS * EACH;
    let counts = AlarmKind::ALL.map(|kind| handle.count(kind));
    assert_eq!(counts, [total, 2 * total, 0, total]);
    let raised = |kind| {
        let seen = seen.lock().unwrap();
        let of_kind: Vec<_> = seen.iter().filter(|seen| seen.0 == kind).copied().collect();
        of_kind
    };
    assert_eq!(
        raised(AlarmKind::Opened),
        [(AlarmKind::Opened, true, total / 2)]
    );
    assert_eq!(
        raised(AlarmKind::Active),
        [(AlarmKind::Active, true, total)]
    );
    assert_eq!(raised(AlarmKind::Failed), []);
    thread::scope(|scope| {
        let mut rest = opened;
        while !rest.is_empty() {
            let some = rest.split_off(rest.len().saturating_sub(EACH as usize));
            scope.spawn(|| drop(some));
        }
    });
    assert_eq!(handle.count(AlarmKind::Active), 0);
    assert_eq!(
        raised(AlarmKind::Active)[1],
        (AlarmKind::Active, false, total * 9 / 10)
    );
    assert_eq!(raised(AlarmKind::Active).len(), 2);
}
