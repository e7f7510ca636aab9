//! What a reload changes at once, with real clients.

use super::{Administered, Api, TOKEN, configuration};
use crate::gate::{Folder, Gate, backend, line};
use serde_json::Value;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::{Instant, sleep, timeout},
};

impl Administered {
    /// Writes `[admin]` with these keys and the rest of the file, and reloads.
    async fn reload(&self, admin: &str, rest: &str) -> super::Answer {
        self.write(admin, rest);
        self.post("/api/reload").await
    }

    fn write(&self, admin: &str, rest: &str) {
        let text = format!("version = 1\n[admin]\n{admin}\n{rest}");
        self.folder.write("gate.toml", text);
    }

    /// Waits until a Unix socket has closed, with which its file goes.
    async fn is_gone(&self, socket: &str) {
        let path = self.folder.path(socket);
        let gone = timeout(PATIENCE, async {
            while path.exists() {
                sleep(Duration::from_millis(10)).await;
            }
        });
        gone.await.expect("it closes");
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

/// Sends a request that lacks its end.
async fn begin(stream: &mut (impl AsyncWrite + Unpin)) {
    let request = b"GET /api/status HTTP/1.1\r\nhost: localhost\r\n";
    stream.write_all(request).await.expect("it is open");
}

async fn finish(stream: &mut (impl AsyncWrite + Unpin)) {
    stream.write_all(b"\r\n").await.expect("it is open");
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

    let moved = "listen = \"unix:admin.sock\"";
    assert_eq!(
        running.reload(moved, &rest).await.json()["result"],
        "reloaded"
    );
    let begun = Instant::now();
    running.gate.child.says("admin interface on unix:").await;
    ends(&mut idle).await;
    // An idle connection would last for ten seconds otherwise.
    assert!(begun.elapsed() < Duration::from_secs(8));
    let again = "listen = \"unix:again.sock\"";
    running.write(again, &rest);
    let moved = Api::unix(running.folder.path("admin.sock"));
    assert_eq!(moved.post("/api/reload").await.json()["result"], "reloaded");
    running.is_gone("admin.sock").await;
    let moved = Api::unix(running.folder.path("again.sock"));
    // What ran goes on, and so do counters.
    let status = moved.get("/api/status").await.json();
    let reloads = status["configuration"]["reloads"].clone();
    assert_eq!(reloads, 2);
}

#[tokio::test]
async fn a_request_that_arrives_at_the_old_socket_is_not_judged_by_the_rules_of_the_new_one() {
    let rest = configuration("", &format!("servers = \"{}\"", backend("one").await));
    let running = Administered::run_with("protect = \"all\"", &rest, 1).await;
    let mut late = TcpStream::connect(running.admin).await.expect("it listens");
    begin(&mut late).await;
    let moved = running.reload("listen = \"unix:admin.sock\"", &rest).await;
    assert_eq!(moved.json()["result"], "reloaded");
    finish(&mut late).await;
    assert!(line(&mut late).await.expect("a status").contains("503"));
    let moved = Api::unix(running.folder.path("admin.sock"));
    assert_eq!(moved.get("/api/status").await.status, 200);
}

#[tokio::test]
async fn a_paused_listener_stays_paused_on_another_socket() {
    let server = format!("servers = \"{}\"", backend("one").await);
    let rest = configuration("", &server);
    let running = Administered::run(&rest, 1).await;
    running.post("/api/listeners/a/pause").await.json();
    let moved = rest.replace(
        "\"127.0.0.1:0\"",
        "[\"unix:front.sock\", \"unix:side.sock\"]",
    );
    let moved = running.reload(SAME, &moved).await;
    assert_eq!(moved.json()["result"], "reloaded");
    let mut clients = Vec::new();
    for name in ["front.sock", "side.sock"] {
        let client = UnixStream::connect(running.folder.path(name)).await;
        clients.push(client.expect("it listens"));
    }
    let is_paused = |list: &Value| list["listeners"][0]["state"] == "paused";
    let listeners = running.eventually("/api/listeners", is_paused).await;
    assert_eq!(listeners["listeners"][0]["accepted"], 0);
    running.post("/api/listeners/a/resume").await.json();
    for client in &mut clients {
        assert_eq!(line(client).await.expect("the greeting"), "one");
    }
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
async fn an_admin_interface_that_is_removed_answers_the_last_request_and_comes_back() {
    let rest = configuration("", &format!("servers = \"{}\"", backend("one").await));
    let mut running = Administered::run(&rest, 1).await;
    let socket = "listen = \"unix:admin.sock\"";
    running.reload(socket, &rest).await.json();
    let api = Api::unix(running.folder.path("admin.sock"));
    let mut slow = UnixStream::connect(running.folder.path("admin.sock"))
        .await
        .expect("it listens");
    begin(&mut slow).await;
    running
        .folder
        .write("gate.toml", format!("version = 1\n{rest}"));
    let answer = api.post("/api/reload").await;
    assert_eq!(answer.json()["result"], "reloaded");
    running.is_gone("admin.sock").await;
    // Longer than replies may take at the end of the program.
    sleep(Duration::from_millis(1_500)).await;
    finish(&mut slow).await;
    assert!(line(&mut slow).await.expect("a status").contains("200"));
    assert_eq!(
        line(&mut running.gate.connect().await)
            .await
            .expect("the greeting"),
        "one"
    );

    let keys = "listen = \"unix:admin.sock\"\nendings = 1";
    running.write(keys, &rest);
    let log = &mut running.gate.child;
    log.says("no longer an admin interface").await;
    log.says("was reloaded").await;
    log.signal("HUP").await;
    loop {
        let line = log.line().await;
        assert!(!line.contains("takes effect when"), "{line}");
        if line.contains("was reloaded") {
            break;
        }
    }
    let status = api.get("/api/status").await.json();
    assert_eq!(status["configuration"]["reloads"], 3);
    let metrics = api.get("/metrics").await.body;
    let counted = "portcullis_connections_accepted_total{listener=\"a\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    assert_eq!(api.get("/api/endings").await.json()["kept"], 1);
}

#[tokio::test]
async fn an_admin_interface_is_added_to_a_program_that_was_started_without_one() {
    let server = backend("one").await;
    let rest = configuration("", &format!("servers = \"{server}\""));
    let folder = Folder::new();
    let file = folder.write("gate.toml", format!("version = 1\n{rest}"));
    let mut gate = Gate::run(&file, 1).await;
    let mut old = gate.connect().await;
    line(&mut old).await.expect("the greeting");

    let taken = folder.path("taken");
    std::fs::create_dir(&taken).expect("the folder is writable");
    let with = |socket: &str| format!("version = 1\n[admin]\nlisten = \"unix:{socket}\"\n{rest}");
    folder.write("gate.toml", with("taken"));
    gate.child.signal("HUP").await;
    gate.child.says("was not reloaded").await;
    folder.write("gate.toml", with("admin.sock"));
    gate.child.signal("HUP").await;
    gate.child.says("was reloaded").await;

    let api = Api::unix(folder.path("admin.sock"));
    let live = api.get("/api/connections").await.json();
    assert_eq!(live["connections"].as_array().map(Vec::len), Some(1));
    let servers = format!("backend=\"b\",server=\"{server}\"");
    let metrics = api.get("/metrics").await.body;
    for counted in [
        format!("portcullis_backend_connections{{{servers}}} 1"),
        format!("portcullis_backend_up{{{servers}}} 1"),
        // It counts against the limit.
        "portcullis_connections_active{listener=\"a\"} 1".into(),
        "portcullis_reloads_total{of=\"configuration\",result=\"failed\"} 1".into(),
    ] {
        assert!(metrics.contains(&counted), "{counted}: {metrics}");
    }

    // The connection that was open before ends without an ending, the next one with one.
    let mut new = gate.connect().await;
    line(&mut new).await.expect("the greeting");
    drop(old);
    drop(new);
    let ended = timeout(PATIENCE, async {
        let none = format!("portcullis_backend_connections{{{servers}}} 0");
        while !api.get("/metrics").await.body.contains(&none) {
            sleep(Duration::from_millis(10)).await;
        }
    });
    ended.await.expect("both end");
    let counted = "portcullis_connections_accepted_total{listener=\"a\"} 1";
    let metrics = api.get("/metrics").await.body;
    assert!(metrics.contains(counted), "{metrics}");
    let none = "portcullis_connections_active{listener=\"a\"} 0";
    let ended = timeout(PATIENCE, async {
        while !api.get("/metrics").await.body.contains(none) {
            sleep(Duration::from_millis(10)).await;
        }
    });
    ended.await.expect("neither counts any more");
    let last = timeout(PATIENCE, async {
        while api.get("/api/endings").await.json()["last"] != 1 {
            sleep(Duration::from_millis(10)).await;
        }
    });
    last.await.expect("it is kept");
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
    // What is closed is counted after it was closed.
    for part in [
        "portcullis_recheck_closed_total{listener=\"a\"} 1",
        "portcullis_connections_limit{listener=\"gone\"} 0",
    ] {
        let shown = timeout(PATIENCE, async {
            while !running.get("/metrics").await.body.contains(part) {
                sleep(Duration::from_millis(10)).await;
            }
        });
        shown.await.expect(part);
    }
}
