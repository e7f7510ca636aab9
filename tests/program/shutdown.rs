//! Signals and exit codes.

use crate::gate::{Folder, Gate, backend, line};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

async fn gate(deadline: &str) -> (Folder, Gate) {
    gate_with(deadline, "").await
}

/// The same with more keys of the file.
async fn gate_with(deadline: &str, keys: &str) -> (Folder, Gate) {
    let folder = Folder::new();
    let server = backend("one").await;
    let file = folder.write(
        "gate.toml",
        format!(
            "version = 1\n[drain]\ndeadline = \"{deadline}\"\n{keys}[[listener]]\nname = \"a\"\n\
             listen = \"127.0.0.1:0\"\nbackend = \"b\"\n[[backend]]\nname = \"b\"\nservers = \"{server}\"\n"
        ),
    );
    let gate = Gate::run(&file, 1).await;
    (folder, gate)
}

#[tokio::test]
async fn sigterm_lets_connections_finish_and_the_program_ends_with_zero() {
    let (_folder, mut gate) = gate("60s").await;
    let mut client = gate.connect().await;
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
    gate.child.signal("TERM").await;
    // The listener closes first.
    while tokio::net::TcpStream::connect(gate.addresses[0])
        .await
        .is_ok()
    {
        tokio::task::yield_now().await;
    }
    client
        .write_all(b"the last words\n")
        .await
        .expect("it is open");
    assert_eq!(line(&mut client).await.expect("an echo"), "the last words");
    drop(client);
    assert_eq!(gate.child.ended_within(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn connections_that_are_open_at_the_deadline_are_cut_and_the_exit_code_tells() {
    let (_folder, mut gate) = gate("200ms").await;
    let mut client = gate.connect().await;
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
    gate.child.signal("TERM").await;
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest).await;
    assert_eq!(gate.child.ended_within(PATIENCE).await.code(), Some(3));
}

#[tokio::test]
async fn idle_connections_end_before_the_deadline_if_that_is_configured() {
    let keys = "[defaults]\ntimeouts.drain-idle = \"100ms\"\n";
    let (_folder, mut gate) = gate_with("1h", keys).await;
    let mut idle = gate.connect().await;
    assert_eq!(line(&mut idle).await.expect("the greeting"), "one");
    // Until then, no silence ends it.
    assert!(
        timeout(Duration::from_millis(300), idle.read(&mut [0]))
            .await
            .is_err()
    );
    gate.child.signal("TERM").await;
    let end = timeout(PATIENCE, idle.read(&mut [0])).await;
    assert_eq!(end.expect("it ends").expect("it is no reset"), 0);
    gate.child.says("it was idle during the shutdown").await;
    assert_eq!(gate.child.ended_within(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_cuts_immediately_and_the_exit_code_tells() {
    let phases = ["", "announce = \"9m\"\n"];
    let signals = [["TERM", "TERM"], ["INT", "TERM"], ["TERM", "INT"]];
    let all = phases.map(|phase| signals.map(|signals| (phase, signals)));
    for (announce, [first, second]) in all.into_iter().flatten() {
        let (_folder, mut gate) = gate_with("10m", announce).await;
        let mut client = gate.connect().await;
        assert_eq!(line(&mut client).await.expect("the greeting"), "one");
        gate.child.signal(first).await;
        gate.child.says("a second signal force-closes").await;
        client.write_all(b"more\n").await.expect("it is open");
        assert_eq!(line(&mut client).await.expect("an echo"), "more");
        gate.child.signal(second).await;
        let begun = Instant::now();
        let ended = gate.child.ended_within(PATIENCE).await;
        assert_eq!(ended.code(), Some(3), "{announce}");
        // Nothing is waited for: no notice, no silence, no deadline.
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(5), "{announce}: {took:?}");
        assert!(!matches!(client.read(&mut [0]).await, Ok(1..)));
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_last_line_has_its_time_in_seconds() {
    let (_folder, mut gate) = gate_with("1s", "[log]\nformat = \"json\"\n").await;
    gate.child.signal("TERM").await;
    let line = gate.child.says("stopped").await;
    let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert!(line["took"].is_f64(), "{line}");
}
