//! Names that change, removed servers, and streams of changes.

use super::*;
use crate::connect::Connector;
use portcullis_middleware::{BoxError, connection::Phase};
use std::{
    io,
    sync::{Arc, Mutex},
};
use tokio::time::Instant;
use tower::discover::Change;

/// What the name server answers next.
#[derive(Clone)]
struct Names(Arc<Mutex<Result<Vec<usize>, io::ErrorKind>>>);

impl Names {
    fn new(numbers: &[usize]) -> Self {
        Self(Arc::new(Mutex::new(Ok(numbers.to_vec()))))
    }

    fn set(&self, answer: Result<&[usize], io::ErrorKind>) {
        *self.0.lock().unwrap() = answer.map(<[_]>::to_vec);
    }

    fn connector(&self) -> Connector {
        let names = self.clone();
        Connector::new().with_resolver(move |_, _| {
            let answer = names.0.lock().unwrap().clone();
            let addresses = |numbers: Vec<_>| numbers.into_iter().map(Servers::address).collect();
            std::future::ready(answer.map(addresses).map_err(Into::into))
        })
    }
}

fn keys(pool: &Pool) -> Vec<String> {
    let servers = pool.servers().into_iter();
    servers
        .map(|server| format!("{} {}", server.key, server.state.as_str()))
        .collect()
}

fn named(text: &str) -> Server {
    text.parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_addresses_of_a_name_are_followed() {
    let servers = Servers::new(3);
    let names = Names::new(&[2, 1]);
    let pool = servers
        .pool()
        .with_connector(names.connector())
        .build([named("db.internal:80")]);
    // The first connect waits for the first answer.
    let connection = pool.connect(&client()).await.unwrap();
    assert_eq!(
        keys(&pool),
        [
            "db.internal:80@192.0.2.1:80 up",
            "db.internal:80@192.0.2.2:80 up"
        ]
    );
    let first = pool
        .servers()
        .iter()
        .position(|server| server.connections == 1)
        .unwrap()
        + 1;

    // The server with the connection vanishes, and another one appears.
    let other = 3 - first;
    names.set(Ok(&[3, other]));
    tokio::time::sleep(34 * SECOND).await;
    let vanished = format!("db.internal:80@192.0.2.{first}:80 removed");
    assert_eq!(keys(&pool).last(), Some(&vanished));
    assert_eq!(pool.servers().len(), 3);
    assert_ne!(connection.info().phase(), Phase::Closed);
    drop(connection);
    assert_eq!(pool.servers().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_fails_keeps_the_last_one() {
    let servers = Servers::new(2);
    let names = Names::new(&[1]);
    let pool = servers
        .pool()
        .with_connector(names.connector())
        .build([named("db.internal:80")]);
    pool.connect(&client()).await.unwrap();
    for answer in [
        Err(io::ErrorKind::TimedOut),
        Ok(&[][..]),
        Err(io::ErrorKind::NotFound),
    ] {
        names.set(answer);
        tokio::time::sleep(60 * SECOND).await;
        pool.connect(&client()).await.unwrap();
    }
    // After a failure the name is soon resolved again.
    names.set(Ok(&[2]));
    tokio::time::sleep(6 * SECOND).await;
    assert_eq!(keys(&pool), ["db.internal:80@192.0.2.2:80 up"]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_was_never_resolved_is_no_server_and_delays_no_client() {
    let servers = Servers::new(1);
    let names = Names::new(&[]);
    let builder = servers.pool().with_connector(names.connector());
    let pool = builder.clone().build([named("db.internal:80")]);
    let begun = Instant::now();
    let error = pool.connect(&client()).await.unwrap_err();
    assert_eq!(error.reason(), NoBackendReason::NoneUsable);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let pool = builder.build([named("db.internal:80"), Servers::server(1)]);
    pool.connect(&client()).await.unwrap();

    let silent = Connector::new().with_resolver(|_, _| std::future::pending());
    let pool = servers
        .pool()
        .with_connector(silent)
        .build([named("db.internal:80")]);
    let begun = Instant::now();
    pool.connect(&client()).await.unwrap_err();
    assert_eq!(begun.elapsed(), 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_was_never_resolved_is_shown_with_the_reason() {
    let servers = Servers::new(1);
    let names = Names::new(&[]);
    let pool = servers.pool().with_connector(names.connector());
    let pool = pool.build([named("db.internal:80")]);
    // It is still being resolved.
    assert_eq!(keys(&pool), [""; 0]);
    let error = pool.connect(&client()).await.unwrap_err();
    let why = "not tried: db.internal:80 is unresolved (entity not found)";
    assert!(error.to_string().ends_with(why), "{error}");
    let key = ServerKey::from("db.internal:80");
    assert_eq!(error.untried(), [(key.clone(), ServerState::Unresolved)]);
    assert_eq!(keys(&pool), ["db.internal:80 unresolved"]);
    let shown = pool.servers()[0].error.clone();
    assert_eq!(shown.as_deref(), Some("entity not found"));

    assert!(pool.drain(&key));
    assert_eq!(keys(&pool), ["db.internal:80 draining"]);
    assert!(pool.undrain(&key) && !pool.drain(&"other".into()));
    names.set(Ok(&[1]));
    tokio::time::sleep(6 * SECOND).await;
    assert_eq!(keys(&pool), ["db.internal:80@192.0.2.1:80 up"]);
    // A later failure leaves it as it is.
    names.set(Ok(&[]));
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(keys(&pool), ["db.internal:80@192.0.2.1:80 up"]);
    assert_eq!(pool.servers()[0].error, None);
}

#[tokio::test(start_paused = true)]
async fn replaced_servers_keep_their_state_and_lose_what_was_removed() {
    let servers = Servers::new(3);
    let pool = servers.pool().build([1, 2].map(Servers::server));
    let kept = pool.connect(&client()).await.unwrap();
    let removed = pool.connect(&client()).await.unwrap();
    let first = |pool: &Pool| {
        pool.servers()
            .into_iter()
            .find(|server| server.connections == 1)
            .unwrap()
    };
    let key = first(&pool).key;
    let number = if key == Servers::server(1).key() {
        1
    } else {
        2
    };
    pool.replace([Servers::server(number).with_weight(7), Servers::server(3)]);
    let status = first(&pool);
    assert_eq!(
        (status.key, status.weight, status.connects),
        (key.clone(), 7, 1)
    );
    assert!(keys(&pool)[2].ends_with("removed"));

    // One that returns is the same again.
    pool.replace([1, 2].map(Servers::server));
    assert!(pool.servers().iter().all(|server| server.connections == 1));
    pool.replace([Servers::server(number)]);
    tokio::time::sleep(300 * SECOND - Duration::from_millis(1)).await;
    assert!(!removed.info().is_forced());
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert!(removed.info().is_forced() ^ kept.info().is_forced());
}

#[tokio::test(start_paused = true)]
async fn a_drained_server_keeps_its_connections_and_gets_no_new_ones() {
    let servers = Servers::new(2);
    let pool = servers.pool().build([1, 2].map(Servers::server));
    let connections = [
        pool.connect(&client()).await.unwrap(),
        pool.connect(&client()).await.unwrap(),
    ];
    let key = Servers::server(1).key();
    assert!(!pool.drain(&"other".into()));
    for (request, state) in [
        (
            Pool::drain as fn(&Pool, &ServerKey) -> bool,
            ServerState::Draining,
        ),
        (Pool::take_down, ServerState::TakenDown),
    ] {
        assert!(request(&pool, &key));
        assert_eq!(pool.servers()[0].state, state);
        let before = servers.begun(1);
        for _ in 0..10 {
            pool.connect(&client()).await.unwrap();
        }
        assert_eq!(servers.begun(1), before);
    }
    assert!(
        connections
            .iter()
            .all(|connection| !connection.info().is_forced())
    );
    assert!(pool.restore(&key));
    // It starts slowly.
    tokio::time::advance(30 * SECOND).await;
    for _ in 0..2 {
        pool.connect(&client()).await.unwrap();
    }
    assert!(servers.begun(1) > 1);
}

/// A stream of what is sent.
struct Changes(tokio::sync::mpsc::UnboundedReceiver<Item>);

type Item = Result<Change<ServerKey, Server>, BoxError>;

impl futures_core::Stream for Changes {
    type Item = Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Item>> {
        self.0.poll_recv(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_changes_is_followed() {
    let servers = Servers::new(2);
    let (sender, changes) = tokio::sync::mpsc::unbounded_channel();
    let pool = servers.pool().follow(Changes(changes));
    let insert = |number| {
        Ok(Change::Insert(
            ServerKey::from(format!("s{number}")),
            Servers::server(number),
        ))
    };
    let client = client();
    let mut waiting = tokio_test::task::spawn(pool.connect(&client));
    assert!(waiting.poll().is_pending());
    sender.send(insert(1)).unwrap();
    waiting.await.unwrap();
    sender.send(Err("the registry is down".into())).unwrap();
    sender.send(insert(2)).unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(keys(&pool), ["s1 up", "s2 up"]);
    sender.send(Ok(Change::Remove("s1".into()))).unwrap();
    drop(sender);
    tokio::time::sleep(SECOND).await;
    assert_eq!(keys(&pool), ["s2 up"]);

    let (sender, changes) = tokio::sync::mpsc::unbounded_channel();
    let pool = servers.pool().follow(Changes(changes));
    drop(sender);
    let begun = Instant::now();
    pool.connect(&client).await.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

/// A stream that panics where it should end.
struct Panicking(Changes);

impl futures_core::Stream for Panicking {
    type Item = Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Item>> {
        let polled = self.0.0.poll_recv(cx);
        polled.map(|item| Some(item.expect("a change")))
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_changes_that_panics_is_one_that_has_ended() {
    let servers = Servers::new(1);
    for inserts in [false, true] {
        let (sender, changes) = tokio::sync::mpsc::unbounded_channel();
        let pool = servers.pool().follow(Panicking(Changes(changes)));
        if inserts {
            let change = Change::Insert("s1".into(), Servers::server(1));
            sender.send(Ok(change)).unwrap();
        }
        drop(sender);
        let begun = Instant::now();
        let connected = pool.connect(&client()).await;
        assert_eq!(connected.is_ok(), inserts);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        tokio::time::sleep(SECOND).await;
        let expected: &[_] = if inserts { &["s1 up"] } else { &[] };
        assert_eq!(keys(&pool), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_end_with_the_last_clone() {
    let servers = Servers::new(1);
    let silent = Connector::new().with_resolver(|_, _| std::future::pending());
    let alive = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    for names in [Names::new(&[1]).connector(), silent] {
        let pool = servers
            .pool()
            .with_connector(names)
            .build([named("db.internal:80")]);
        let clone = pool.clone();
        drop(pool);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(alive(), 1);
        drop(clone);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(alive(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_given_to_another_host_keeps_no_address() {
    let servers = Servers::new(2);
    let connector = Connector::new().with_resolver(|host: String, _| {
        let number = if host == "a.internal" { 1 } else { 2 };
        std::future::ready(Ok(vec![Servers::address(number)]))
    });
    let pool = servers
        .pool()
        .with_connector(connector)
        .build([named("a.internal:80").with_name("db")]);
    pool.connect(&client()).await.unwrap();
    pool.replace([named("b.internal:80").with_name("db")]);
    pool.connect(&client()).await.unwrap();
    assert_eq!((servers.begun(1), servers.begun(2)), (1, 1));
    // The same one is not resolved again.
    pool.replace([named("b.internal:80").with_name("db").with_weight(7)]);
    assert_eq!(keys(&pool), ["db@192.0.2.2:80 up"]);
}

#[tokio::test(start_paused = true)]
async fn the_time_to_drain_begins_once() {
    let servers = Servers::new(3);
    let pool = servers.pool().build([1, 2].map(Servers::server));
    let connections = [
        pool.connect(&client()).await.unwrap(),
        pool.connect(&client()).await.unwrap(),
    ];
    let forced = || {
        connections
            .iter()
            .any(|connection| connection.info().is_forced())
    };
    pool.replace([Servers::server(1)]);
    tokio::time::sleep(200 * SECOND).await;
    pool.replace([1, 3].map(Servers::server));
    tokio::time::sleep(99 * SECOND).await;
    assert!(!forced());
    tokio::time::sleep(2 * SECOND).await;
    assert!(forced());
    let reasons = connections
        .iter()
        .filter_map(|connection| connection.info().forced_because());
    assert_eq!(reasons.collect::<Vec<_>>(), ["its server was removed"]);
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_ends_after_its_server_was_removed_goes_to_another() {
    let servers = Servers::new(2);
    servers.set(1, Answer::AcceptsAfter(2 * SECOND));
    let pool = servers.pool().with_drain_timeout(SECOND);
    let pool = pool.build([Servers::server(1)]);
    let client = client();
    let mut connecting = tokio_test::task::spawn(pool.connect(&client));
    assert!(connecting.poll().is_pending());
    let members = pool.0.members();
    pool.replace([Servers::server(2)]);
    let _connection = connecting.await.unwrap();
    assert_eq!(&*client.upstream().unwrap().server, "192.0.2.2:80");
    assert!(members[0].state.is_closing());
    // One that returns while it drains is used again.
    for _ in 0..2 {
        pool.replace([Servers::server(1)]);
        pool.connect(&client).await.unwrap();
        pool.replace([2, 1].map(Servers::server));
    }
}

fn states(pool: &Pool) -> Vec<&'static str> {
    let servers = pool.servers().into_iter();
    servers.map(|server| server.state.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_request_for_a_name_is_one_for_each_of_its_addresses() {
    let servers = Servers::new(3);
    let names = Names::new(&[1, 2]);
    let pool = servers
        .pool()
        .with_connector(names.connector())
        .build([named("db.internal:80"), Servers::server(3)]);
    tokio::time::sleep(SECOND).await;
    let name = ServerKey::from("db.internal:80");
    let shown = || states(&pool);
    assert!(pool.drain(&name));
    assert_eq!(shown(), ["draining", "draining", "up"]);
    let second = pool.servers()[1].key.clone();
    assert!(pool.restore(&second));
    assert_eq!(shown(), ["draining", "up", "up"]);
    // They vanish from one answer.
    names.set(Ok(&[3]));
    tokio::time::sleep(34 * SECOND).await;
    names.set(Ok(&[1, 2]));
    tokio::time::sleep(34 * SECOND).await;
    assert_eq!(shown(), ["draining", "up", "up"]);
    assert!(pool.restore(&name));
    assert_eq!(shown(), ["up"; 3]);
    let members = pool.0.members();
    assert_eq!(
        members[0].weight(pool.0.now(&pool.0.settings())),
        10_000,
        "it starts slowly"
    );
    assert_eq!(members[2].weight(pool.0.now(&pool.0.settings())), 100_000);
}

#[tokio::test(start_paused = true)]
async fn undrain_reverts_drain_and_nothing_else() {
    let servers = Servers::new(3);
    let names = Names::new(&[1, 2]);
    let pool = servers
        .pool()
        .with_connector(names.connector())
        .build([named("db.internal:80"), Servers::server(3)]);
    tokio::time::sleep(SECOND).await;
    let name = ServerKey::from("db.internal:80");
    let [first, second, third] = [0, 1, 2].map(|index| pool.servers()[index].key.clone());
    let shown = || states(&pool);
    assert!(!pool.undrain(&"other".into()));
    assert!(pool.take_down(&third) && pool.undrain(&third));
    assert_eq!(shown(), ["up", "up", "taken_down"]);
    assert!(pool.drain(&third) && pool.undrain(&third));
    assert_eq!(shown(), ["up"; 3]);

    // An address of a name, and the name.
    assert!(pool.drain(&name) && pool.take_down(&second) && pool.undrain(&first));
    assert_eq!(shown(), ["up", "taken_down", "up"]);
    assert!(pool.drain(&first) && pool.undrain(&name));
    assert_eq!(shown(), ["up", "taken_down", "up"]);
    assert_eq!(pool.requests(), [(second.clone(), ServerRequest::Down)]);
    assert!(pool.take_down(&name) && pool.undrain(&name) && pool.undrain(&first));
    assert_eq!(shown(), ["taken_down", "taken_down", "up"]);
    assert!(pool.drain(&first) && pool.undrain(&name));
    assert_eq!(shown(), ["taken_down", "taken_down", "up"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_requested_can_be_repeated_at_a_pool_that_is_still_to_resolve_names() {
    let servers = Servers::new(3);
    let pool = |names: &Names| {
        let pool = servers.pool().with_connector(names.connector());
        pool.build([named("db.internal:80"), Servers::server(3)])
    };
    let names = Names::new(&[1, 2]);
    let old = pool(&names);
    tokio::time::sleep(SECOND).await;
    assert_eq!(old.requests(), []);
    assert!(old.drain(&"db.internal:80".into()));
    assert!(old.restore(&"db.internal:80@192.0.2.1:80".into()));
    assert!(old.take_down(&Servers::server(3).key()));

    let new = pool(&names);
    for (server, request) in old.requests() {
        assert!(new.request(&server, request), "{server}");
    }
    assert!(!new.drain(&"db.intern@192.0.2.1:80".into()));
    tokio::time::sleep(SECOND).await;
    let expected = [
        "db.internal:80@192.0.2.1:80 up",
        "db.internal:80@192.0.2.2:80 draining",
        "192.0.2.3:80 taken_down",
    ];
    assert_eq!(keys(&new), expected);
    assert_eq!(new.requests(), old.requests());
    assert!(
        !new.drain(&"db.internal:80@192.0.2.9:80".into()),
        "it is resolved"
    );
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_panics_is_asked_again() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let servers = Servers::new(2);
    let calls = Arc::new(AtomicUsize::new(0));
    let connector = Connector::new().with_resolver(move |_, _| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        async move {
            match call {
                0 => Ok(vec![Servers::address(1)]),
                1 => panic!("once"),
                _ => Ok(vec![Servers::address(2)]),
            }
        }
    });
    let pool = servers.pool().with_connector(connector);
    let pool = pool.build([named("db.internal:80")]);
    tokio::time::sleep(35 * SECOND).await;
    assert_eq!(pool.servers()[0].address, Servers::address(1).into());
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(pool.servers()[0].address, Servers::address(2).into());
}

#[tokio::test(start_paused = true)]
async fn another_interval_applies_immediately() {
    let servers = Servers::new(2);
    let names = Names::new(&[1]);
    let pool = servers.pool().with_connector(names.connector());
    let pool = pool.with_resolve_interval(3_600 * SECOND);
    let pool = pool.build([named("db.internal:80")]);
    tokio::time::sleep(SECOND).await;
    names.set(Ok(&[2]));
    pool.reconfigure(servers.pool().with_resolve_interval(3_600 * SECOND));
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(pool.servers()[0].address, Servers::address(1).into());
    pool.reconfigure(servers.pool().with_resolve_interval(SECOND));
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(pool.servers()[0].address, Servers::address(2).into());
}
