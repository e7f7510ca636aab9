//! The reason of a forced close, for each cause of one.

use super::{Administered, configuration, forward_to};
use crate::gate::{backend, line};
use serde_json::Value;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

async fn greeted(address: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(address).await.expect("it listens");
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
    client
}

/// Waits until the gate closes `client`, and returns why.
async fn why_closed(running: &Administered, mut client: TcpStream) -> String {
    let peer = client.local_addr().expect("it is bound").to_string();
    let mut rest = Vec::new();
    let _reset = client.read_to_end(&mut rest).await;
    let path = format!("/api/endings?outcome=forced&search={peer}");
    let is_there = |it: &Value| it["endings"].as_array().is_some_and(|it| it.len() == 1);
    let ended = running.eventually(&path, is_there).await;
    let reason = ended["endings"][0]["reason"].as_str();
    reason.expect("text").to_owned()
}

impl Administered {
    /// Puts `new` in the place of `old` in the file, and reloads it.
    async fn change(&self, old: &str, new: &str) {
        let file = self.folder.path("gate.toml");
        let text = std::fs::read_to_string(file).expect("it is there");
        assert!(text.contains(old), "{old} in {text}");
        self.folder.write("gate.toml", text.replacen(old, new, 1));
        let answer = self.post("/api/reload").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

#[tokio::test]
async fn an_operator() {
    let mut running = Administered::run(&forward_to(backend("one").await), 1).await;
    for reset in ["false", "true"] {
        let client = greeted(running.gate.addresses[0]).await;
        let path = format!("/api/connections/close?all=true&reset={reset}");
        assert_eq!(running.post(&path).await.json()["closed"], 1);
        assert_eq!(
            why_closed(&running, client).await,
            "closed because an operator requested it"
        );
        // The access line says the same.
        let access = running.gate.child.says("forced").await;
        assert!(access.contains("an operator requested it"), "{access}");
    }
}

#[tokio::test]
async fn a_recheck() {
    let server = format!("servers = \"{}\"", backend("one").await);
    let text = configuration("recheck = true", &server);
    let running = Administered::run(&text, 1).await;
    let client = greeted(running.gate.addresses[0]).await;
    let denied = "recheck = true\naccess.deny = \"127.0.0.1\"";
    running.change("recheck = true", denied).await;
    assert_eq!(
        why_closed(&running, client).await,
        "closed because it would not be admitted now: the address is on the deny list"
    );
}

/// A server that greets one client, and whose port then closes.
async fn server_that_goes_down() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await?;
            // The first ones may be health checks, which send nothing.
            if stream.write_all(b"one\n").await.is_ok() && stream.read(&mut [0; 8]).await? > 0 {
                drop(listener);
                return stream.read_to_end(&mut Vec::new()).await;
            }
        }
    });
    address
}

#[tokio::test]
async fn a_server_that_fails_its_checks_or_is_taken_down() {
    let health = "health = { interval = \"100ms\", fall = 1, on-down = \"close\" }";
    let server = server_that_goes_down().await;
    let text = configuration("", &format!("servers = \"{server}\"\n{health}"));
    let running = Administered::run(&text, 1).await;
    let mut client = greeted(running.gate.addresses[0]).await;
    client.write_all(b"go\n").await.expect("it is open");
    assert_eq!(
        why_closed(&running, client).await,
        "closed because its server has failed its health checks"
    );

    let server = backend("one").await;
    let text = configuration("", &format!("servers = \"{server}\"\n{health}"));
    let running = Administered::run(&text, 1).await;
    let client = greeted(running.gate.addresses[0]).await;
    let server = server.to_string().replace(':', "%3A");
    let answer = running
        .post(&format!("/api/backends/b/{server}/down"))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(
        why_closed(&running, client).await,
        "closed because its server was taken down"
    );
}

#[tokio::test]
async fn a_removed_server() {
    let (one, other) = (backend("one").await, backend("other").await);
    let text = configuration("", &format!("drain = \"100ms\"\nservers = \"{one}\""));
    let running = Administered::run(&text, 1).await;
    let client = greeted(running.gate.addresses[0]).await;
    running.change(&one.to_string(), &other.to_string()).await;
    assert_eq!(
        why_closed(&running, client).await,
        "closed because its server was removed"
    );
}

#[tokio::test]
async fn a_removed_listener() {
    let text = forward_to(backend("one").await);
    let second = "[[listener]]\nname = \"z\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n";
    let text = format!("[drain]\ndeadline = \"100ms\"\n{text}{second}");
    let running = Administered::run(&text, 2).await;
    let client = greeted(running.gate.addresses[1]).await;
    running.change(second, "").await;
    assert_eq!(
        why_closed(&running, client).await,
        "closed because its listener was closed, and the drain has reached its deadline"
    );
}

#[tokio::test]
async fn the_deadline_of_the_shutdown_and_a_second_signal() {
    for (deadline, signals, reason) in [
        ("100ms", 1, "the shutdown has reached its deadline"),
        ("1h", 2, "the server was stopped at once"),
    ] {
        let text = forward_to(backend("one").await);
        let text = format!("[drain]\ndeadline = \"{deadline}\"\n{text}");
        let mut running = Administered::run(&text, 1).await;
        let client = greeted(running.gate.addresses[0]).await;
        running.gate.child.signal("TERM").await;
        if signals > 1 {
            running.gate.child.says("signal received").await;
            running.gate.child.signal("TERM").await;
        }
        // The interface ends soon after, so the access line has to tell.
        let access = running.gate.child.says("forced").await;
        assert!(access.contains(reason), "{access}");
        drop(client);
    }
}
