//! Pools under random servers, clients and operators, in paused time.

use super::{
    seeds::{Random, for_each_seed, start},
    *,
};
use std::{
    collections::HashMap,
    rc::Rc,
    sync::{Arc, Mutex},
};
use tokio::time::{Instant, sleep, timeout};

const TIME: Duration = Duration::from_secs(60);

#[test]
fn counts_are_exact_caps_hold_and_a_usable_server_is_found() {
    let mut totals = Totals::default();
    let all = for_each_seed(scenario, |run| totals.add(run));
    println!("{totals:?}");
    if all {
        // The chaos is real, and the servers are useful all the same.
        assert!(
            totals.connected > 20_000 && totals.failed > 1_000,
            "{totals:?}"
        );
        assert!(
            totals.cancelled > 1_000 && totals.ejections > 100,
            "{totals:?}"
        );
        assert!(totals.closed > 100 && totals.down > 100, "{totals:?}");
    }
}

#[derive(Debug, Default)]
struct Totals {
    connected: u64,
    failed: u64,
    cancelled: u64,
    ejections: u64,
    down: u64,
    closed: u64,
}

impl Totals {
    fn add(&mut self, other: Self) {
        self.connected += other.connected;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.ejections += other.ejections;
        self.down += other.down;
        self.closed += other.closed;
    }
}

impl Random {
    fn answer(&mut self) -> Answer {
        match self.below(6) {
            0 => Answer::Refuses,
            1 => Answer::Hangs,
            2 => Answer::AcceptsAfter(self.time(4 * SECOND)),
            _ => Answer::Accepts,
        }
    }
}

/// What the servers of one run are, and what is observed of them.
struct World {
    pool: Pool,
    servers: Servers,
    count: usize,
    /// One server always accepts, has no limit, and is left alone, so no connect may fail.
    has_steady: bool,
    caps: HashMap<ServerKey, usize>,
    all: Vec<Server>,
    /// The connections that clients hold.
    held: Arc<Mutex<HashMap<ServerKey, usize>>>,
    totals: Mutex<Totals>,
}

async fn scenario(mut random: Random) -> Totals {
    let world = Rc::new(world(&mut random));
    let mut tasks = tokio::task::JoinSet::new();
    start(&mut tasks, &world, &mut random, servers_change);
    start(&mut tasks, &world, &mut random, operator);
    start(&mut tasks, &world, &mut random, observer);
    for number in 0..60 {
        start(&mut tasks, &world, &mut random, |world, random| {
            clients(world, number, random)
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    at_the_end(&world).await;
    let world = Rc::into_inner(world).unwrap();
    let queued = world.pool.0.queue.len();
    assert_eq!(queued, 0, "the queue is empty");
    world.totals.into_inner().unwrap()
}

fn world(random: &mut Random) -> World {
    let has_steady = random.one_in(2);
    let count = 2 + random.below(if has_steady { 2 } else { 6 }) as usize;
    let servers = Servers::new(count);
    let mut builder = servers
        .pool()
        .with_balance(BALANCES[random.below(4) as usize]);
    if random.one_in(2) {
        let on_down = if random.one_in(2) {
            OnDown::Close
        } else {
            OnDown::Keep
        };
        builder = builder.with_health_check(HealthCheck::tcp().with_on_down(on_down));
    }
    let mut caps = HashMap::new();
    let server = |number| {
        let server = Servers::server(number);
        if has_steady && number == 1 {
            return server;
        }
        let server = server
            .with_weight(1 + random.below(200) as u16)
            .with_backup(random.one_in(4));
        if random.one_in(2) {
            let cap = 1 + random.below(5) as usize;
            caps.insert(server.key(), cap);
            return server.with_max_connections(cap);
        }
        server
    };
    let all: Vec<_> = (1..=count).map(server).collect();
    World {
        pool: builder.build(all.clone()),
        all,
        servers,
        count,
        has_steady,
        caps,
        held: Arc::default(),
        totals: Mutex::default(),
    }
}

/// A client connects, holds the connection for a time, and may leave early.
async fn clients(world: Rc<World>, number: u32, mut random: Random) {
    sleep(random.time(TIME)).await;
    let client = client_at(number);
    let begun = Instant::now();
    let patience = if random.one_in(5) {
        random.time(3 * SECOND)
    } else {
        TIME
    };
    let Ok(connected) = timeout(patience, world.pool.connect(&client)).await else {
        world.totals.lock().unwrap().cancelled += 1;
        return;
    };
    assert!(
        begun.elapsed() <= 10 * SECOND,
        "a connect took {:?}",
        begun.elapsed()
    );
    let connection = match connected {
        Ok(connection) => connection,
        Err(error) => {
            assert!(!world.has_steady, "a server was usable: {error}");
            world.totals.lock().unwrap().failed += 1;
            return;
        }
    };
    world.totals.lock().unwrap().connected += 1;
    let key = ServerKey::from(&*client.upstream().unwrap().server);
    *world.held.lock().unwrap().entry(key.clone()).or_default() += 1;
    let stay = random.time(20 * SECOND);
    let closed = timeout(stay, connection.info().closed()).await.is_ok();
    world.totals.lock().unwrap().closed += u64::from(closed);
    *world.held.lock().unwrap().get_mut(&key).unwrap() -= 1;
    drop(connection);
}

async fn servers_change(world: Rc<World>, mut random: Random) {
    let end = Instant::now() + TIME;
    let first = if world.has_steady { 2 } else { 1 };
    while Instant::now() < end {
        let number = first + random.below((world.count + 1 - first) as u64) as usize;
        world.servers.set(number, random.answer());
        sleep(random.time(4 * SECOND)).await;
    }
}

async fn operator(world: Rc<World>, mut random: Random) {
    let end = Instant::now() + TIME;
    let first = if world.has_steady { 2 } else { 1 };
    while Instant::now() < end {
        sleep(random.time(20 * SECOND)).await;
        let number = first + random.below((world.count + 1 - first) as u64) as usize;
        let key = Servers::server(number).key();
        match random.below(4) {
            0 => world.pool.drain(&key),
            1 => world.pool.take_down(&key),
            2 => world.pool.restore(&key),
            _ => {
                let mut kept = world.all.clone();
                kept.retain(|server| {
                    let is_steady = world.has_steady && server.key() == Servers::server(1).key();
                    is_steady || !random.one_in(4)
                });
                world.pool.replace(kept);
                continue;
            }
        };
    }
}

/// Checks what must hold at any time.
async fn observer(world: Rc<World>, _: Random) {
    let end = Instant::now() + TIME + 40 * SECOND;
    let mut before = HashMap::new();
    while Instant::now() < end {
        let servers = world.pool.servers();
        let is_ejected = |server: &&ServerStatus| matches!(server.state, ServerState::Ejected(_));
        let now = world.pool.0.clock.now();
        let members = world.pool.0.members();
        let ejected = members
            .iter()
            .filter(|each| each.state.standing.is_ejected(now))
            .count();
        assert!(
            ejected * 2 <= members.len(),
            "{ejected} of {} are ejected",
            members.len()
        );
        for server in &servers {
            let held = world
                .held
                .lock()
                .unwrap()
                .get(&server.key)
                .copied()
                .unwrap_or(0);
            assert!(held <= server.connections, "{}: {held} held", server.key);
            let cap = world.caps.get(&server.key).copied().unwrap_or(usize::MAX);
            assert!(server.connections <= cap, "{}: more than {cap}", server.key);
            let mut totals = world.totals.lock().unwrap();
            let state = before.insert(server.key.clone(), server.state.as_str());
            if state != Some(server.state.as_str()) {
                totals.ejections += u64::from(is_ejected(&server));
                totals.down += u64::from(server.state == ServerState::Down);
            }
        }
        sleep(SECOND).await;
    }
}

/// All clients have left, and all servers are well.
async fn at_the_end(world: &World) {
    for server in world.pool.servers() {
        assert_eq!(server.connections, 0, "{} has connections", server.key);
    }
    world.pool.replace(world.all.clone());
    for server in world.pool.servers() {
        world.pool.restore(&server.key);
    }
    for number in 1..=world.count {
        world.servers.set(number, Answer::Accepts);
    }
    sleep(30 * SECOND).await;
    let connected = world.pool.connect(&client()).await;
    connected.unwrap_or_else(|error| panic!("all servers accept: {error}"));
}
