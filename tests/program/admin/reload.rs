//! What a reload changes at once, with real clients.

use super::{Administered, Api, TOKEN, configuration};
use crate::gate::{backend, line};
use serde_json::Value;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

impl Administered {
    /// Writes `[admin]` with these keys and the rest of the file, and reloads.
    async fn reload(&self, admin: &str, rest: &str) -> super::Answer {
        let text = format!("version = 1\n[admin]\n{admin}\n{rest}");
        self.folder.write("gate.toml", text);
        self.post("/api/reload").await
    }
}

const SAME: &str = "listen = \"127.0.0.1:0\"\ntoken-file = \"token\"";

/// Sends a request on a connection that stays open, and reads its response.
async fn ask(stream: &mut TcpStream, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it is open");
    let status = line(stream).await.expect("a status");
    let mut length = 0;
    loop {
        let header = line(stream).await.expect("a header").to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length: ") {
            length = value.trim().parse().expect("a number");
        }
        if header == "\r" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.expect("a body");
    status
}

async fn ends(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    end.expect("it is not closed")
        .expect("it ends without a reset");
    assert!(rest.is_empty(), "{rest:?}");
}

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_admin_interface_moves_to_another_socket_and_its_old_connections_end() {
    let rest = configuration("", &format!("servers = \"{}\"", backend("one").await));
    let mut running = Administered::run(&rest, 1).await;
    let mut idle = TcpStream::connect(running.admin).await.expect("it listens");
    assert!(ask(&mut idle, "/livez").await.contains("200"));
    let asked = Instant::now();

    let moved = "listen = \"unix:admin.sock\"";
    assert_eq!(
        running.reload(moved, &rest).await.json()["result"],
        "reloaded"
    );
    running.gate.child.says("admin interface on unix:").await;
    ends(&mut idle).await;
    // An idle connection would last for ten seconds otherwise.
    assert!(asked.elapsed() < Duration::from_secs(10));
    assert!(TcpStream::connect(running.admin).await.is_err());
    let moved = Api::unix(running.folder.path("admin.sock"));
    // What ran goes on, and so do counters.
    let status = moved.get("/api/status").await.json();
    let reloads = status["configuration"]["reloads"].clone();
    assert_eq!(reloads, 1);
}

#[tokio::test]
async fn a_socket_that_cannot_be_opened_keeps_the_admin_interface_and_the_listeners() {
    let rest = configuration("", &format!("servers = \"{}\"", backend("one").await));
    let running = Administered::run(&rest, 1).await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let taken = taken.local_addr().expect("it is bound");
    let wrong = format!("listen = \"{taken}\"\ntoken-file = \"other\"");
    running.folder.write("other", "another-token-that-is-long");
    let refused = running
        .reload(&wrong, &rest.replace("name = \"a\"", "name = \"z\""))
        .await;
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(
        refused.body.contains(&taken.to_string()),
        "{}",
        refused.body
    );
    let again = running.reload(SAME, &rest).await;
    assert_eq!(again.json()["result"], "reloaded");
    let listeners = running.get("/api/listeners").await.json();
    assert_eq!(listeners["listeners"][0]["name"], "a");
}

#[tokio::test]
async fn token_protection_hosts_and_kept_endings_change_on_open_connections() {
    let server = backend("one").await;
    let rest = configuration("", &format!("servers = \"{server}\""));
    let running = Administered::run(&rest, 1).await;
    for _ in 0..3 {
        line(&mut running.gate.connect().await)
            .await
            .expect("the greeting");
    }
    running
        .eventually("/api/endings", |it| it["last"] == 3)
        .await;
    let mut open = TcpStream::connect(running.admin).await.expect("it listens");
    assert!(ask(&mut open, "/api/status").await.contains("200"));

    let other = "another-token-that-is-long";
    running.folder.write("other", other);
    let keys = "listen = \"127.0.0.1:0\"\ntoken-file = \"other\"\nprotect = \"all\"\n\
                hosts = \"gate.test\"\nendings = 2";
    assert_eq!(
        running.reload(keys, &rest).await.json()["result"],
        "reloaded"
    );
    assert!(ask(&mut open, "/api/status").await.contains("401"));
    let with = |token: &str| running.api().with_token(token).with_host(Some("gate.test"));
    assert_eq!(with(TOKEN).get("/api/status").await.status, 403);
    let endings = with(other).get("/api/endings").await.json();
    assert_eq!((&endings["kept"], &endings["last"]), (&2.into(), &3.into()));
    assert_eq!(endings["endings"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn an_admin_interface_that_is_removed_answers_the_last_request() {
    let rest = configuration("", &format!("servers = \"{}\"", backend("one").await));
    let mut running = Administered::run(&rest, 1).await;
    let with = std::fs::read_to_string(running.folder.path("gate.toml")).expect("it is there");
    running
        .folder
        .write("gate.toml", format!("version = 1\n{rest}"));
    let answer = running.post("/api/reload").await;
    assert_eq!(answer.json()["result"], "reloaded");
    timeout(PATIENCE, async {
        while TcpStream::connect(running.admin).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("its socket closes");
    assert_eq!(
        line(&mut running.gate.connect().await)
            .await
            .expect("the greeting"),
        "one"
    );

    running.folder.write("gate.toml", with);
    running.gate.child.signal("HUP").await;
    running
        .gate
        .child
        .says("the change of admin takes effect when")
        .await;
    running.gate.child.says("was reloaded").await;
}

#[tokio::test]
async fn another_health_check_keeps_connections_counts_and_drained_servers() {
    let (one, two) = (backend("one").await, backend("two").await);
    let with = |keys: &str| configuration("", &format!("servers = [\"{one}\", \"{two}\"]\n{keys}"));
    let running = Administered::run(&with(""), 1).await;
    let is_up = |list: &Value| list["backends"][0]["servers"][1]["state"] == "up";
    running.eventually("/api/backends", is_up).await;
    let key = two.to_string().replace(':', "%3A");
    running
        .post(&format!("/api/backends/b/{key}/drain"))
        .await
        .json();
    let mut client = running.gate.connect().await;
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");

    // Neither server speaks HTTP.
    let health = "balance = \"first\"\nhealth = { http = \"/\", interval = \"100ms\", fall = 2 }";
    assert_eq!(
        running.reload(SAME, &with(health)).await.json()["result"],
        "reloaded"
    );
    let is_down = |list: &Value| list["backends"][0]["servers"][0]["state"] == "down";
    let list = running.eventually("/api/backends", is_down).await;
    let [first, second] = [0, 1].map(|index| &list["backends"][0]["servers"][index]);
    let facts = ["connections", "connected"].map(|key| &first[key]);
    assert_eq!(facts, [&Value::from(1), &1.into()]);
    assert_eq!(second["state"], "draining");

    let off = "health = \"off\"";
    assert_eq!(
        running.reload(SAME, &with(off)).await.json()["result"],
        "reloaded"
    );
    let mut next = running.gate.connect().await;
    assert_eq!(line(&mut next).await.expect("the greeting"), "one");
    let list = running.get("/api/backends").await.json();
    let [first, second] = [0, 1].map(|index| &list["backends"][0]["servers"][index]);
    assert_eq!(
        (&first["state"], &first["last_check"]),
        (&"up".into(), &Value::Null)
    );
    assert_eq!(second["state"], "draining");
    client.write_all(b"still here\n").await.expect("it is open");
    assert_eq!(line(&mut client).await.expect("an echo"), "still here");
}

#[tokio::test]
async fn metrics_count_what_recheck_closed_and_forget_the_limit_of_a_removed_listener() {
    let server = format!("servers = \"{}\"", backend("one").await);
    let gone = "[[listener]]\nname = \"gone\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n";
    let rest = |keys: &str| configuration(&format!("recheck = true\n{keys}"), &server);
    let running = Administered::run(&format!("{gone}{}", rest("")), 2).await;
    let client = TcpStream::connect(running.gate.addresses[1]).await;
    let mut client = client.expect("it listens");
    line(&mut client).await.expect("the greeting");
    let before = running.get("/metrics").await.body;
    assert!(
        before.contains("portcullis_connections_limit{listener=\"gone\"} 10000"),
        "{before}"
    );

    let denied = rest("access.deny = \"127.0.0.1\"");
    assert_eq!(
        running.reload(SAME, &denied).await.json()["result"],
        "reloaded"
    );
    let mut rest = [0; 1];
    let end = timeout(PATIENCE, client.read(&mut rest)).await;
    assert!(matches!(end.expect("it is not closed"), Ok(0) | Err(_)));
    let after = running.get("/metrics").await.body;
    for part in [
        "portcullis_recheck_closed_total{listener=\"a\"} 1",
        "portcullis_connections_limit{listener=\"gone\"} 0",
    ] {
        assert!(after.contains(part), "{part} in {after}");
    }
}
