//! What limits have counted lives through a reload.

use crate::gate::{Folder, Gate, backend, line};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

/// One listener for each limit, and another key, which a reload changes.
const LISTENERS: [&str; 4] = [
    "limits = { connections = 3, when-full = \"refuse\" }",
    "per-client.connections = 3",
    "per-client = { rate = \"4/h\", burst = 4 }",
    "bandwidth = { total = \"64 KiB/s\", burst = \"4 KiB\" }",
];

fn configuration(idle: &str, server: &str) -> String {
    let listener = |(number, keys): (usize, &&str)| {
        format!(
            "[[listener]]\nname = \"l{number}\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n\
             timeouts.idle = \"{idle}\"\n{keys}\n"
        )
    };
    let listeners: String = LISTENERS.iter().enumerate().map(listener).collect();
    format!("version = 1\n{listeners}[[backend]]\nname = \"b\"\nservers = \"{server}\"\n")
}

const CONNECTIONS: usize = 0;
const CONNECTIONS_OF_A_CLIENT: usize = 1;
const RATE: usize = 2;
const BANDWIDTH: usize = 3;

/// A client that was greeted. `None` if it was refused.
async fn connect(gate: &Gate, listener: usize) -> Option<TcpStream> {
    let stream = TcpStream::connect(gate.addresses[listener]).await;
    let mut stream = stream.expect("it listens");
    let greeting = timeout(PATIENCE, line(&mut stream)).await;
    let greeting = greeting.expect("it is neither served nor refused");
    greeting.is_ok().then_some(stream)
}

/// Sends so many bytes and gets them back.
async fn round_trip(client: &mut TcpStream, bytes: usize) {
    let sent = vec![7; bytes];
    let mut received = vec![0; bytes];
    let (mut read, mut write) = client.split();
    let both = async { tokio::join!(write.write_all(&sent), read.read_exact(&mut received)) };
    let (wrote, read) = timeout(PATIENCE, both).await.expect("it is too slow");
    wrote.expect("it is open");
    read.expect("it is open");
}

#[tokio::test]
async fn limits_go_on_counting_over_a_reload() {
    let folder = Folder::new();
    let server = backend("one").await.to_string();
    let file = folder.write("gate.toml", configuration("30m", &server));
    let mut gate = Gate::run(&file, LISTENERS.len()).await;
    let mut held = Vec::new();
    for listener in [CONNECTIONS, CONNECTIONS_OF_A_CLIENT, RATE] {
        for _ in 0..3 {
            held.push(connect(&gate, listener).await.expect("there is a place"));
        }
    }
    let mut before = connect(&gate, BANDWIDTH).await.expect("it is served");

    folder.write("gate.toml", configuration("31m", &server));
    gate.child.signal("HUP").await;
    gate.child.says("was reloaded").await;

    for (listener, key) in [
        (CONNECTIONS, "`limits.connections`"),
        (CONNECTIONS_OF_A_CLIENT, "`per-client.connections`"),
    ] {
        assert!(connect(&gate, listener).await.is_none(), "{key}");
        let refused = gate.child.says("\"outcome\"").await;
        assert!(refused.contains(key), "{refused}");
    }
    // Of four at once, one is left.
    connect(&gate, RATE).await.expect("there is a place");
    gate.child.says("\"outcome\"").await;
    assert!(connect(&gate, RATE).await.is_none());
    let refused = gate.child.says("\"outcome\"").await;
    assert!(refused.contains("`per-client.rate`"), "{refused}");
    // Those that end make room, so they are still counted.
    let begun = Instant::now();
    for ended in [3, 0] {
        drop(held.remove(ended));
        gate.child.says("\"outcome\"").await;
    }
    for listener in [CONNECTIONS, CONNECTIONS_OF_A_CLIENT] {
        while connect(&gate, listener).await.is_none() {
            assert!(begun.elapsed() < PATIENCE, "no room after an end");
        }
    }

    // An old and a new connection share the bandwidth: 96 KiB at 64 KiB/s.
    let mut after = connect(&gate, BANDWIDTH).await.expect("it is served");
    let begun = Instant::now();
    let bytes = 48 * 1_024;
    tokio::join!(
        round_trip(&mut before, bytes),
        round_trip(&mut after, bytes)
    );
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(1_300), "{took:?}");
}

const PATIENCE: Duration = Duration::from_secs(30);
