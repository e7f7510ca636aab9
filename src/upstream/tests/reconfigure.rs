//! Settings that are replaced while a pool is used, in paused time.

use super::*;
use tokio::time::sleep;
use tokio_test::task::spawn;

fn states(pool: &Pool) -> Vec<ServerState> {
    let servers = pool.servers().into_iter();
    servers.map(|server| server.state).collect()
}

fn every_second() -> HealthCheck {
    HealthCheck::tcp().with_interval(SECOND)
}

#[tokio::test(start_paused = true)]
async fn servers_keep_what_is_known_of_them_when_the_health_check_changes() {
    let servers = Servers::new(3);
    servers.set(2, Answer::Refuses);
    let hourly = HealthCheck::tcp().with_interval(3_600 * SECOND);
    let pool = servers.pool().with_health_check(hourly);
    let pool = pool.build([1, 2, 3].map(Servers::server));
    pool.drain(&Servers::server(3).key());
    sleep(SECOND).await;
    let held = pool.connect(&client()).await.unwrap();
    let known = [ServerState::Up, ServerState::Down, ServerState::Draining];
    assert_eq!(states(&pool), known);

    servers.set(2, Answer::Accepts);
    pool.reconfigure(
        servers
            .pool()
            .with_health_check(every_second().with_rise(3)),
    );
    assert_eq!(states(&pool), known);
    assert_eq!(pool.servers()[0].connects, 1);
    assert_eq!(pool.servers()[0].connections, 1);
    // The first check comes immediately, and the others as the new interval says.
    sleep(SECOND / 2).await;
    let begun = servers.begun(2);
    assert_eq!(states(&pool), known);
    sleep(3 * SECOND).await;
    assert_eq!(states(&pool)[1], ServerState::Up);
    assert!((begun + 2..=begun + 4).contains(&servers.begun(2)));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn an_equal_health_check_goes_on_and_another_one_counts_anew() {
    let servers = Servers::new(1);
    let pool = servers
        .pool()
        .with_health_check(every_second().with_fall(3));
    let pool = pool.build([Servers::server(1)]);
    sleep(SECOND / 2).await;
    servers.set(1, Answer::Refuses);
    let down_after = async |change: Option<u32>| {
        let failures = servers.begun(1);
        while servers.begun(1) < failures + 2 {
            sleep(SECOND / 20).await;
        }
        if let Some(fall) = change {
            pool.reconfigure(
                servers
                    .pool()
                    .with_health_check(every_second().with_fall(fall)),
            );
        }
        while states(&pool)[0] == ServerState::Up {
            sleep(SECOND / 20).await;
        }
        servers.begun(1) - failures
    };
    assert_eq!(down_after(Some(3)).await, 3, "it is the same check");

    servers.set(1, Answer::Accepts);
    while states(&pool)[0] != ServerState::Up {
        sleep(SECOND / 20).await;
    }
    servers.set(1, Answer::Refuses);
    assert_eq!(down_after(Some(4)).await, 2 + 4, "it is another check");
}

#[tokio::test(start_paused = true)]
async fn without_health_checks_all_servers_are_used_and_with_new_ones_as_at_the_start() {
    let servers = Servers::new(2);
    servers.set(1, Answer::Refuses);
    let pool = servers.pool().with_health_check(every_second());
    let pool = pool.build([1, 2].map(Servers::server));
    sleep(SECOND).await;
    assert_eq!(states(&pool), [ServerState::Down, ServerState::Up]);

    pool.reconfigure(servers.pool());
    assert_eq!(states(&pool), [ServerState::Up; 2]);
    let begun = [servers.begun(1), servers.begun(2)];
    sleep(60 * SECOND).await;
    assert_eq!([servers.begun(1), servers.begun(2)], begun);
    assert!(pool.servers()[0].last_check.is_none());

    servers.set(1, Answer::Hangs);
    servers.set(2, Answer::Hangs);
    pool.reconfigure(servers.pool().with_health_check(every_second()));
    assert_eq!(states(&pool), [ServerState::Unknown; 2]);
    assert_eq!(pool.candidates(&client()).len(), 2, "both are new");
}

#[tokio::test(start_paused = true)]
async fn connections_of_a_server_that_is_down_are_closed_once_that_is_wanted() {
    let servers = Servers::new(1);
    let pool = servers
        .pool()
        .with_health_check(every_second().with_fall(1));
    let pool = pool.build([Servers::server(1)]);
    sleep(SECOND / 2).await;
    let connection = pool.connect(&client()).await.unwrap();
    servers.set(1, Answer::Refuses);
    sleep(2 * SECOND).await;
    assert_eq!(states(&pool), [ServerState::Down]);
    assert!(!connection.info().is_forced());
    let closing = every_second().with_on_down(OnDown::Close);
    pool.reconfigure(servers.pool().with_health_check(closing));
    assert!(connection.info().is_forced());
}

#[tokio::test(start_paused = true)]
async fn settings_that_close_no_more_than_before_close_nothing() {
    let servers = Servers::new(1);
    let closing = every_second().with_fall(1).with_on_down(OnDown::Close);
    let last_resort = |check: HealthCheck| {
        let pool = servers.pool().with_health_check(check);
        pool.with_unhealthy_as_last_resort(true)
    };
    let pool = last_resort(closing.clone()).build([Servers::server(1)]);
    sleep(SECOND / 2).await;
    servers.set(1, Answer::Refuses);
    sleep(2 * SECOND).await;
    assert_eq!(states(&pool), [ServerState::Down]);
    servers.set(1, Answer::Accepts);
    let connection = pool.connect(&client()).await.unwrap();
    pool.reconfigure(last_resort(closing.clone()));
    assert!(!connection.info().is_forced(), "nothing has changed");
    pool.reconfigure(last_resort(closing.clone().with_rise(9)));
    assert!(!connection.info().is_forced(), "both close");
    pool.reconfigure(last_resort(every_second()));
    pool.reconfigure(last_resort(closing));
    assert_eq!(states(&pool), [ServerState::Down]);
    assert!(!connection.info().is_forced(), "it is the last resort");
}

#[tokio::test(start_paused = true)]
async fn connections_of_a_server_that_was_taken_down_are_closed_once_that_is_wanted() {
    let servers = Servers::new(2);
    let last_resort = |check: HealthCheck| {
        let pool = servers.pool().with_health_check(check);
        pool.with_unhealthy_as_last_resort(true)
    };
    let pool = last_resort(every_second()).build([1, 2].map(Servers::server));
    sleep(SECOND / 2).await;
    let held = [
        pool.connect(&client()).await.unwrap(),
        pool.connect(&client()).await.unwrap(),
    ];
    pool.take_down(&Servers::server(1).key());
    let forced = || held.iter().filter(|it| it.info().is_forced()).count();
    pool.reconfigure(last_resort(every_second().with_rise(9)));
    assert_eq!(forced(), 0);
    pool.reconfigure(last_resort(every_second().with_on_down(OnDown::Close)));
    assert_eq!(forced(), 1, "the other one is up");
}

#[tokio::test(start_paused = true)]
async fn settings_and_servers_are_replaced_together() {
    let servers = Servers::new(3);
    let hourly = HealthCheck::tcp().with_interval(3_600 * SECOND);
    let pool = servers.pool().with_health_check(hourly);
    let named = |number| Servers::server(number).with_name("a");
    let pool = pool.build([named(1), Servers::server(2)]);
    sleep(SECOND).await;
    let held = pool.connect(&client()).await.unwrap();
    let begun = [1, 2, 3].map(|number| servers.begun(number));
    pool.reconfigure_with(
        servers.pool().with_health_check(every_second()),
        [named(3), Servers::server(2)],
    );
    sleep(SECOND / 2).await;
    assert_eq!(states(&pool), [ServerState::Up; 2]);
    let after = [1, 2, 3].map(|number| servers.begun(number));
    assert_eq!(after, [begun[0], begun[1] + 1, begun[2] + 1]);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn ejections_that_are_switched_on_again_begin_with_the_shortest() {
    let servers = Servers::new(2);
    servers.set(2, Answer::Refuses);
    let first = || {
        let pool = servers.pool().with_balance(Balance::First);
        pool.with_ejection((1, 10 * SECOND))
    };
    let pool = first().build([2, 1].map(Servers::server));
    for time in [10, 20] {
        pool.connect(&client()).await.unwrap();
        assert_eq!(states(&pool)[0], ServerState::Ejected(time * SECOND));
        sleep(60 * SECOND).await;
    }
    pool.reconfigure(
        servers
            .pool()
            .with_balance(Balance::First)
            .with_ejection(None),
    );
    pool.reconfigure(first());
    pool.connect(&client()).await.unwrap();
    assert_eq!(states(&pool)[0], ServerState::Ejected(10 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn the_next_connect_is_distributed_queued_and_ejected_by_the_new_settings() {
    let servers = Servers::new(2);
    let pool = servers.pool().with_ejection((1, 60 * SECOND));
    let capped = |number| Servers::server(number).with_max_connections(2);
    let pool = pool.build([1, 2].map(capped));
    let to_each = |pool: &Pool| {
        pool.servers()
            .iter()
            .map(|it| it.connections)
            .collect::<Vec<_>>()
    };

    pool.reconfigure(
        servers
            .pool()
            .with_balance(Balance::First)
            .with_ejection((1, 60 * SECOND)),
    );
    let first = [
        pool.connect(&client()).await.unwrap(),
        pool.connect(&client()).await.unwrap(),
    ];
    assert_eq!(to_each(&pool), [2, 0]);
    servers.set(2, Answer::Refuses);
    pool.connect(&client()).await.unwrap_err();
    assert!(matches!(states(&pool)[1], ServerState::Ejected(_)));
    pool.reconfigure(
        servers
            .pool()
            .with_balance(Balance::First)
            .with_ejection(None),
    );
    assert_eq!(states(&pool), [ServerState::Up; 2]);
    servers.set(2, Answer::Accepts);
    let second = [
        pool.connect(&client()).await.unwrap(),
        pool.connect(&client()).await.unwrap(),
    ];
    assert_eq!(to_each(&pool), [2, 2]);

    let late = client();
    let mut waiting = spawn(pool.connect(&late));
    assert!(waiting.poll().is_pending());
    pool.reconfigure(servers.pool().with_queue(1, 60 * SECOND));
    let full = pool.connect(&client()).await.unwrap_err();
    assert!(
        full.to_string().contains("as many connections as allowed"),
        "{full}"
    );
    drop((first, second));
    waiting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_retired_pool_checks_its_servers_only_to_close_connections() {
    for (on_down, checks) in [(OnDown::Keep, false), (OnDown::Close, true)] {
        let servers = Servers::new(1);
        let pool = servers
            .pool()
            .with_health_check(every_second().with_on_down(on_down));
        let pool = pool.build([Servers::server(1)]);
        sleep(SECOND / 2).await;
        let _held = pool.connect(&client()).await.unwrap();
        pool.retire();
        let begun = servers.begun(1);
        sleep(10 * SECOND).await;
        assert_eq!(servers.begun(1) > begun, checks, "{on_down:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_server_that_returns_is_not_down_without_checks() {
    let servers = Servers::new(2);
    let pool = servers
        .pool()
        .with_health_check(every_second().with_fall(1));
    let pool = pool.build([1, 2].map(Servers::server));
    sleep(SECOND / 2).await;
    let held = [
        pool.connect(&client()).await.unwrap(),
        pool.connect(&client()).await.unwrap(),
    ];
    servers.set(1, Answer::Refuses);
    sleep(2 * SECOND).await;
    assert_eq!(states(&pool)[0], ServerState::Down);
    pool.replace([Servers::server(2)]);
    pool.reconfigure(servers.pool());
    pool.replace([Servers::server(1)]);
    assert_eq!(states(&pool)[0], ServerState::Up);
    assert!(pool.servers()[0].last_check.is_none());
    drop(held);
}

#[test]
fn checks_go_on_after_the_runtime_in_which_they_began() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    };
    let main = runtime();
    let servers = Servers::new(1);
    let pool = main.block_on(async { servers.pool().build([Servers::server(1)]) });
    let checked = servers.pool().with_health_check(every_second());
    runtime().block_on(async { pool.reconfigure(checked) });
    let begun = servers.begun(1);
    main.block_on(async {
        pool.replace([Servers::server(1)]);
        sleep(5 * SECOND).await;
    });
    assert!(servers.begun(1) >= begun + 4, "{} checks", servers.begun(1));
}

#[test]
fn the_servers_of_a_list_may_be_chosen_by_the_pool() {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let pool = Servers::new(2).pool().build([1, 2].map(Servers::server));
        let servers = [1, 2].map(Servers::server).into_iter();
        pool.replace(servers.filter(|_| pool.requests().is_empty()));
        sender.send(pool.servers().len()).unwrap();
    });
    assert_eq!(receiver.recv_timeout(5 * SECOND), Ok(2));
}

#[test]
fn a_replacement_that_panics_outside_of_a_runtime_changes_nothing() {
    let pool = Servers::new(2).pool().build([1, 2].map(Servers::server));
    pool.drain(&Servers::server(2).key());
    let name: Server = "db.internal:80".parse().unwrap();
    let replace = || pool.replace([name, Servers::server(1), Servers::server(2)]);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(replace)).unwrap_err();
    assert_eq!(states(&pool), [ServerState::Up, ServerState::Draining]);
    assert_eq!(pool.requests().len(), 1);
    assert!(pool.restore(&Servers::server(2).key()));
}

#[tokio::test(start_paused = true)]
async fn the_last_of_several_servers_of_one_name_takes_the_place_of_the_first() {
    let servers = Servers::new(4);
    let named = |number| Servers::server(number).with_name("a");
    let pool = servers.pool().build([named(1), Servers::server(4)]);
    pool.drain(&"a".into());
    pool.replace([named(2), Servers::server(4), named(3)]);
    let addresses = pool.servers().into_iter().map(|it| it.address);
    let addresses: Vec<_> = addresses.collect();
    assert_eq!(addresses, [3, 4].map(|it| Servers::address(it).into()));
    assert_eq!(states(&pool)[0], ServerState::Draining);
}
