//! Clients that are forwarded through a pool to servers that fail in each way, in paused time.

use super::{
    failing::{Behavior, CHECK, Servers, State, address, byte},
    seeds::{Random, for_each_seed, start},
    *,
};
use crate::{
    connect::Connector,
    service::{ForwardService, forward::ForwardError},
    upstream::dial::Script,
};
use portcullis_middleware::{
    BoxError, Connection,
    connection::ForcedClose,
    error::{Unreachable, find},
};
use std::{
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, sleep, timeout},
};
use tower::Service;

const TIME: Duration = Duration::from_secs(60);
const CLIENTS: u32 = 24;

#[test]
fn bytes_are_exact_and_no_client_fails_where_a_server_answers() {
    let mut totals = Totals::default();
    let all = for_each_seed(scenario, |run| totals.add(run));
    println!("{totals:?}");
    if all {
        // The chaos is real, and the servers are useful all the same.
        assert!(
            totals.complete > 15_000 && totals.cut > 2_000 && totals.left > 500,
            "{totals:?}"
        );
        assert!(
            totals.unreachable > 1_000
                && totals.queued > 1_000
                && totals.waited > 2_000
                && totals.ejected > 10_000,
            "{totals:?}"
        );
    }
}

#[derive(Debug, Default)]
struct Totals {
    /// Everything came back.
    complete: u64,
    /// The server ended the connection early.
    cut: u64,
    /// The client lost its patience.
    left: u64,
    unreachable: u64,
    /// A moment, or more, passed before a server was connected to.
    waited: u64,
    /// Looks at which a server was ejected.
    ejected: u64,
    /// The same for clients in the queue.
    queued: u64,
}

impl Totals {
    fn add(&mut self, other: Self) {
        self.complete += other.complete;
        self.cut += other.cut;
        self.left += other.left;
        self.unreachable += other.unreachable;
        self.waited += other.waited;
        self.ejected += other.ejected;
        self.queued += other.queued;
    }
}

struct World {
    pool: Pool,
    servers: Servers,
    count: u64,
    /// The first server always echoes, and has no limit.
    has_steady: bool,
    keeps_on_down: bool,
    /// Of each server.
    cap: Option<usize>,
    totals: Mutex<Totals>,
}

async fn scenario(mut random: Random) -> Totals {
    let world = Rc::new(world(&mut random));
    let mut tasks = tokio::task::JoinSet::new();
    start(&mut tasks, &world, &mut random, servers_change);
    start(&mut tasks, &world, &mut random, all_fail_at_once);
    start(&mut tasks, &world, &mut random, the_name_changes);
    start(&mut tasks, &world, &mut random, observer);
    for number in 0..CLIENTS {
        start(&mut tasks, &world, &mut random, |world, random| {
            client(world, number, random)
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    for server in world.pool.servers() {
        assert_eq!(server.connections, 0, "{} has connections", server.key);
    }
    assert_eq!(world.pool.0.queue.len(), 0, "the queue is empty");
    let world = Rc::into_inner(world).unwrap();
    world.totals.into_inner().unwrap()
}

fn world(random: &mut Random) -> World {
    let has_steady = random.one_in(2);
    // Beside a steady one three others, so that each client reaches it in time also if they are silent.
    let count = 2 + random.below(if has_steady { 3 } else { 4 });
    let all: Vec<_> = (1..=count).map(address).collect();
    let servers = Servers(Arc::new(Mutex::new(State {
        behaviors: all.iter().map(|at| (*at, Behavior::Echoes)).collect(),
        named: all.clone(),
        finished: Vec::new(),
        begun: Instant::now(),
    })));
    let (opened, named) = (servers.clone(), servers.clone());
    let script = move |address: &ServerAddress| {
        let address = address.to_string().parse().unwrap();
        Box::pin(opened.clone().open(address)) as _
    };
    let connector = Connector::new()
        .with_resolver(move |_, _| std::future::ready(Ok(named.0.lock().unwrap().named.clone())));
    let mut builder = Pool::builder()
        .with_script(Script(Arc::new(script)))
        .with_connector(connector)
        .with_resolve_interval(3 * SECOND)
        .with_ejection((2, 5 * SECOND))
        .with_slow_start(random.time(20 * SECOND))
        .with_balance(BALANCES[random.below(4) as usize]);
    let keeps_on_down = random.one_in(2);
    let on_down = match keeps_on_down {
        true => OnDown::Keep,
        false => OnDown::Close,
    };
    let check = match random.below(3) {
        0 => None,
        // It connects, or hangs.
        1 => Some(HealthCheck::tcp()),
        // It also hangs at a silent server.
        _ => Some(HealthCheck::exchange(CHECK, CHECK)),
    };
    builder = builder.with_health_check(check.map(|check| check.with_on_down(on_down)));
    let cap = (!has_steady && random.one_in(2)).then(|| 1 + random.below(2) as usize);
    let pool = match random.one_in(2) {
        true => {
            let name: Server = "db.internal:80".parse().unwrap();
            builder.build([name.with_max_connections(cap)])
        }
        false => builder.build(
            all.iter()
                .map(|at| Server::from(*at).with_max_connections(cap)),
        ),
    };
    World {
        pool,
        servers,
        count,
        has_steady,
        keeps_on_down,
        cap,
        totals: Mutex::default(),
    }
}

impl World {
    fn count_seen(&self, ejected: usize, queued: usize) {
        let mut totals = self.totals.lock().unwrap();
        totals.ejected += ejected as u64;
        totals.queued += queued as u64;
    }

    /// A server that is not the steady one.
    fn other(&self, random: &mut Random) -> SocketAddr {
        let first = if self.has_steady { 2 } else { 1 };
        address(first + random.below(self.count + 1 - first))
    }
}

/// A client sends bytes, receives them back, and may leave early.
async fn client(world: Rc<World>, number: u32, mut random: Random) {
    sleep(random.time(TIME / 2)).await;
    let info = client_at(number);
    let (ours, theirs) = duplex(256);
    let connection = Connection::with_info(theirs, info.clone());
    let mut service = ForwardService::new(world.pool.clone());
    let begun = Instant::now();
    let forwarding = tokio::task::spawn_local(async move {
        let result = service.call(connection).await;
        (result, begun.elapsed())
    });
    let patience = random.time(30 * SECOND);
    let length = random.below(2000) as usize;
    let received = timeout(patience, talk(ours, number, length, random)).await;
    // A silent server ends by the limit of half-closed connections.
    let ended = timeout(patience + 80 * SECOND, forwarding).await;
    let (result, took) = ended.expect("the connection ends").unwrap();

    if let Some(upstream) = info.upstream() {
        let waited = upstream.connect_time;
        assert!(waited <= 10 * SECOND, "a connect took {waited:?}");
        world.totals.lock().unwrap().waited += u64::from(waited > Duration::ZERO);
    }
    let is_unreachable = |error: &BoxError| find::<Unreachable>(&**error).is_some();
    if result.as_ref().is_err_and(is_unreachable) {
        assert!(took <= 10 * SECOND, "a connect took {took:?}");
        assert!(
            !world.has_steady,
            "a server could have answered: {result:?}"
        );
        assert!(received.is_err() || received == Ok(0), "nothing answered");
        world.totals.lock().unwrap().unreachable += 1;
        return;
    }
    let is_forced = |error: &BoxError| find::<ForcedClose>(&**error).is_some();
    let is_finished = world.servers.0.lock().unwrap().finished.contains(&number);
    let mut totals = world.totals.lock().unwrap();
    match received {
        Err(_) => totals.left += 1,
        Ok(_) if result.as_ref().is_err_and(is_forced) => {
            assert!(!world.keeps_on_down, "nothing closes connections");
            totals.cut += 1;
        }
        // The server has seen the end of the client, so everything came back.
        Ok(received) if is_finished => {
            assert_eq!(received, length + 4, "{result:?}");
            let forwarded = result.expect("a complete connection does not fail");
            assert_eq!(forwarded.to_backend, length as u64 + 4);
            assert_eq!(forwarded.to_client, length as u64 + 4);
            totals.complete += 1;
        }
        Ok(_) => {
            if let Err(error) = &result {
                assert!(find::<ForwardError>(&**error).is_some(), "{error}");
            }
            totals.cut += 1;
        }
    }
}

/// Sends the number and `length` bytes. Returns how many of them came back before the end, in order.
async fn talk(io: DuplexStream, number: u32, length: usize, mut random: Random) -> usize {
    let (mut reader, mut writer) = tokio::io::split(io);
    let sending = async move {
        let mut sent = writer.write_all(&number.to_be_bytes()).await;
        let mut position = 0;
        while position < length && sent.is_ok() {
            let end = length.min(position + 1 + random.below(300) as usize);
            let piece: Vec<_> = (position..end).map(|at| byte(number, at)).collect();
            sent = writer.write_all(&piece).await;
            position = end;
            if random.one_in(4) {
                sleep(random.time(4 * SECOND)).await;
            }
        }
        let _gone = writer.shutdown().await;
    };
    let receiving = async move {
        let mut all = Vec::new();
        let _reset = reader.read_to_end(&mut all).await;
        let head = number.to_be_bytes();
        let expected = |at: usize| match at {
            0..4 => head[at],
            _ => byte(number, at - 4),
        };
        for (at, received) in all.iter().enumerate() {
            assert_eq!(*received, expected(at), "byte {at} at client {number}");
        }
        all.len()
    };
    tokio::join!(sending, receiving).1
}

async fn servers_change(world: Rc<World>, mut random: Random) {
    let end = Instant::now() + TIME;
    while Instant::now() < end {
        let server = world.other(&mut random);
        world.servers.set(server, random.behavior());
        sleep(random.time(4 * SECOND)).await;
    }
}

/// All servers but the steady one go down, and come back.
async fn all_fail_at_once(world: Rc<World>, mut random: Random) {
    sleep(random.time(TIME)).await;
    let first = if world.has_steady { 2 } else { 1 };
    for behavior in [Behavior::Refuses, Behavior::Echoes] {
        for number in first..=world.count {
            world.servers.set(address(number), behavior);
        }
        sleep(random.time(10 * SECOND)).await;
    }
}

/// Servers leave the answers of the name, and return. Some answers are empty, which counts as failed.
async fn the_name_changes(world: Rc<World>, mut random: Random) {
    let end = Instant::now() + TIME;
    while Instant::now() < end {
        sleep(random.time(10 * SECOND)).await;
        let mut named: Vec<_> = (1..=world.count).map(address).collect();
        named.retain(|at| (world.has_steady && *at == address(1)) || !random.one_in(3));
        world.servers.0.lock().unwrap().named = named;
    }
}

/// Checks what must hold at any time.
async fn observer(world: Rc<World>, _: Random) {
    let end = Instant::now() + TIME + 100 * SECOND;
    while Instant::now() < end {
        let now = world.pool.0.clock.now();
        let members = world.pool.0.members();
        let is_ejected = |member: &&Arc<_>| is_ejected(member, now);
        let ejected = members.iter().filter(is_ejected).count();
        assert!(
            ejected * 2 <= members.len(),
            "{ejected} of {}",
            members.len()
        );
        world.count_seen(ejected, world.pool.0.queue.len());
        let cap = world.cap.unwrap_or(usize::MAX);
        for server in world.pool.servers() {
            assert!(server.connections <= cap, "{}: more than {cap}", server.key);
        }
        sleep(Duration::from_millis(500)).await;
    }
}

fn is_ejected(member: &member::Member, now: standing::Millis) -> bool {
    member.state.standing.is_ejected(now)
}
