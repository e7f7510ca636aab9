//! Health checks and what they change, in paused time.

use super::{servers::BUFFER, *};
use tokio::time::{Instant, sleep};

fn states(pool: &Pool) -> Vec<ServerState> {
    pool.servers()
        .into_iter()
        .map(|server| server.state)
        .collect()
}

/// Long enough for one check, and too short for two.
const ONE_CHECK: Duration = Duration::from_millis(5_550);

#[tokio::test(start_paused = true)]
async fn three_failed_checks_take_a_server_down_and_two_bring_it_back() {
    let servers = Servers::new(2);
    let pool = servers.pool().with_health_check(HealthCheck::tcp());
    let pool = pool.build([1, 2].map(Servers::server));
    assert_eq!(states(&pool), [ServerState::Unknown; 2]);
    sleep(SECOND).await;
    assert_eq!(states(&pool), [ServerState::Up; 2]);

    let begun = Instant::now();
    servers.set(1, Answer::Refuses);
    while states(&pool)[0] == ServerState::Up {
        sleep(SECOND / 10).await;
    }
    // The second and the third failure come an interval after the one before.
    let took = begun.elapsed();
    assert!(took > 12 * SECOND && took < 16 * SECOND, "{took:?}");
    let last = pool.servers()[0].last_check.clone().unwrap();
    assert_eq!((last.passed, &*last.text), (false, "connection refused"));
    let before = servers.begun(1);
    for _ in 0..10 {
        pool.connect(&client()).await.unwrap();
    }
    assert_eq!(servers.begun(1), before);

    let begun = Instant::now();
    servers.set(1, Answer::Accepts);
    while states(&pool)[0] != ServerState::Up {
        sleep(SECOND / 10).await;
    }
    let took = begun.elapsed();
    assert!(took > 4 * SECOND && took < 11 * SECOND, "{took:?}");
    let last = pool.servers()[0].last_check.clone().unwrap();
    assert_eq!((last.passed, &*last.text), (true, "accepted a connection"));
}

#[tokio::test(start_paused = true)]
async fn a_check_that_panics_has_failed_and_is_followed_by_the_next() {
    let servers = Servers::new(2);
    servers.set(2, Answer::Panics);
    let pool = servers.pool().with_health_check(HealthCheck::tcp());
    let pool = pool.build([1, 2].map(Servers::server));
    sleep(SECOND).await;
    assert_eq!(states(&pool), [ServerState::Up, ServerState::Down]);

    servers.set(1, Answer::Panics);
    servers.set(2, Answer::Accepts);
    sleep(17 * SECOND).await;
    assert_eq!(states(&pool), [ServerState::Down, ServerState::Up]);
    let last = pool.servers()[0].last_check.clone().unwrap();
    let text = "the check panicked: no such \"key\"";
    assert_eq!((last.passed, &*last.text), (false, text));
    servers.set(1, Answer::Accepts);
    sleep(11 * SECOND).await;
    assert_eq!(states(&pool), [ServerState::Up; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_starts_after_the_pool_is_used_soon() {
    for late in [SECOND / 2, 10 * SECOND] {
        let servers = Servers::new(1);
        servers.set(1, Answer::Refuses);
        let pool = servers.pool().with_health_check(HealthCheck::tcp());
        let pool = pool.build([Servers::server(1)]);
        sleep(late).await;
        assert_eq!(states(&pool), [ServerState::Down]);
        // Pauses double up to the interval.
        let checks = servers.begun(1);
        let expected = if late < SECOND { 2..=3 } else { 6..=7 };
        assert!(expected.contains(&checks), "{checks}");
        servers.set(1, Answer::Accepts);
        sleep(late.min(ONE_CHECK)).await;
        assert_eq!(states(&pool), [ServerState::Up]);
        pool.connect(&client()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_shows_how_many_checks_bring_it_up_or_take_it_down() {
    let servers = Servers::new(1);
    let pool = servers.pool().with_health_check(HealthCheck::tcp());
    let pool = pool.build([Servers::server(1)]);
    sleep(SECOND).await;
    let shown = || {
        let server = &pool.servers()[0];
        (server.state, server.progress)
    };
    let (up, down) = (ServerState::Up, ServerState::Down);
    assert_eq!(shown(), (up, None));
    servers.set(1, Answer::Refuses);
    let mut seen = vec![shown()];
    let mut watch = async |checks: usize| {
        let until = servers.begun(1) + checks;
        while servers.begun(1) < until {
            sleep(SECOND / 10).await;
            if seen.last() != Some(&shown()) {
                seen.push(shown());
            }
        }
    };
    watch(3).await;
    servers.set(1, Answer::Accepts);
    watch(3).await;
    let expected = [
        (up, None),
        (up, Some((1, 3))),
        (up, Some((2, 3))),
        (down, None),
        (down, Some((1, 2))),
        (up, None),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn a_failure_between_successes_changes_nothing() {
    let servers = Servers::new(1);
    let check = HealthCheck::tcp().with_fall(2);
    let pool = servers
        .pool()
        .with_health_check(check)
        .build([Servers::server(1)]);
    sleep(SECOND).await;
    for _ in 0..5 {
        servers.set(1, Answer::Refuses);
        let before = servers.begun(1);
        while servers.begun(1) == before {
            sleep(SECOND / 10).await;
        }
        servers.set(1, Answer::Accepts);
        sleep(ONE_CHECK).await;
        assert_eq!(states(&pool), [ServerState::Up]);
    }
}

#[tokio::test(start_paused = true)]
async fn new_servers_are_used_after_their_first_success_or_while_all_are_new() {
    let servers = Servers::new(3);
    servers.set(1, Answer::AcceptsAfter(SECOND));
    servers.set(2, Answer::Hangs);
    let check = HealthCheck::tcp();
    let pool = servers
        .pool()
        .with_health_check(check)
        .with_balance(Balance::First);
    let pool = pool.build([1, 2].map(Servers::server));
    // All are new.
    let connection = pool.connect(&client()).await.unwrap();
    sleep(SECOND).await;
    // The first one is known to be up, the other one is still being checked.
    assert_eq!(states(&pool), [ServerState::Up, ServerState::Unknown]);
    servers.set(1, Answer::Refuses);
    let error = pool.connect(&client()).await.unwrap_err();
    assert_eq!(error.attempts().len(), 1);
    drop(connection);
    // Its first check alone takes it down.
    sleep(SECOND).await;
    assert_eq!(states(&pool)[1], ServerState::Down);

    pool.replace([Servers::server(3)]);
    pool.connect(&client()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_still_checked_is_used_until_another_has_passed() {
    let servers = Servers::new(2);
    servers.set(1, Answer::Refuses);
    servers.set(2, Answer::AcceptsAfter(SECOND));
    let pool = servers.pool().with_health_check(HealthCheck::tcp());
    let pool = pool.build([1, 2].map(Servers::server));
    sleep(SECOND / 2).await;
    assert_eq!(states(&pool), [ServerState::Down, ServerState::Unknown]);
    pool.connect(&client()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn when_all_are_down_connects_fail_unless_all_are_tried() {
    for last_resort in [false, true] {
        let servers = Servers::new(2);
        let check = HealthCheck::exchange("role?", "primary").with_timeout(SECOND);
        let pool = servers.pool().with_health_check(check);
        let pool = pool.with_unhealthy_as_last_resort(last_resort);
        let pool = pool.build([1, 2].map(Servers::server));
        sleep(2 * SECOND).await;
        assert_eq!(states(&pool), [ServerState::Down; 2]);
        let connected = pool.connect(&client()).await;
        assert_eq!(connected.is_ok(), last_resort);
        if let Err(error) = connected {
            assert_eq!(error.reason(), NoBackendReason::NoneUsable);
            let text = "no backend: no server can be used; not tried: 192.0.2.1:80 is down, 192.0.2.2:80 is down";
            assert_eq!(error.to_string(), text);
        }
        // They come back.
        servers.set(2, Answer::Sends("primary"));
        sleep(13 * SECOND).await;
        assert_eq!(states(&pool), [ServerState::Down, ServerState::Up]);
        pool.connect(&client()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_down_keeps_or_loses_its_connections() {
    for (on_down, closed) in [(OnDown::Keep, false), (OnDown::Close, true)] {
        let servers = Servers::new(2);
        let check = HealthCheck::tcp().with_on_down(on_down);
        let pool = servers
            .pool()
            .with_health_check(check)
            .build([1, 2].map(Servers::server));
        sleep(SECOND).await;
        let connections = [
            pool.connect(&client()).await.unwrap(),
            pool.connect(&client()).await.unwrap(),
        ];
        let forced = || {
            connections
                .iter()
                .filter(|each| each.info().is_forced())
                .count()
        };
        let reasons = || {
            let reasons = connections
                .iter()
                .filter_map(|each| each.info().forced_because());
            reasons.collect::<std::collections::BTreeSet<_>>()
        };
        servers.set(1, Answer::Refuses);
        sleep(17 * SECOND).await;
        assert_eq!(states(&pool)[0], ServerState::Down);
        assert_eq!(forced(), usize::from(closed));
        let failed = "its server has failed its health checks";
        assert_eq!(reasons().contains(failed), closed);
        // Also by hand, and while a connect is being made.
        servers.set(2, Answer::AcceptsAfter(SECOND));
        let client = client();
        let mut connecting = tokio_test::task::spawn(pool.connect(&client));
        assert!(connecting.poll().is_pending());
        assert!(pool.take_down(&Servers::server(2).key()));
        assert_eq!(forced(), 2 * usize::from(closed));
        assert_eq!(reasons().contains("its server was taken down"), closed);
        assert_eq!(connecting.await.is_err(), closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_times_out_and_delays_no_other() {
    let servers = Servers::new(2);
    servers.set(1, Answer::Hangs);
    let pool = servers.pool().with_health_check(HealthCheck::tcp());
    let pool = pool.build([1, 2].map(Servers::server));
    sleep(2 * SECOND - Duration::from_millis(1)).await;
    assert_eq!(states(&pool), [ServerState::Unknown, ServerState::Up]);
    sleep(Duration::from_millis(2)).await;
    assert_eq!(states(&pool), [ServerState::Down, ServerState::Up]);
    let last = pool.servers()[0].last_check.clone().unwrap();
    assert_eq!(last.text, "health check timed out after 2s");
    assert_eq!(last.took, 2 * SECOND);
    let before = servers.begun(2);
    sleep(60 * SECOND).await;
    let checks = servers.begun(2) - before;
    assert!((10..=14).contains(&checks), "{checks}");
}

#[tokio::test(start_paused = true)]
async fn hostile_servers_fail_their_checks_in_time_and_delay_no_other() {
    for (check, most) in [
        (HealthCheck::http("/"), 1024),
        (HealthCheck::exchange("PING\r\n", "+PONG"), 4 * 1024),
    ] {
        let servers = Servers::new(4);
        // The first one accepts, and never answers.
        servers.set(2, Answer::Drips);
        servers.set(3, Answer::Floods);
        servers.set(4, Answer::Sends("HTTP/1.1 200 +PONG\r\n"));
        let pool = servers.pool().with_health_check(check);
        let pool = pool.build([1, 2, 3, 4].map(Servers::server));
        sleep(2 * SECOND - Duration::from_millis(1)).await;
        let (unknown, down, up) = (ServerState::Unknown, ServerState::Down, ServerState::Up);
        assert_eq!(states(&pool), [unknown, unknown, down, up]);
        sleep(Duration::from_millis(2)).await;
        assert_eq!(states(&pool), [down, down, down, up]);
        let text = |index: usize| pool.servers()[index].last_check.clone().unwrap().text;
        for late in [0, 1] {
            assert_eq!(text(late), "health check timed out after 2s");
        }
        let flood = text(2);
        assert!(flood.starts_with("unexpected reply: HHH"), "{flood}");
        assert!(flood.len() < 100, "{flood}");
        let flooded = servers.flooded(3) / servers.begun(3);
        assert!((most..=most + BUFFER).contains(&flooded), "{flooded}");

        let before = servers.begun(4);
        sleep(60 * SECOND).await;
        let checks = servers.begun(4) - before;
        assert!((10..=14).contains(&checks), "{checks}");
    }
}

#[tokio::test(start_paused = true)]
async fn under_load_the_share_of_a_server_that_comes_back_grows_over_the_slow_start() {
    for balance in [Balance::RoundRobin, Balance::LeastConnections] {
        let servers = Servers::new(2);
        servers.set(1, Answer::Refuses);
        let check = HealthCheck::tcp().with_interval(SECOND).with_rise(1);
        let pool = servers.pool().with_health_check(check);
        let pool = pool.with_balance(balance);
        let pool = pool.build([1, 2].map(Servers::server));
        sleep(SECOND).await;
        servers.set(1, Answer::Accepts);
        while states(&pool)[0] != ServerState::Up {
            sleep(SECOND / 100).await;
        }
        // Each second 100 clients come, and each stays for a second.
        let mut open = std::collections::VecDeque::new();
        for slice in 0..7 {
            let made = |server: usize| pool.servers()[server].connects as f64;
            let before = [made(0), made(1)];
            for _ in 0..500 {
                open.push_back(pool.connect(&client()).await.unwrap());
                if open.len() > 100 {
                    open.pop_front();
                }
                sleep(SECOND / 100).await;
            }
            let [first, other] = [made(0) - before[0], made(1) - before[1]];
            // In the middle of these five seconds.
            let age = f64::from(slice) * 5.0 + 2.5;
            let weight = (0.1 + 0.9 * age / 30.0).min(1.0);
            let (share, expected) = (first / (first + other), weight / (weight + 1.0));
            let differ = (share - expected).abs();
            assert!(
                differ < 0.02,
                "{balance:?} at {age} s: {share} instead of {expected}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_comes_back_starts_slowly() {
    let servers = Servers::new(2);
    servers.set(1, Answer::Refuses);
    let check = HealthCheck::tcp().with_interval(SECOND).with_rise(1);
    let pool = servers
        .pool()
        .with_health_check(check)
        .build([1, 2].map(Servers::server));
    sleep(SECOND).await;
    assert_eq!(states(&pool), [ServerState::Down, ServerState::Up]);
    servers.set(1, Answer::Accepts);
    while states(&pool)[0] != ServerState::Up {
        sleep(SECOND / 100).await;
    }
    let mut connections = Vec::new();
    // A tenth of the weight, then half, then all.
    for (seconds, share) in [(0, 9), (15, 35), (15, 50)] {
        sleep(seconds * SECOND).await;
        connections.clear();
        for _ in 0..100 {
            connections.push(pool.connect(&client()).await.unwrap());
        }
        let first = pool.servers()[0].connections;
        assert!(first.abs_diff(share) <= 1, "{first} instead of {share}");
    }
}

#[tokio::test(start_paused = true)]
async fn checks_end_with_the_last_clone_and_with_their_server() {
    let servers = Servers::new(2);
    servers.set(1, Answer::Hangs);
    let alive = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let pool = servers.pool().with_health_check(HealthCheck::tcp());
    let pool = pool.build([1, 2].map(Servers::server));
    let clone = pool.clone();
    drop(pool);
    sleep(SECOND).await;
    assert_eq!(alive(), 2);
    clone.replace([Servers::server(2), Servers::server(1)]);
    sleep(SECOND).await;
    assert_eq!(alive(), 2);
    clone.replace([Servers::server(2)]);
    sleep(SECOND).await;
    assert_eq!(alive(), 1);
    let open = clone.connect(&client()).await.unwrap();
    drop(clone);
    sleep(SECOND).await;
    assert_eq!(alive(), 0);
    drop(open);
    let (first, second) = (servers.begun(1), servers.begun(2));
    sleep(60 * SECOND).await;
    assert_eq!((servers.begun(1), servers.begun(2)), (first, second));
}

#[test]
fn paths_and_hosts_cannot_contain_other_requests() {
    for path in ["", "health", "/a b", "/a\r\nx: y"] {
        assert!(
            std::panic::catch_unwind(|| HealthCheck::http(path)).is_err(),
            "{path:?}"
        );
    }
    let host = || HealthCheck::http("/").with_host("a\r\nx: y");
    assert!(std::panic::catch_unwind(host).is_err());
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn failures_of_this_machine_are_not_those_of_a_server() {
    let servers = Servers::new(2);
    let pool = servers.pool().with_health_check(HealthCheck::tcp());
    let pool = pool.build([1, 2].map(Servers::server));
    sleep(SECOND).await;
    servers.set(1, Answer::NoDescriptor);
    servers.set(2, Answer::NoAddress);
    for _ in 0..20 {
        let error = pool.connect(&client()).await.unwrap_err();
        assert_eq!(error.attempts().len(), 2);
    }
    sleep(60 * SECOND).await;
    assert_eq!(states(&pool), [ServerState::Up; 2]);
    for server in pool.servers() {
        let last = server.last_check.unwrap();
        assert!(!last.passed, "{}", last.text);
        assert_eq!(server.connect_failures, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_address_this_machine_cannot_reach_is_down() {
    let servers = Servers::new(1);
    servers.set(1, Answer::NoAddress);
    let pool = servers.pool().with_health_check(HealthCheck::tcp());
    let pool = pool.build([Servers::server(1).with_name("a")]);
    sleep(SECOND).await;
    assert_eq!(states(&pool), [ServerState::Down]);
    // What is known of an address says nothing about the next one.
    servers.set(1, Answer::Accepts);
    sleep(30 * SECOND).await;
    assert_eq!(states(&pool), [ServerState::Up]);
    servers.set(2, Answer::NoAddress);
    pool.replace([Servers::server(2).with_name("a")]);
    sleep(SECOND).await;
    assert_eq!(states(&pool), [ServerState::Down]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_checks_bring_back_is_ejected_as_if_for_the_first_time() {
    let servers = Servers::new(2);
    let pool = servers.pool().with_health_check(HealthCheck::tcp());
    let pool = pool.with_balance(Balance::First);
    let pool = pool.build([1, 2].map(Servers::server));
    sleep(SECOND).await;
    for _ in 0..2 {
        servers.set(1, Answer::Refuses);
        for _ in 0..5 {
            pool.connect(&client()).await.unwrap();
        }
        assert_eq!(states(&pool)[0], ServerState::Ejected(10 * SECOND));
        sleep(20 * SECOND).await;
        assert_eq!(states(&pool)[0], ServerState::Down);
        servers.set(1, Answer::Accepts);
        sleep(13 * SECOND).await;
        assert_eq!(states(&pool)[0], ServerState::Up);
    }
}

#[tokio::test(start_paused = true)]
async fn replaced_servers_are_checked_on_unless_their_address_changes() {
    let servers = Servers::new(3);
    let pool = servers.pool().with_health_check(HealthCheck::tcp());
    let first = |number| Servers::server(number).with_name("first");
    let pool = pool.build([first(1), Servers::server(2)]);
    sleep(SECOND).await;
    for weight in 1..10 {
        pool.replace([first(1).with_weight(weight), Servers::server(2)]);
        sleep(SECOND / 10).await;
    }
    assert_eq!((servers.begun(1), servers.begun(2)), (1, 1));
    sleep(60 * SECOND).await;
    assert!((11..=15).contains(&servers.begun(1)));

    servers.set(3, Answer::AcceptsAfter(SECOND));
    pool.replace([first(3), Servers::server(2)]);
    assert_eq!(states(&pool), [ServerState::Unknown, ServerState::Up]);
    assert!(pool.servers()[0].last_check.is_none());
    let before = servers.begun(1);
    sleep(2 * SECOND).await;
    assert_eq!(states(&pool), [ServerState::Up; 2]);
    assert_eq!((servers.begun(1), servers.begun(3)), (before, 1));
}

#[tokio::test(start_paused = true)]
async fn a_server_taken_down_keeps_no_connect_even_as_a_last_resort() {
    let servers = Servers::new(1);
    let check = HealthCheck::tcp().with_on_down(OnDown::Close);
    let pool = servers.pool().with_health_check(check);
    let pool = pool.with_unhealthy_as_last_resort(true);
    let pool = pool.build([Servers::server(1)]);
    sleep(SECOND).await;
    servers.set(1, Answer::AcceptsAfter(SECOND));
    let client = client();
    let mut connecting = tokio_test::task::spawn(pool.connect(&client));
    assert!(connecting.poll().is_pending());
    pool.take_down(&Servers::server(1).key());
    let error = connecting.await.unwrap_err();
    assert!(
        error.to_string().contains("the server went down"),
        "{error}"
    );
}

#[test]
fn what_a_check_sends_is_not_shown() {
    let check = HealthCheck::exchange("AUTH secret\r\n", "+OK");
    let shown = format!("{check:?}");
    assert!(
        shown.contains("13 bytes") && !shown.contains("65, 85, 84, 72"),
        "{shown}"
    );
}

#[expect(clippy::disallowed_methods, reason = "it holds a lock of the pool")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_of_the_old_address_says_nothing_about_the_new_one() {
    for is_replaced_first in [false, true] {
        let servers = Servers::new(2);
        servers.set(1, Answer::AcceptsAfter(SECOND / 20));
        servers.set(2, Answer::Hangs);
        let named = |number: usize| Servers::server(number).with_name("db");
        let pool = servers.pool().with_health_check(HealthCheck::tcp());
        let pool = pool.build([named(1)]);
        // The check, which has its result, and the replacement wait for each other.
        let judging = pool.0.judging.lock().unwrap();
        if !is_replaced_first {
            std::thread::sleep(SECOND / 5);
        }
        let replaced = tokio::task::spawn_blocking({
            let pool = pool.clone();
            move || pool.replace([named(2)])
        });
        std::thread::sleep(SECOND / 5);
        drop(judging);
        replaced.await.unwrap();
        sleep(SECOND / 10).await;
        assert_eq!(pool.servers()[0].state, ServerState::Unknown);
    }
}
