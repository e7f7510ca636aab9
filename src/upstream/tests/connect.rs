use super::*;
use portcullis_middleware::error::{Elapsed, find};
use std::{io, sync::atomic::Ordering};
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_is_followed_by_the_next() {
    let servers = Servers::new(3);
    servers.set(1, Answer::Refuses);
    servers.set(2, Answer::Refuses);
    let pool = servers.pool().build([1, 2, 3].map(Servers::server));
    for _ in 0..100 {
        pool.connect(&client()).await.unwrap();
    }
    assert!(servers.begun(1) >= 1 && servers.begun(2) >= 1);
    assert_eq!(servers.begun(3), 100);
}

#[tokio::test(start_paused = true)]
async fn the_only_server_of_many_that_answers_is_reached_by_the_first_client() {
    let servers = Servers::new(32);
    (1..32).for_each(|number| servers.set(number, Answer::Refuses));
    let pool = servers.pool().with_balance(Balance::First);
    let pool = pool.build((1..=32).map(Servers::server));
    pool.connect(&client()).await.unwrap();
    assert!((1..=32).all(|number| servers.begun(number) == 1));
}

#[tokio::test(start_paused = true)]
async fn of_many_servers_that_refuse_32_are_tried_and_four_are_named() {
    let servers = Servers::new(40);
    (1..=40).for_each(|number| servers.set(number, Answer::Refuses));
    let pool = servers.pool().with_balance(Balance::First);
    let pool = pool.build((1..=40).map(Servers::server));
    let error = pool.connect(&client()).await.unwrap_err();
    assert_eq!(error.attempts().len(), 32);
    let text = error.to_string();
    assert!(text.contains(" and 28 more"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_costs_three_seconds() {
    let servers = Servers::new(2);
    servers.set(1, Answer::Hangs);
    let pool = servers.pool().with_balance(Balance::First);
    let pool = pool.build([1, 2].map(Servers::server));
    let begun = Instant::now();
    pool.connect(&client()).await.unwrap();
    assert_eq!(begun.elapsed(), 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_error_lists_what_was_tried_and_why_it_failed() {
    let servers = Servers::new(2);
    servers.set(1, Answer::Refuses);
    servers.set(2, Answer::Hangs);
    let pool = servers
        .pool()
        .with_balance(Balance::First)
        .with_name("shop");
    let pool = pool.build([1, 2].map(Servers::server));
    let error = pool.connect(&client()).await.unwrap_err();
    assert_eq!(error.reason(), NoBackendReason::AttemptsFailed);
    assert_eq!(error.attempts().len(), 2);
    assert_eq!(
        error.to_string(),
        "no backend in pool \"shop\": connect failed: 192.0.2.1:80: connection refused, \
         192.0.2.2:80: connect timed out after 3s"
    );
    let refused = error.attempts()[0]
        .error()
        .downcast_ref::<io::Error>()
        .unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert!(find::<Elapsed>(&error).is_some());

    let empty = servers.pool().build::<Server>([]);
    let error = empty.connect(&client()).await.unwrap_err();
    assert_eq!(error.reason(), NoBackendReason::NoneUsable);
    assert_eq!(error.to_string(), "no backend: no server can be used");
}

#[tokio::test(start_paused = true)]
async fn servers_are_tried_for_ten_seconds_or_as_many_as_allowed() {
    for (max, tried, took) in [
        (None, 4, 10 * SECOND),
        (Some(3), 3, 9 * SECOND),
        (Some(1), 1, 3 * SECOND),
    ] {
        let servers = Servers::new(5);
        (1..=5).for_each(|number| servers.set(number, Answer::Hangs));
        let pool = match max {
            Some(max) => servers.pool().with_max_attempts(max),
            None => servers.pool(),
        };
        let pool = pool.build((1..=5).map(Servers::server));
        let begun = Instant::now();
        let error = pool.connect(&client()).await.unwrap_err();
        assert_eq!((error.attempts().len(), begun.elapsed()), (tried, took));
        assert!(
            (1..=5).all(|number| servers.begun(number) <= 1),
            "none is tried twice"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_counts_from_the_attempt_until_it_is_dropped() {
    let servers = Servers::new(1);
    servers.set(1, Answer::AcceptsAfter(SECOND));
    let pool = servers.pool().build([Servers::server(1)]);
    let member = pool.0.members()[0].clone();
    let client = client();
    let mut connecting = tokio_test::task::spawn(pool.connect(&client));
    assert!(connecting.poll().is_pending());
    assert_eq!(member.state.count(), 1);
    tokio::time::advance(SECOND).await;
    let connection = connecting.await.unwrap();
    assert_eq!(member.state.count(), 1);
    drop(connection);
    assert_eq!(member.state.count(), 0);

    let mut dropped = tokio_test::task::spawn(pool.connect(&client));
    assert!(dropped.poll().is_pending());
    assert_eq!(member.state.count(), 1);
    drop(dropped);
    assert_eq!(member.state.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn backups_are_used_when_no_other_server_can_be() {
    let servers = Servers::new(3);
    let backup = Servers::server(3).with_backup(true);
    let all = [Servers::server(1), Servers::server(2), backup];
    let pool = servers.pool().build(all);
    for _ in 0..20 {
        drop(pool.connect(&client()).await.unwrap());
    }
    assert_eq!(servers.begun(3), 0);
    servers.set(1, Answer::Refuses);
    servers.set(2, Answer::Refuses);
    pool.connect(&client()).await.unwrap();
    assert_eq!(servers.begun(3), 1);
}

#[tokio::test(start_paused = true)]
async fn full_servers_have_no_candidates_although_a_backup_is_free() {
    let servers = Servers::new(3);
    let all = [
        Servers::server(1).with_max_connections(1),
        Servers::server(2).with_max_connections(1),
        Servers::server(3).with_backup(true),
    ];
    let pool = servers.pool().build(all);
    let candidates = || pool.candidates(&client()).len();
    assert_eq!(candidates(), 2);
    let first = pool.connect(&client()).await.unwrap();
    assert_eq!(candidates(), 1);
    let second = pool.connect(&client()).await.unwrap();
    assert_eq!(candidates(), 0);
    // A connect waits, too.
    assert!(pool.connect(&client()).await.is_err());
    assert_eq!(servers.begun(3), 0);
    drop((first, second));
    assert_eq!(candidates(), 2);
}

#[tokio::test(start_paused = true)]
async fn five_failures_in_a_row_eject_a_server_and_longer_each_time() {
    let servers = Servers::new(2);
    servers.set(1, Answer::Refuses);
    let pool = servers.pool().with_balance(Balance::First);
    let pool = pool.build([1, 2].map(Servers::server));
    for _ in 0..20 {
        pool.connect(&client()).await.unwrap();
    }
    assert_eq!(servers.begun(1), 5);
    for (seconds, tries) in [
        (10, 6),
        (20, 7),
        (40, 8),
        (80, 9),
        (160, 10),
        (300, 11),
        (300, 12),
    ] {
        tokio::time::advance(seconds * SECOND - Duration::from_millis(2)).await;
        pool.connect(&client()).await.unwrap();
        assert_eq!(servers.begun(1), tries - 1);
        tokio::time::advance(Duration::from_millis(3)).await;
        pool.connect(&client()).await.unwrap();
        pool.connect(&client()).await.unwrap();
        assert_eq!(servers.begun(1), tries);
    }
    // One success forgets them.
    servers.set(1, Answer::Accepts);
    tokio::time::advance(301 * SECOND).await;
    pool.connect(&client()).await.unwrap();
    servers.set(1, Answer::Refuses);
    for _ in 0..20 {
        pool.connect(&client()).await.unwrap();
    }
    assert_eq!(servers.begun(1), 12 + 1 + 5);
}

#[tokio::test(start_paused = true)]
async fn at_most_half_of_the_servers_are_ejected_and_those_are_the_last_resort() {
    let servers = Servers::new(3);
    (1..=3).for_each(|number| servers.set(number, Answer::Refuses));
    let pool = servers.pool().build((1..=3).map(Servers::server));
    for _ in 0..30 {
        pool.connect(&client()).await.unwrap_err();
    }
    let now = pool.0.clock.now();
    let is_ejected = |member: &member::Member| member.state.standing.is_ejected(now);
    let members = pool.0.members();
    let ejected: Vec<_> = members.iter().filter(|member| is_ejected(member)).collect();
    assert_eq!(ejected.len(), 1);
    let number = members
        .iter()
        .position(|member| is_ejected(member))
        .unwrap()
        + 1;
    servers.set(number, Answer::Accepts);
    pool.connect(&client()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_one_of_seven_that_lives_is_found() {
    for balance in BALANCES {
        let servers = Servers::new(7);
        (1..=6).for_each(|number| servers.set(number, Answer::Refuses));
        let pool = servers.pool().with_balance(balance);
        let pool = pool.build((1..=7).map(Servers::server));
        // Until each has been tried.
        for _ in 0..4 {
            let _failed = pool.connect(&client()).await;
        }
        let mut connections = Vec::new();
        for _ in 0..50 {
            connections.push(pool.connect(&client()).await.unwrap());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_backup_of_three_dead_servers_is_reached() {
    let servers = Servers::new(4);
    (1..=3).for_each(|number| servers.set(number, Answer::Refuses));
    let backup = Servers::server(4).with_backup(true);
    let pool = servers
        .pool()
        .build((1..=3).map(Servers::server).chain([backup]));
    let mut connections = Vec::new();
    for _ in 0..20 {
        connections.push(pool.connect(&client()).await.unwrap());
    }
    // The others are still tried, and found when they are back.
    (1..=3).for_each(|number| servers.set(number, Answer::Accepts));
    tokio::time::advance(11 * SECOND).await;
    let connection = pool.connect(&client()).await.unwrap();
    assert_eq!(servers.begun(4), 20, "{connection:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_failed_once_is_better_than_a_full_one() {
    let servers = Servers::new(3);
    let full = Servers::server(1).with_max_connections(1);
    let all = [full, Servers::server(2), Servers::server(3)];
    let pool = servers.pool().with_balance(Balance::First).build(all);
    let _held = pool.connect(&client()).await.unwrap();
    servers.set(2, Answer::Refuses);
    let failures = &pool.0.members()[2].state.failures_in_a_row;
    failures.store(1, Ordering::Relaxed);
    let begun = Instant::now();
    pool.connect(&client()).await.unwrap();
    assert_eq!((servers.begun(2), servers.begun(3)), (1, 1));
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_began_late_says_nothing_about_its_server() {
    let servers = Servers::new(1);
    servers.set(1, Answer::Hangs);
    for (bound, failures) in [(2_000, 0), (2_699, 0), (2_700, 1), (3_000, 1)] {
        let bound = Duration::from_millis(bound);
        let pool = servers.pool().with_timeout(bound);
        let pool = pool.build([Servers::server(1)]);
        let error = pool.connect(&client()).await.unwrap_err();
        assert_eq!(pool.servers()[0].connect_failures, failures);
        let text = format!("192.0.2.1:80: connect timed out after {bound:?}");
        assert!(error.to_string().ends_with(&text), "{error}");
    }
}

#[tokio::test]
async fn a_server_is_not_ejected_for_failures_that_a_success_has_ended_meanwhile() {
    let servers = Servers::new(2);
    let pool = servers.pool().build([1, 2].map(Servers::server));
    let member = pool.0.members()[0].clone();
    for _ in 0..3_000 {
        for _ in 0..4 {
            pool.0.failed(&member);
        }
        std::thread::scope(|scope| {
            scope.spawn(|| pool.0.failed(&member));
            scope.spawn(|| pool.0.succeeded(&member));
        });
        let is_ejected = member.state.standing.is_ejected(pool.0.clock.now());
        assert!(member.state.has_failed() || !is_ejected);
        pool.0.succeeded(&member);
    }
}

/// The fifth failure is recorded, and ejects only after others have succeeded and failed.
#[tokio::test]
async fn one_failure_after_a_success_does_not_eject_for_those_before() {
    let servers = Servers::new(2);
    let pool = servers.pool().build([1, 2].map(Servers::server));
    let member = pool.0.members()[0].clone();
    let state = &member.state;
    for _ in 0..4 {
        pool.0.failed(&member);
    }
    let ejecting = pool.0.ejecting.lock().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| pool.0.failed(&member));
        let recorded = || state.failures_in_a_row.load(Ordering::Relaxed) == 5;
        while !recorded() {
            std::thread::yield_now();
        }
        state.forget_failures(pool.0.clock.now());
        state.failures_in_a_row.store(1, Ordering::Relaxed);
        drop(ejecting);
    });
    assert!(!state.standing.is_ejected(pool.0.clock.now()));
}

#[tokio::test(start_paused = true)]
async fn an_ejection_that_ends_early_begins_the_slow_start() {
    let servers = Servers::new(2);
    let pool = servers.pool().with_balance(Balance::First);
    let pool = pool.build([1, 2].map(Servers::server));
    servers.set(1, Answer::AcceptsAfter(SECOND));
    let client = client();
    let mut slow = tokio_test::task::spawn(pool.connect(&client));
    assert!(slow.poll().is_pending());
    servers.set(1, Answer::Refuses);
    for _ in 0..5 {
        pool.connect(&client).await.unwrap();
    }
    let state = || pool.servers()[0].state;
    assert_eq!(state(), ServerState::Ejected(10 * SECOND));
    let _connection = slow.await.unwrap();
    assert_eq!(state(), ServerState::Up);
    let member = pool.0.members()[0].clone();
    for (seconds, weight) in [(0, 10_000), (15, 55_000), (15, 100_000)] {
        tokio::time::advance(seconds * SECOND).await;
        assert_eq!(member.weight(pool.0.now(&pool.0.settings())), weight);
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_ejections_holds_after_servers_were_removed() {
    let servers = Servers::new(4);
    (1..=2).for_each(|number| servers.set(number, Answer::Refuses));
    let pool = servers.pool().with_balance(Balance::First);
    let pool = pool.build((1..=4).map(Servers::server));
    for _ in 0..12 {
        pool.connect(&client()).await.unwrap();
    }
    let ejected = || {
        let servers = pool.servers().into_iter();
        let ejected = servers.filter(|each| matches!(each.state, ServerState::Ejected(_)));
        ejected.count()
    };
    for (left, expected) in [(4, 2), (3, 1), (2, 1), (1, 0)] {
        pool.replace((1..=left).map(Servers::server));
        assert_eq!(ejected(), expected, "of {left}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_duration_is_too_long_or_too_short() {
    let servers = Servers::new(2);
    let check = HealthCheck::tcp()
        .with_interval(Duration::MAX)
        .with_timeout(Duration::MAX);
    let longest = servers
        .pool()
        .with_timeout(Duration::MAX)
        .with_attempt_timeout(Duration::MAX)
        .with_queue(1, Duration::MAX)
        .with_resolve_interval(Duration::MAX)
        .with_ejection((1, Duration::MAX))
        .with_slow_start(Duration::MAX)
        .with_drain_timeout(Duration::MAX);
    servers.set(1, Answer::Refuses);
    let server = || Servers::server(2).with_max_connections(1);
    let pool = longest.build([Servers::server(1), server()]);
    let held = pool.connect(&client()).await.unwrap();
    let next = client();
    let mut waiting = tokio_test::task::spawn(pool.connect(&next));
    assert!(waiting.poll().is_pending());
    drop(held);
    waiting.await.unwrap();

    let none = check
        .clone()
        .with_interval(Duration::ZERO)
        .with_timeout(SECOND);
    for check in [check, none] {
        let pool = servers.pool().with_health_check(check).build([server()]);
        let before = servers.begun(2);
        tokio::time::sleep(SECOND).await;
        let checks = servers.begun(2) - before;
        assert!((1..=120).contains(&checks), "{checks}");
        drop(pool);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connect_to_the_old_address_says_nothing_about_the_new_one() {
    let named = |number: usize| Servers::server(number).with_name("db");
    // A failure does not eject it, and a success does not end its ejection.
    for (answer, ejected) in [
        (Answer::Hangs, false),
        (Answer::AcceptsAfter(2 * SECOND), true),
    ] {
        let servers = Servers::new(3);
        servers.set(1, answer);
        let pool = servers.pool().with_balance(Balance::First);
        let pool = pool.with_ejection((1, 60 * SECOND));
        let pool = pool.build([named(1), Servers::server(3)]);
        let client = client();
        let connecting = pool.connect(&client);
        let replaced = async {
            tokio::time::sleep(SECOND).await;
            pool.replace([named(2), Servers::server(3)]);
            if ejected {
                servers.set(2, Answer::Refuses);
                pool.connect(&client_at(1)).await.unwrap();
            }
        };
        let _both = tokio::join!(connecting, replaced);
        let is_ejected = matches!(pool.servers()[0].state, ServerState::Ejected(_));
        assert_eq!(is_ejected, ejected, "{answer:?}");
    }
}
