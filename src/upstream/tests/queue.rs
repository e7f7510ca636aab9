use super::{
    super::pool::{Unavailable, Wish},
    *,
};
use portcullis_middleware::error::{Elapsed, find};
use tokio::time::Instant;
use tokio_test::task::spawn;

fn capped(number: usize) -> Server {
    Servers::server(number).with_max_connections(1)
}

#[tokio::test(start_paused = true)]
async fn connections_beyond_all_limits_wait_in_order() {
    let servers = Servers::new(2);
    let pool = servers.pool().build([1, 2].map(capped));
    let held = (
        pool.connect(&client()).await.unwrap(),
        pool.connect(&client()).await.unwrap(),
    );
    let clients = [(); 3].map(|()| client());
    let mut waiting: Vec<_> = clients
        .iter()
        .map(|client| spawn(pool.connect(client)))
        .collect();
    for waiting in &mut waiting {
        assert!(waiting.poll().is_pending());
    }
    drop(held.0);
    assert!(waiting[0].is_woken() && !waiting[1].is_woken());
    let first = waiting.remove(0).await.unwrap();
    // The one that leaves is passed over.
    drop(waiting.remove(0));
    drop(first);
    let last = waiting.remove(0).await.unwrap();
    drop((held.1, last));
    assert!(
        pool.0
            .members()
            .iter()
            .all(|member| member.state.count() == 0)
    );
    assert_eq!(pool.0.queue.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_wait_lasts_five_seconds_and_no_longer() {
    let servers = Servers::new(1);
    let pool = servers.pool().build([capped(1)]);
    let held = pool.connect(&client()).await.unwrap();
    let begun = Instant::now();
    let error = pool.connect(&client()).await.unwrap_err();
    assert_eq!(begun.elapsed(), 5 * SECOND);
    let elapsed = *find::<Elapsed>(&error).unwrap();
    assert_eq!(error.reason(), NoBackendReason::TimedOut(elapsed));
    assert_eq!(
        error.to_string(),
        "no backend: admission timed out after 5s; full: 192.0.2.1:80 with 1 of 1 connections"
    );
    assert_eq!(error.full(), [(Servers::server(1).key(), 1)]);

    let client = client();
    let (waited, ()) = tokio::join!(pool.connect(&client), async {
        tokio::time::sleep(5 * SECOND - Duration::from_millis(1)).await;
        drop(held);
    });
    waited.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_limited() {
    let servers = Servers::new(1);
    let pool = servers.pool().with_queue(2, 5 * SECOND).build([capped(1)]);
    let _held = pool.connect(&client()).await.unwrap();
    let clients = [client(), client()];
    let mut waiting: Vec<_> = clients
        .iter()
        .map(|client| spawn(pool.connect(client)))
        .collect();
    assert!(
        waiting
            .iter_mut()
            .all(|waiting| waiting.poll().is_pending())
    );
    let error = pool.connect(&client()).await.unwrap_err();
    assert_eq!(error.reason(), NoBackendReason::QueueFull);
    // One that has left leaves its place to another.
    drop(waiting.pop());
    let third = client();
    assert!(spawn(pool.connect(&third)).poll().is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_server_given_to_one_that_has_left_goes_to_the_next() {
    let servers = Servers::new(1);
    let pool = servers.pool().build([capped(1)]);
    let held = pool.connect(&client()).await.unwrap();
    let clients = [client(), client()];
    let mut first = spawn(pool.connect(&clients[0]));
    let mut second = spawn(pool.connect(&clients[1]));
    assert!(first.poll().is_pending() && second.poll().is_pending());
    drop(held);
    assert!(first.is_woken());
    drop(first);
    assert!(second.is_woken());
    second.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn backups_do_not_take_what_full_servers_queue() {
    let servers = Servers::new(2);
    let pool = servers
        .pool()
        .build([capped(1), Servers::server(2).with_backup(true)]);
    let _held = pool.connect(&client()).await.unwrap();
    assert!(spawn(pool.connect(&client())).poll().is_pending());
    assert_eq!(servers.begun(2), 0);
}

#[tokio::test(start_paused = true)]
async fn a_raised_limit_and_a_new_server_serve_the_queue() {
    for replaced in [vec![Servers::server(1)], vec![capped(1), capped(2)]] {
        let servers = Servers::new(2);
        let pool = servers.pool().build([capped(1)]);
        let _held = pool.connect(&client()).await.unwrap();
        let client = client();
        let mut waiting = spawn(pool.connect(&client));
        assert!(waiting.poll().is_pending());
        pool.0.replace(replaced);
        waiting.await.unwrap();
    }
}

/// Each wake-up that is missed costs five seconds and fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_that_connect_and_release_miss_no_wake_up() {
    let servers = Servers::new(2);
    servers.set(1, Answer::AcceptsAfter(Duration::from_micros(1)));
    servers.set(2, Answer::AcceptsAfter(Duration::from_micros(1)));
    let pool = servers.pool().build([1, 2].map(capped));
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for round in 0..100 {
                    let client = client_at(number);
                    if round % 7 == 0 {
                        // It leaves in the middle of a connect, or the queue, unless a busy machine ends it before.
                        let _left = spawn(pool.connect(&client)).poll();
                    }
                    let connection = pool.connect(&client).await.unwrap();
                    tokio::task::yield_now().await;
                    drop(connection);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let statuses = pool.servers();
    assert!(
        statuses.iter().all(|server| server.connections == 0),
        "{statuses:?}"
    );
    assert_eq!(pool.0.queue.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_for_a_backup_does_not_wait_for_those_before_it() {
    let servers = Servers::new(2);
    let pool = servers
        .pool()
        .build([capped(1), capped(2).with_backup(true)]);
    servers.set(1, Answer::Refuses);
    let backup = pool.connect(&client()).await.unwrap();
    servers.set(1, Answer::Hangs);
    let clients = [client(), client(), client()];
    let mut waiting: Vec<_> = clients
        .iter()
        .map(|client| spawn(pool.connect(client)))
        .collect();
    for waiting in &mut waiting {
        assert!(waiting.poll().is_pending());
    }
    // The first has tried the first server in vain, the second tries it, and the third waits for it.
    tokio::time::sleep(3 * SECOND).await;
    for waiting in &mut waiting {
        assert!(waiting.poll().is_pending());
    }
    assert_eq!((servers.begun(1), pool.0.queue.len()), (3, 2));
    drop(backup);
    assert!(waiting[0].is_woken());
    waiting.remove(0).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_ejection_that_ends_early_serves_the_queue() {
    let servers = Servers::new(2);
    let pool = servers.pool().with_balance(Balance::First);
    let pool = pool.build([Servers::server(1), capped(2)]);
    servers.set(1, Answer::AcceptsAfter(SECOND));
    let clients = [client(), client()];
    let mut slow = spawn(pool.connect(&clients[0]));
    assert!(slow.poll().is_pending());
    servers.set(1, Answer::Refuses);
    for _ in 0..5 {
        pool.connect(&client()).await.unwrap();
    }
    let _held = pool.connect(&client()).await.unwrap();
    let mut waiting = spawn(pool.connect(&clients[1]));
    assert!(waiting.poll().is_pending());
    servers.set(1, Answer::Accepts);
    tokio::time::sleep(SECOND).await;
    let _connection = slow.await.unwrap();
    assert!(waiting.is_woken());
    waiting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn names_are_waited_for_without_a_queue() {
    let servers = Servers::new(1);
    let connector = crate::connect::Connector::new().with_resolver(|_, _| async {
        tokio::time::sleep(SECOND).await;
        Ok(vec![Servers::address(1)])
    });
    let pool = servers.pool().with_queue(0, 5 * SECOND);
    let pool = pool.with_connector(connector);
    let pool = pool.build(["db.internal:80".parse::<Server>().unwrap()]);
    pool.connect(&client()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn caps_hold_on_all_threads_while_servers_are_replaced_and_drained() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    let servers = Servers::new(3);
    let all = || (1..=3).map(|number| Servers::server(number).with_max_connections(2));
    let pool = servers.pool().build(all());
    let held: Arc<[AtomicUsize; 3]> = Arc::default();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..16 {
        let (pool, held) = (pool.clone(), held.clone());
        tasks.spawn(async move {
            for _ in 0..200 {
                let client = client_at(number);
                let connection = pool.connect(&client).await.unwrap();
                let key = ServerKey::from(&*client.upstream().unwrap().server);
                let index = (1..=3).position(|each| Servers::server(each).key() == key);
                let held = &held[index.unwrap()];
                assert!(held.fetch_add(1, Ordering::SeqCst) < 2);
                tokio::task::yield_now().await;
                held.fetch_sub(1, Ordering::SeqCst);
                drop(connection);
            }
        });
    }
    let operated = pool.clone();
    tasks.spawn(async move {
        for round in 0..200 {
            let key = Servers::server(1 + round % 3).key();
            operated.drain(&key);
            operated.replace(all().skip(round % 2));
            tokio::task::yield_now().await;
            operated.replace(all());
            operated.restore(&key);
        }
    });
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let statuses = pool.servers();
    assert_eq!(statuses.len(), 3);
    assert!(
        statuses.iter().all(|server| server.connections == 0),
        "{statuses:?}"
    );
    assert_eq!(pool.0.queue.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_release_before_the_queue_is_entered_is_not_missed() {
    let servers = Servers::new(1);
    let pool = servers.pool().build([capped(1)]);
    let held = pool.connect(&client()).await.unwrap();
    let wish = Wish::new(&client(), &pool.0.settings());
    assert_eq!(pool.0.reserve(&wish).err(), Some(Unavailable::Full));
    drop(held);
    let until = Instant::now() + SECOND;
    let mut waiting = spawn(pool.0.wait(&wish, until, Unavailable::Full));
    assert!(waiting.poll().is_ready());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_ejection_that_began_during_the_wait_serves_the_queue() {
    let servers = Servers::new(2);
    let pool = servers.pool().with_balance(Balance::First);
    let pool = pool.with_max_attempts(1).with_ejection((1, SECOND));
    let pool = pool.build([1, 2].map(capped));
    let _held = pool.connect(&client()).await.unwrap();
    servers.set(2, Answer::Hangs);
    let clients = [client(), client()];
    let mut hangs = spawn(pool.connect(&clients[0]));
    let mut waiting = spawn(pool.connect(&clients[1]));
    assert!(hangs.poll().is_pending() && waiting.poll().is_pending());
    let begun = Instant::now();
    hangs.await.unwrap_err();
    let state = pool.servers()[1].state;
    assert_eq!(state, ServerState::Ejected(SECOND));
    servers.set(2, Answer::Accepts);
    waiting.await.unwrap();
    // The attempt, and then the ejection.
    let waited = begun.elapsed();
    assert!(
        waited >= 4 * SECOND && waited < 41 * SECOND / 10,
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn names_that_are_found_full_are_waited_for_no_longer_than_others() {
    for max in [0, 1] {
        let servers = Servers::new(1);
        let connector = crate::connect::Connector::new().with_resolver(|_, _| async {
            tokio::time::sleep(3 * SECOND).await;
            Ok(vec![Servers::address(1)])
        });
        let pool = servers.pool().with_queue(max, SECOND);
        let pool = pool.with_connector(connector);
        let name: Server = "db.internal:80".parse().unwrap();
        let pool = pool.build([name.with_max_connections(1)]);
        let clients = [client(), client()];
        let mut waiting = clients.each_ref().map(|it| spawn(pool.connect(it)));
        assert!(waiting.iter_mut().all(|it| it.poll().is_pending()));
        let [first, second] = waiting;
        let _held = first.await.unwrap();
        let begun = Instant::now();
        let error = second.await.unwrap_err();
        let is_full = error.reason() == NoBackendReason::QueueFull;
        assert_eq!(is_full, max == 0, "{error}");
        let waited = if is_full { Duration::ZERO } else { SECOND };
        assert_eq!(begun.elapsed(), waited);
    }
}

/// Connects on three threads while `change` is called with increasing numbers, and returns the failures.
async fn failures_while(pool: &Pool, changes: usize, change: impl AsyncFn(usize)) -> Vec<String> {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };
    let done = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..3 {
        let (pool, done) = (pool.clone(), done.clone());
        tasks.spawn(async move {
            let mut failures = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let connected = pool.connect(&client_at(number)).await;
                failures.extend(connected.err().map(|error| error.to_string()));
                tokio::task::yield_now().await;
            }
            failures
        });
    }
    for number in 0..changes {
        change(number).await;
    }
    done.store(true, Ordering::Relaxed);
    tasks.join_all().await.concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_connect_fails_while_servers_are_exchanged_without_a_queue() {
    let servers = Servers::new(2);
    let pool = servers.pool().with_queue(0, SECOND);
    let pool = pool.build([Servers::server(1)]);
    let exchange = async |number| pool.replace([Servers::server(1 + number % 2)]);
    let failures = failures_while(&pool, 10_000, exchange).await;
    assert!(failures.is_empty(), "{failures:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_connect_fails_while_the_address_of_a_checked_server_changes() {
    let servers = Servers::new(2);
    let named = |number: usize| Servers::server(number).with_name("db");
    let check = HealthCheck::tcp().with_interval(SECOND / 100);
    let pool = servers.pool().with_health_check(check).build([named(1)]);
    let exchange = async |number| {
        while pool.servers()[0].state != ServerState::Up {
            tokio::time::sleep(SECOND / 1000).await;
        }
        pool.replace([named(1 + number % 2)]);
    };
    let failures = failures_while(&pool, 300, exchange).await;
    assert!(failures.is_empty(), "{failures:?}");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_ejection_of_a_server_that_returned_serves_the_queue() {
    let servers = Servers::new(2);
    let pool = servers.pool().with_balance(Balance::First);
    let pool = pool.with_max_attempts(1).with_ejection((1, 3 * SECOND));
    let both = || [capped(1), Servers::server(2)];
    let pool = pool.build(both());
    let _held = [
        pool.connect(&client()).await.unwrap(),
        pool.connect(&client()).await.unwrap(),
    ];
    servers.set(2, Answer::Refuses);
    pool.connect(&client()).await.unwrap_err();
    pool.replace([capped(1)]);
    let begun = Instant::now();
    let client = client();
    let mut waiting = spawn(pool.connect(&client));
    assert!(waiting.poll().is_pending());
    pool.replace(both());
    let state = pool.servers()[1].state;
    assert_eq!(state, ServerState::Ejected(3 * SECOND));
    servers.set(2, Answer::Accepts);
    waiting.await.unwrap();
    assert!(begun.elapsed() < 31 * SECOND / 10);
}
