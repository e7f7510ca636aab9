//! Tests of the order and timing of attempts, with scripted attempts.

use super::*;
use crate::connect::{phase, race::interleave};
use portcullis_middleware::error::{Elapsed, find};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};

/// A test that waits longer fails instead of hanging.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// The script of attempts, the time of each in milliseconds, and the number of running attempts.
struct Script {
    begun: Instant,
    answers: HashMap<SocketAddr, (u64, io::Result<()>)>,
    tried: RefCell<Vec<(u64, SocketAddr)>>,
    alive: Cell<usize>,
}

impl Script {
    /// Addresses answer after a number of milliseconds; addresses that are missing stay silent.
    fn new<'a>(answers: impl IntoIterator<Item = (&'a str, u64, io::Result<()>)>) -> Self {
        let answers = answers.into_iter();
        let answers =
            answers.map(|(address, after, with)| (address.parse().unwrap(), (after, with)));
        Self {
            begun: Instant::now(),
            answers: answers.collect(),
            tried: RefCell::default(),
            alive: Cell::new(0),
        }
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_millis().try_into().unwrap()
    }

    async fn attempt(&self, address: SocketAddr) -> io::Result<()> {
        self.tried.borrow_mut().push((self.now(), address));
        self.alive.set(self.alive.get() + 1);
        let _alive = Alive(&self.alive);
        let Some((after, with)) = self.answers.get(&address) else {
            return std::future::pending().await;
        };
        sleep(Duration::from_millis(*after)).await;
        with.as_ref().map_err(|error| error.kind().into()).copied()
    }

    async fn run(&self, connector: &Connector) -> Result<SocketAddr, ConnectError> {
        let target = named();
        let reached = connector.reach(&target, |address| self.attempt(address));
        let reached = timeout(WEEK, reached).await.expect("it ends");
        reached.map(|(address, ())| address)
    }

    /// The milliseconds at which attempts began, in the order of `addresses`.
    fn tried(&self, addresses: &[SocketAddr]) -> Vec<u64> {
        let tried = self.tried.borrow();
        let order: Vec<_> = tried.iter().map(|(_, address)| *address).collect();
        assert_eq!(order, addresses[..order.len()]);
        tried.iter().map(|(at, _)| *at).collect()
    }
}

struct Alive<'a>(&'a Cell<usize>);

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

fn fails(kind: io::ErrorKind) -> io::Result<()> {
    Err(kind.into())
}

#[test]
fn families_alternate_beginning_with_the_preferred_one() {
    let given = addresses([V6[0], V6[1], V6[2], V4[0], V4[1]]);
    let expected = addresses([V6[0], V4[0], V6[1], V4[1], V6[2]]);
    assert_eq!(interleave(given), expected);
    let given = addresses([V4[0], V4[1], V6[0]]);
    assert_eq!(interleave(given), addresses([V4[0], V6[0], V4[1]]));
    assert_eq!(interleave(addresses(V4)), addresses(V4));
    assert_eq!(interleave(Vec::new()), Vec::new());
}

#[test]
fn an_address_that_is_there_twice_is_tried_once() {
    let given = addresses([V4[0], V6[0], V4[0], V6[0], V4[1]]);
    assert_eq!(interleave(given), addresses([V4[0], V6[0], V4[1]]));
}

#[tokio::test(start_paused = true)]
async fn a_silent_first_address_costs_a_quarter_of_a_second() {
    let order = addresses([V6[0], V4[0]]);
    let script = Script::new([(V4[0], 5, Ok(()))]);
    let won = script.run(&resolving_to(order.clone())).await.unwrap();
    assert_eq!(won, order[1]);
    assert_eq!(script.tried(&order), [0, 250]);
    assert_eq!(script.now(), 255);
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_time_is_the_only_attempt() {
    let order = addresses([V6[0], V4[0]]);
    let connector = resolving_to(order.clone());
    for (after, expected) in [(249, &[0][..]), (250, &[0]), (251, &[0, 250])] {
        let script = Script::new([(V6[0], after, Ok(()))]);
        // Slow as it is, the first attempt may still win.
        assert_eq!(script.run(&connector).await.unwrap(), order[0]);
        assert_eq!(script.tried(&order), expected);
        assert_eq!(script.now(), after);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_starts_the_next_attempt_at_once() {
    let order = addresses([V6[0], V4[0], V6[1], V4[1]]);
    let script = Script::new([
        (V6[0], 0, fails(io::ErrorKind::NetworkUnreachable)),
        (V4[0], 100, fails(io::ErrorKind::ConnectionRefused)),
        (V4[1], 0, Ok(())),
    ]);
    let won = script.run(&resolving_to(order.clone())).await.unwrap();
    assert_eq!(won, order[3]);
    // The delay counts from the last attempt instead of the first.
    assert_eq!(script.tried(&order), [0, 0, 100, 350]);
}

#[tokio::test(start_paused = true)]
async fn a_late_failure_starts_the_next_attempt_too() {
    let order = addresses([V6[0], V4[0], V6[1]]);
    let script = Script::new([
        (V6[0], 300, fails(io::ErrorKind::ConnectionRefused)),
        (V6[1], 0, Ok(())),
    ]);
    script.run(&resolving_to(order.clone())).await.unwrap();
    assert_eq!(script.tried(&order), [0, 250, 300]);
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_all_are_listed() {
    let order = addresses([V6[0], V4[0], V6[1]]);
    let script = Script::new([
        (V6[0], 900, fails(io::ErrorKind::HostUnreachable)),
        (V4[0], 0, fails(io::ErrorKind::ConnectionRefused)),
        (V6[1], 0, fails(io::ErrorKind::NetworkUnreachable)),
    ]);
    let error = script.run(&resolving_to(order.clone())).await.unwrap_err();
    let tried: Vec<_> = error.attempts().iter().map(Attempt::address).collect();
    assert_eq!(tried, [order[1], order[2], order[0]]);
    let expected = [
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::NetworkUnreachable,
        io::ErrorKind::HostUnreachable,
    ];
    assert_eq!(kinds(&error), expected);
    assert!(error.is_refused());
    assert_eq!(
        (error.step(), error.target()),
        ("connect", "host.invalid:80")
    );
    assert_eq!(script.now(), 900);
}

#[tokio::test(start_paused = true)]
async fn the_time_is_for_all_addresses_together() {
    let order = addresses([V6[0], V4[0], V6[1]]);
    let script = Script::new([(V4[0], 0, fails(io::ErrorKind::ConnectionRefused))]);
    let connector = resolving_to(order.clone()).with_timeout(Duration::from_secs(2));
    let error = script.run(&connector).await.unwrap_err();
    assert_eq!(script.now(), 2000);
    assert!(error.is_timeout() && !error.is_refused());
    let refused = io::ErrorKind::ConnectionRefused;
    let timed_out = io::ErrorKind::TimedOut;
    assert_eq!(kinds(&error), [refused, timed_out, timed_out]);
    assert_eq!(error.attempts()[1].address(), order[0]);
    let elapsed = Elapsed::new(phase::CONNECT, Duration::from_secs(2));
    assert_eq!(find::<Elapsed>(&error), Some(&elapsed));
    assert_eq!(script.alive.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn names_and_addresses_share_ten_seconds() {
    let slow_names = Connector::new().with_resolver(|_, _| async {
        sleep(Duration::from_secs(6)).await;
        Ok(addresses([V4[0]]))
    });
    let script = Script::new([(V4[0], 4000, Ok(()))]);
    script.run(&slow_names).await.unwrap();
    assert_eq!(script.now(), 10_000);

    let script = Script::new([(V4[0], 4001, Ok(()))]);
    let error = script.run(&slow_names).await.unwrap_err();
    assert!(error.is_timeout());
    assert_eq!((script.now(), error.step()), (10_000, "connect"));
}

#[tokio::test(start_paused = true)]
async fn names_that_take_too_long_are_told_apart() {
    let no_names = Connector::new().with_resolver(|_, _| std::future::pending());
    let script = Script::new([]);
    let error = script.run(&no_names).await.unwrap_err();
    assert!(error.is_timeout() && !error.is_unknown_host());
    assert_eq!((script.now(), error.step()), (10_000, "resolve"));
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::TimedOut);
}

#[test]
fn settings_can_be_read_back() {
    let connector = Connector::new();
    let defaults = (connector.timeout(), connector.fallback_delay());
    let expected = (Duration::from_secs(10), Duration::from_millis(250));
    assert_eq!(defaults, (Some(expected.0), expected.1));
    assert!(connector.nodelay() && connector.keepalive().is_some());
    let minute = Duration::from_secs(60);
    assert_eq!(connector.user_timeout(), Some(minute * 2));
    assert_eq!(connector.local_address(), None);
    let buffers = |it: &Connector| (it.recv_buffer_size(), it.send_buffer_size());
    assert_eq!(buffers(&connector), (None, None));
    let connector = connector
        .with_timeout(None)
        .with_fallback_delay(Duration::MAX)
        .with_nodelay(false)
        .with_keepalive(None);
    let settings = (connector.timeout(), connector.fallback_delay());
    assert_eq!(settings, (None, Duration::MAX));
    assert!(!connector.nodelay() && connector.keepalive().is_none());
    assert_eq!(connector.user_timeout(), None);
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    let connector = connector
        .with_user_timeout(minute)
        .with_local_address(local)
        .with_recv_buffer_size(12_000)
        .with_send_buffer_size(16_000);
    assert_eq!(connector.user_timeout(), Some(minute));
    assert_eq!(connector.local_address(), Some(local));
    assert_eq!(buffers(&connector), (Some(12_000), Some(16_000)));
}

#[tokio::test(start_paused = true)]
async fn what_a_resolver_reports_is_kept() {
    use io::ErrorKind::*;
    let script = Script::new([]);
    for kind in [
        TimedOut,
        PermissionDenied,
        ConnectionRefused,
        Interrupted,
        Other,
        NotFound,
    ] {
        let resolver = Connector::new().with_resolver(move |_, _| async move { Err(kind.into()) });
        let error = script.run(&resolver).await.unwrap_err();
        assert_eq!((error.step(), error.kind()), ("resolve", kind));
        assert_eq!(error.is_unknown_host(), kind == NotFound, "{error}");
        assert_eq!(error.is_timeout(), kind == TimedOut, "{error}");
        let suspect = if kind == NotFound { "name" } else { "resolver" };
        assert!(
            error.to_string().contains(&format!("check the {suspect}")),
            "{error}"
        );
    }
    let no_address = script.run(&resolving_to(vec![])).await.unwrap_err();
    assert!(no_address.is_unknown_host());
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn a_resolver_that_misses_a_file_knows_nothing_of_the_name() {
    let resolver = Connector::new()
        .with_resolver(|_, _| async { Err(io::Error::from_raw_os_error(libc::ENOENT)) });
    let error = Script::new([]).run(&resolver).await.unwrap_err();
    assert!(!error.is_unknown_host(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn without_a_bound_only_an_answer_ends_it() {
    let day = 86_400_000;
    let order = addresses([V6[0], V4[0]]);
    for bound in [None, Some(Duration::MAX)] {
        let connector = resolving_to(order.clone()).with_timeout(bound);
        let script = Script::new([(V6[0], day, Ok(()))]);
        script.run(&connector).await.unwrap();
        assert_eq!(script.now(), day);
    }
}

#[tokio::test(start_paused = true)]
async fn the_delay_goes_from_all_at_once_to_one_after_the_other() {
    let order = addresses([V6[0], V4[0], V6[1]]);
    let answers = || {
        [
            (V6[0], 50, fails(io::ErrorKind::ConnectionRefused)),
            (V4[0], 50, fails(io::ErrorKind::ConnectionRefused)),
            (V6[1], 50, Ok(())),
        ]
    };
    let connector = resolving_to(order.clone());
    for (delay, expected) in [(Duration::ZERO, [0, 0, 0]), (Duration::MAX, [0, 50, 100])] {
        let script = Script::new(answers());
        let connector = connector.clone().with_fallback_delay(delay);
        assert_eq!(script.run(&connector).await.unwrap(), order[2]);
        assert_eq!(script.tried(&order), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn the_winner_ends_the_other_attempts() {
    let order = addresses([V6[0], V4[0], V6[1]]);
    let script = Script::new([(V6[1], 10, Ok(()))]);
    let connector = resolving_to(order.clone());
    let target = named();
    let mut reach = Box::pin(connector.reach(&target, |address| script.attempt(address)));
    let before = async {
        sleep(Duration::from_millis(505)).await;
        script.alive.get()
    };
    let (won, alive) = tokio::join!(&mut reach, before);
    assert_eq!((won.unwrap().0, alive), (order[2], 3));
    // The finished future itself still exists.
    assert_eq!(script.alive.get(), 0);
    drop(reach);
}

#[tokio::test(start_paused = true)]
async fn who_no_longer_waits_ends_all_attempts() {
    let script = Script::new([]);
    let connector = resolving_to(addresses([V6[0], V4[0]]));
    {
        let run = script.run(&connector);
        let given_up = timeout(Duration::from_millis(300), run).await;
        assert!(given_up.is_err());
    }
    assert_eq!(script.tried.borrow().len(), 2);
    assert_eq!(script.alive.get(), 0);
}
