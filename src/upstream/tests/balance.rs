use super::*;
use portcullis_middleware::{Connection, ConnectionInfo};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Connects `count` times, and keeps the connections.
async fn connect_all(
    pool: &Pool,
    clients: impl IntoIterator<Item = ConnectionInfo>,
) -> Vec<Connection<BackendIo>> {
    let mut connections = Vec::new();
    for client in clients {
        connections.push(pool.connect(&client).await.unwrap());
    }
    connections
}

fn counts(pool: &Pool) -> Vec<usize> {
    let members = pool.0.members();
    members.iter().map(|member| member.state.count()).collect()
}

fn clients(count: u32) -> impl Iterator<Item = ConnectionInfo> {
    (0..count).map(client_at)
}

#[tokio::test(start_paused = true)]
async fn the_fewest_connections_for_the_weight_win() {
    let servers = Servers::new(3);
    let weights = [(1, 100), (2, 50), (3, 50)];
    let weighted = weights.map(|(number, weight)| Servers::server(number).with_weight(weight));
    let pool = servers.pool().build(weighted);
    let connections = connect_all(&pool, clients(40)).await;
    assert_eq!(counts(&pool), [20, 10, 10]);
    drop(connections);
    assert_eq!(counts(&pool), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn servers_with_equally_many_connections_take_turns() {
    let servers = Servers::new(3);
    let pool = servers.pool().build((1..=3).map(Servers::server));
    for _ in 0..30 {
        drop(pool.connect(&client()).await.unwrap());
    }
    assert_eq!([1, 2, 3].map(|number| servers.begun(number)), [10, 10, 10]);
}

#[tokio::test(start_paused = true)]
async fn many_servers_are_used_almost_evenly() {
    let servers = Servers::new(100);
    let pool = servers.pool().build((1..=100).map(Servers::server));
    let _connections = connect_all(&pool, clients(2000)).await;
    let counts = counts(&pool);
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(*least >= 16 && *most <= 24, "{least} to {most}");
}

#[tokio::test(start_paused = true)]
async fn a_heavy_server_among_many_gets_its_share() {
    let servers = Servers::new(100);
    let weight = |number| if number == 1 { 990 } else { 10 };
    let weighted = (1..=100).map(|number| Servers::server(number).with_weight(weight(number)));
    let pool = servers.pool().build(weighted);
    let _connections = connect_all(&pool, clients(400)).await;
    let counts = counts(&pool);
    assert!((198..=202).contains(&counts[0]), "{}", counts[0]);
    assert!(counts[1..].iter().all(|count| (1..=3).contains(count)));
}

#[tokio::test(start_paused = true)]
async fn round_robin_spreads_the_turns_of_a_heavy_server() {
    let servers = Servers::new(3);
    let pool = in_turn(&servers, [5, 1, 1]);
    let mut order = Vec::new();
    for _ in 0..14 {
        let before = [1, 2, 3].map(|number| servers.begun(number));
        drop(pool.connect(&client()).await.unwrap());
        let after = [1, 2, 3].map(|number| servers.begun(number));
        order.push((0..3).find(|index| after[*index] > before[*index]).unwrap() + 1);
    }
    assert_eq!(order, [1, 1, 2, 1, 3, 1, 1, 1, 1, 2, 1, 3, 1, 1]);
}

#[tokio::test]
async fn round_robin_follows_the_weights_among_clients_on_several_threads() {
    let servers = Servers::new(3);
    let pool = in_turn(&servers, [5, 2, 1]);
    let members = pool.0.members();
    let chosen = [0; 3].map(AtomicUsize::new);
    // So that no release is the last one, which takes longer and makes overlaps rare.
    let _held = [(); 8].map(|()| reserve(&pool).unwrap());
    on_threads(|| {
        for _ in 0..60_000 {
            let reserved = reserve(&pool).unwrap();
            let is_this = |member: &Arc<_>| Arc::ptr_eq(member, &reserved.member);
            let index = members.iter().position(is_this).unwrap();
            chosen[index].fetch_add(1, Ordering::Relaxed);
        }
    });
    let chosen = chosen.map(AtomicUsize::into_inner);
    assert_eq!(chosen, [150_000, 60_000, 30_000]);
}

#[tokio::test]
async fn no_server_exceeds_its_limit_among_clients_on_several_threads() {
    let servers = Servers::new(2);
    for balance in BALANCES {
        let limits = [(1, 2), (2, 1)];
        let limited = limits.map(|(number, max)| Servers::server(number).with_max_connections(max));
        let pool = servers.pool().with_balance(balance).build(limited);
        let keys = limits.map(|(number, _)| Servers::server(number).key());
        let held = [0; 2].map(AtomicUsize::new);
        on_threads(|| {
            for _ in 0..5_000 {
                // One more than all servers together allow.
                let reserved = [(); 4].map(|()| reserve(&pool).ok());
                let indexes = reserved.iter().flatten().map(|reserved| {
                    let index = keys.iter().position(|key| *key == reserved.member.key);
                    index.unwrap()
                });
                for index in indexes.clone() {
                    let now = held[index].fetch_add(1, Ordering::SeqCst) + 1;
                    assert!(now <= limits[index].1, "{balance:?}: {now} at {index}");
                }
                assert!(reserved.iter().any(Option::is_none), "{balance:?}");
                for index in indexes {
                    held[index].fetch_sub(1, Ordering::SeqCst);
                }
            }
        });
        assert_eq!(counts(&pool), [0; 2], "{balance:?}");
    }
}

/// Round robin among three servers of these weights.
fn in_turn(servers: &Servers, weights: [u16; 3]) -> Pool {
    let weighted = (1..).zip(weights);
    let weighted = weighted.map(|(number, weight)| Servers::server(number).with_weight(weight));
    let pool = servers.pool().with_balance(Balance::RoundRobin);
    pool.build(weighted)
}

/// Runs `work` on four threads concurrently.
fn on_threads(work: impl Fn() + Sync) {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(&work);
        }
    });
}

fn reserve(pool: &Pool) -> Result<member::Reservation, pool::Unavailable> {
    let wish = pool::Wish::new(&client(), &pool.0.settings());
    pool.0.reserve(&wish)
}

#[tokio::test(start_paused = true)]
async fn a_client_stays_with_its_server_and_only_those_of_a_removed_one_move() {
    let servers = Servers::new(5);
    let pool = servers.pool().with_balance(Balance::Hash);
    let pool = pool.build((1..=5).map(Servers::server));
    let choose = |client: &ConnectionInfo| {
        let reserved = pool
            .0
            .reserve(&pool::Wish::new(client, &pool.0.settings()))
            .unwrap();
        reserved.member.key.clone()
    };
    let before: Vec<_> = clients(2000).map(|client| choose(&client)).collect();
    let again: Vec<_> = clients(2000).map(|client| choose(&client)).collect();
    assert_eq!(before, again);
    for number in 1..=5 {
        let key = Servers::server(number).key();
        let share = before.iter().filter(|chosen| **chosen == key).count();
        assert!((330..=470).contains(&share), "{share} of 2000");
    }
    pool.replace([1, 2, 4, 5].map(Servers::server));
    let removed = Servers::server(3).key();
    for (client, before) in clients(2000).zip(&before) {
        let now = choose(&client);
        assert_ne!(now, removed);
        assert!(now == *before || *before == removed);
    }
}

#[tokio::test(start_paused = true)]
async fn the_hash_follows_the_weights_and_ignores_ports() {
    let servers = Servers::new(2);
    let heavy = Servers::server(1).with_weight(300);
    let pool = servers
        .pool()
        .with_balance(Balance::Hash)
        .build([heavy, Servers::server(2)]);
    let chosen = |client: &ConnectionInfo| {
        let reserved = pool
            .0
            .reserve(&pool::Wish::new(client, &pool.0.settings()))
            .unwrap();
        reserved.member.key.clone()
    };
    let heavy = Servers::server(1).key();
    let share = clients(2000)
        .filter(|client| chosen(client) == heavy)
        .count();
    assert!((1430..=1570).contains(&share), "{share} of 2000");
    for port in 1..100 {
        let at = |ip: [u8; 4]| {
            ConnectionInfo::new(
                std::net::SocketAddr::from((ip, port)),
                client().local().clone(),
            )
        };
        assert_eq!(chosen(&at([10, 0, 0, 7])), chosen(&client_at(0x0a00_0007)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_server_is_filled_first() {
    let servers = Servers::new(3);
    let capped = |number| Servers::server(number).with_max_connections(2);
    let pool = servers
        .pool()
        .with_balance(Balance::First)
        .build([1, 2, 3].map(capped));
    let mut connections = connect_all(&pool, clients(5)).await;
    assert_eq!(counts(&pool), [2, 2, 1]);
    drop(connections.remove(0));
    connections.extend(connect_all(&pool, clients(1)).await);
    assert_eq!(counts(&pool), [2, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_weight_gets_no_connection() {
    let servers = Servers::new(2);
    for balance in BALANCES {
        let idle = Servers::server(1).with_weight(0);
        let pool = servers
            .pool()
            .with_balance(balance)
            .build([idle, Servers::server(2)]);
        let _connections = connect_all(&pool, clients(20)).await;
        assert_eq!(counts(&pool), [0, 20]);
    }
}

#[tokio::test(start_paused = true)]
async fn turns_are_even_beside_servers_that_are_out_of_use_or_loaded() {
    let begun = |servers: &Servers| [2, 3, 4].map(|number| servers.begun(number));
    let take_turns = async |pool: &Pool| {
        for _ in 0..300 {
            drop(pool.connect(&client()).await.unwrap());
        }
    };
    let servers = Servers::new(4);
    let pool = servers.pool().build((1..=4).map(Servers::server));
    let _loads_the_first = pool.connect(&client()).await.unwrap();
    take_turns(&pool).await;
    assert_eq!(begun(&servers), [100, 100, 100]);

    for backups in [false, true] {
        let servers = Servers::new(4);
        let server = |number| Servers::server(number).with_backup(backups && number > 1);
        let pool = servers.pool().build((1..=4).map(server));
        pool.drain(&Servers::server(1).key());
        take_turns(&pool).await;
        assert_eq!(begun(&servers), [100, 100, 100], "{backups}");
    }
}
