//! `backend.balance`, and what servers have a share of the connections.

use super::{Running, greeting};
use crate::gate::{backend, free_address};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

/// A backend of servers "one", "two" and "three", with these keys.
async fn of_three(keys: &str) -> Running {
    let mut servers = Vec::new();
    for name in ["one", "two", "three"] {
        servers.push(backend(name).await.to_string());
    }
    let keys = format!("servers = {servers:?}\nhealth = \"off\"\n{keys}");
    Running::backend(&keys).await
}

/// The server of a new connection, and the connection.
async fn server_of(running: &Running) -> (String, TcpStream) {
    let mut stream = running.connect().await;
    let name = greeting(&mut stream).await.expect("a greeting");
    (name, stream)
}

#[tokio::test]
async fn the_server_with_the_least_connections_gets_the_next_one() {
    for keys in ["", "balance = \"least-connections\""] {
        let mut running = of_three(keys).await;
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(server_of(&running).await);
        }
        let names: BTreeSet<_> = held.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        // In turns, the first one would be next.
        for _ in 0..3 {
            let (least, closed) = held.remove(1);
            drop(closed);
            running.ended().await;
            let next = server_of(&running).await;
            assert_eq!(next.0, least);
            held.insert(1, next);
        }
    }
}

#[tokio::test]
async fn servers_take_turns_whatever_they_have() {
    let running = of_three("balance = \"round-robin\"").await;
    let (first, _held) = server_of(&running).await;
    let (second, _) = server_of(&running).await;
    let (third, _) = server_of(&running).await;
    assert!(first != second && second != third && first != third);
    // Two of the servers have less.
    assert_eq!(server_of(&running).await.0, first);
}

#[tokio::test]
async fn a_client_keeps_its_server_and_clients_are_spread() {
    let running = of_three("balance = \"hash\"").await;
    let mut held = Vec::new();
    let mut used = BTreeMap::new();
    for client in 1..=20 {
        let mut names = Vec::new();
        for _ in 0..3 {
            let stream = running.connect_from([127, 0, 0, client], 0).await;
            let mut stream = stream.expect("it listens");
            names.push(greeting(&mut stream).await.expect("a greeting"));
            held.push(stream);
        }
        names.dedup();
        assert_eq!(names.len(), 1, "client {client}");
        *used.entry(names.remove(0)).or_insert(0) += 1;
    }
    assert!(used.len() > 1, "{used:?}");
}

#[tokio::test]
async fn the_first_server_gets_all_connections() {
    let running = of_three("balance = \"first\"").await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let (name, stream) = server_of(&running).await;
        assert_eq!(name, "one");
        held.push(stream);
    }
}

#[tokio::test]
async fn servers_have_connections_by_their_weight() {
    let (one, two) = (backend("one").await, backend("two").await);
    let keys = format!(
        "balance = \"round-robin\"\nhealth = \"off\"\n\
         server = [{{ address = \"{one}\", weight = 300 }}, {{ address = \"{two}\" }}]"
    );
    let running = Running::backend(&keys).await;
    let mut counts = BTreeMap::new();
    for _ in 0..40 {
        *counts.entry(server_of(&running).await.0).or_insert(0) += 1;
    }
    // The default is 100.
    assert_eq!(counts["one"], 30, "{counts:?}");
}

#[tokio::test]
async fn a_backup_is_used_while_no_other_server_can_be_used() {
    let (one, two) = (backend("one").await, backend("two").await);
    let keys = format!(
        "health = {{ interval = \"100ms\", fall = 1 }}\n\
         server = [{{ address = \"{two}\", backup = true }}, {{ address = \"{one}\" }}]"
    );
    let mut running = Running::backend(&keys).await;
    // Before, the backup may be the only server that is known to be up.
    for _ in 0..2 {
        running.says("server is up").await;
    }
    let mut held = Vec::new();
    for _ in 0..4 {
        let (name, stream) = server_of(&running).await;
        assert_eq!(name, "one");
        held.push(stream);
    }
    // Nothing listens there, and no other test gets this port.
    let gone = free_address();
    let mut running = Running::backend(&keys.replace(&one.to_string(), &gone)).await;
    running.says("server is down").await;
    assert_eq!(server_of(&running).await.0, "two");
}

#[tokio::test]
async fn a_client_waits_while_each_server_has_its_connections() {
    let one = backend("one").await;
    let keys = format!("server = [{{ address = \"{one}\", max-connections = 1 }}]");
    let running = Running::backend(&keys).await;
    let held = running.greeted().await;
    let mut waiting = running.connect().await;
    let early = timeout(Duration::from_millis(300), waiting.read_u8()).await;
    assert!(early.is_err(), "{early:?}");
    drop(held);
    assert_eq!(greeting(&mut waiting).await.expect("a greeting"), "one");
}
