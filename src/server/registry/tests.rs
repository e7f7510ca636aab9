use super::*;
use portcullis_middleware::{Connection, IoTimeoutLayer, testing::info};
use std::{io, time::Duration};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Service, ServiceBuilder};

/// A registry with one listener.
fn registry(workers: usize) -> (Arc<Registry>, ListenerKey) {
    let registry = Arc::new(Registry::default());
    registry.start(workers);
    let listener = registry.add_listener();
    (registry, listener)
}

#[test]
fn an_entry_is_gone_when_both_connection_and_task_have_ended() {
    let (registry, front) = registry(2);
    let (_, connection, task) = registry.enter(1, front, info());
    assert_eq!((registry.len(), registry.active()), (1, 1));
    drop(task);
    assert_eq!((registry.len(), registry.active()), (1, 1));
    assert_eq!(registry.gone(front), 0);
    drop(connection);
    assert_eq!((registry.len(), registry.active()), (0, 0));
    assert_eq!(registry.gone(front), 1);
}

#[test]
fn a_task_that_outlives_its_connection_is_waited_for_but_not_listed() {
    let (registry, front) = registry(1);
    let (_, connection, task) = registry.enter(0, front, info());
    assert_eq!((registry.active(), registry.active_of(front)), (1, 1));
    drop(connection);
    assert!(registry.connections().is_empty());
    assert_eq!((registry.active(), registry.active_of(front)), (0, 0));
    assert_eq!(registry.all_of(front).len(), 1);
    let mut emptied = task::spawn(registry.emptied());
    assert_pending!(emptied.poll());
    drop(task);
    assert!(emptied.is_woken());
    assert_ready!(emptied.poll());
}

#[test]
fn who_waits_for_the_last_is_woken_by_the_last_of_a_worker_and_by_none_before() {
    let (registry, front) = registry(2);
    let [first, second, third] = [0, 0, 1].map(|worker| registry.enter(worker, front, info()));
    let mut emptied = task::spawn(registry.emptied());
    assert_pending!(emptied.poll());
    drop(first);
    assert!(!emptied.is_woken());
    drop(second);
    assert!(emptied.is_woken());
    assert_pending!(emptied.poll());
    drop(third);
    assert!(emptied.is_woken());
    assert_ready!(emptied.poll());
}

#[test]
fn a_listener_is_empty_without_its_own_connections_while_others_have_some() {
    let (registry, front) = registry(1);
    let back = registry.add_listener();
    let [first, second] = [front, back].map(|listener| registry.enter(0, listener, info()));
    let mut emptied = task::spawn(registry.emptied_of(front));
    assert_pending!(emptied.poll());
    assert_eq!((registry.len_of(front), registry.active_of(back)), (1, 1));
    drop(first);
    assert!(emptied.is_woken());
    assert_ready!(emptied.poll());
    assert_eq!((registry.gone(front), registry.gone(back)), (1, 0));
    assert_eq!(registry.len(), 1);
    drop(second);
}

#[test]
fn a_listener_that_gets_a_key_for_the_second_time_begins_with_zero() {
    let (registry, front) = registry(2);
    drop(registry.enter(1, front, info()));
    assert_eq!(registry.gone(front), 1);
    registry.remove_listener(front);
    let next = registry.add_listener();
    assert_eq!(next, front);
    assert_eq!((registry.gone(next), registry.len_of(next)), (0, 0));
}

#[test]
fn the_least_busy_worker_is_the_one_with_the_fewest_connections() {
    let (registry, front) = registry(3);
    let _first = registry.enter(0, front, info());
    let second = registry.enter(1, front, info());
    assert_eq!(registry.least_busy_worker(), 2);
    let _third = registry.enter(2, front, info());
    drop((second.1, second.2));
    assert_eq!(registry.least_busy_worker(), 1);
}

#[test]
fn a_connection_is_found_by_its_number_while_it_lives() {
    let (registry, front) = registry(2);
    let (_, connection, _task) = registry.enter(0, front, info());
    let id = registry.connections()[0].id();
    assert!(registry.find(id).is_some());
    drop(connection);
    assert!(registry.find(id).is_none());
}

#[tokio::test(start_paused = true)]
async fn the_clock_wakes_what_waits_in_each_entry_of_each_shard() {
    let (registry, listener) = registry(2);
    registry.begin_watch();
    let mut waiting: Vec<_> = (0..2 * CHUNK + 10)
        .map(|entry| silent(&registry, listener, entry % 2))
        .collect();
    for waiting in &mut waiting {
        assert_pending!(waiting.call.poll());
    }
    registry.expire(Instant::now() + LIMIT / 4 - MOMENT);
    assert!(waiting.iter().all(|waiting| !waiting.call.is_woken()));
    registry.expire(Instant::now() + LIMIT / 4 + MOMENT);
    assert!(waiting.iter().all(|waiting| waiting.call.is_woken()));
}

#[tokio::test(start_paused = true)]
async fn what_the_clock_no_longer_checks_times_out_by_the_runtime() {
    let (registry, listener) = registry(1);
    registry.begin_watch();
    let mut early = silent(&registry, listener, 0);
    assert_pending!(early.call.poll());
    let mut removed = silent(&registry, listener, 0);
    assert_pending!(removed.call.poll());
    // Its stream lives on in the call.
    drop(removed.entry);
    assert!(removed.call.is_woken());
    assert!(!early.call.is_woken());
    registry.end_watch();
    assert!(early.call.is_woken());
    let mut late = silent(&registry, listener, 0);
    assert_pending!(late.call.poll());
    let begun = Instant::now();
    for call in [early.call, removed.call, late.call] {
        assert!(call.await.is_err());
    }
    assert_eq!(begun.elapsed(), LIMIT);
}

const LIMIT: Duration = Duration::from_secs(8);
const MOMENT: Duration = Duration::from_millis(1);

/// A client that sends nothing.
struct Silent<F> {
    call: task::Spawn<F>,
    entry: (TableKey, Slot, TaskGuard),
    _client: DuplexStream,
}

/// Waits for a silent client, with a timeout.
fn silent(
    registry: &Registry,
    listener: ListenerKey,
    worker: usize,
) -> Silent<impl Future<Output = io::Result<()>> + use<>> {
    let (ours, client) = duplex(1);
    let connection = Connection::accept(ours);
    let entry = registry.enter(worker, listener, connection.info().clone());
    let mut stack = ServiceBuilder::new()
        .layer(IoTimeoutLayer::new().with_read_timeout(LIMIT))
        .service_fn(
            |mut connection: Connection<_>| async move { connection.read_u8().await.map(drop) },
        );
    Silent {
        call: task::spawn(stack.call(connection)),
        entry,
        _client: client,
    }
}

#[tokio::test]
async fn a_reused_entry_does_not_take_the_handle_of_its_predecessor() {
    let (registry, front) = registry(1);
    let first = info();
    let (place, connection, task) = registry.enter(0, front, first.clone());
    drop((connection, task));
    let (_, _connection, _task) = registry.enter(0, front, info());
    let late = tokio::spawn(std::future::pending());
    let abort = late.abort_handle();
    registry.set_task(place, first.id(), late);
    registry.abort_tasks(front);
    tokio::task::yield_now().await;
    assert!(!abort.is_finished());
    abort.abort();
}

#[test]
fn the_end_of_a_connection_wakes_who_waits_for_room() {
    let (registry, front) = registry(1);
    let (_, connection, _task) = registry.enter(0, front, info());
    let mut released = task::spawn(registry.released());
    assert_pending!(released.poll());
    drop(connection);
    assert_ready!(released.poll());
}

#[test]
fn a_walk_finds_each_connection_once_in_parts() {
    let (registry, front) = registry(2);
    let entered: Vec<_> = (0..3 * CHUNK)
        .map(|number| registry.enter(number % 2, front, info()))
        .collect();
    let found = registry.connections();
    let ids: std::collections::HashSet<_> = found.iter().map(ConnectionInfo::id).collect();
    assert_eq!((found.len(), ids.len()), (3 * CHUNK, 3 * CHUNK));
    let last = found.last().expect("there are some").id();
    assert!(registry.find(last).is_some_and(|info| info.id() == last));
    drop(entered);
    assert!(registry.connections().is_empty() && registry.find(last).is_none());
}
