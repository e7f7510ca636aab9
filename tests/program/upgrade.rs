//! Upgrades: a new process takes the listening sockets of the old one over.

use crate::{
    gate::{Folder, Gate, backend, line, program},
    support::child::Child,
};
use serde_json::Value;
use std::{
    fs::Permissions,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    process::Output,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixListener, UnixStream},
};

/// A gate before one backend, on TCP and on a Unix socket.
struct Upgradable {
    folder: Folder,
    file: PathBuf,
    server: String,
    gate: Gate,
}

impl Upgradable {
    async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with more keys in `[process]`.
    async fn start_with(keys: &str) -> Self {
        let folder = Folder::new();
        let server = backend("one").await.to_string();
        let text = configuration(&server);
        let text = text.replace("[process]", &format!("[process]\n{keys}"));
        let file = folder.write("gate.toml", text);
        let mut gate = Gate::run(&file, 1).await;
        gate.child.says("ready for an upgrade").await;
        Self {
            folder,
            file,
            server,
            gate,
        }
    }

    /// Starts a new process, and waits until it has taken over.
    async fn upgrade(&self) -> Child {
        let mut new = self.start_new();
        new.says("were taken over").await;
        new.says("ready for an upgrade").await;
        new
    }

    fn start_new(&self) -> Child {
        let file = self.file.to_str().expect("it is UTF-8");
        Child::start(program(["run", "--config", file])).expect("it starts")
    }

    async fn connect_unix(&self) -> UnixStream {
        let path = self.folder.path("front.socket");
        UnixStream::connect(path).await.expect("it listens")
    }

    async fn assert_serves(&self) {
        let mut client = self.gate.connect().await;
        assert_eq!(line(&mut client).await.expect("the greeting"), "one");
        let mut client = self.connect_unix().await;
        assert_eq!(line(&mut client).await.expect("the greeting"), "one");
        let admin = UnixStream::connect(self.folder.path("admin.socket")).await;
        let mut admin = admin.expect("it listens");
        let request = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        admin.write_all(request).await.expect("it is open");
        assert_eq!(
            line(&mut admin).await.expect("a status"),
            "HTTP/1.1 200 OK\r"
        );
    }
}

fn configuration(server: &str) -> String {
    format!(
        "version = 1\n[process]\nupgrade-socket = \"upgrade.socket\"\n[admin]\n\
         listen = \"unix:admin.socket\"\n[drain]\nannounce = \"1m\"\n\
         deadline = \"2m\"\n[[listener]]\nname = \"a\"\n\
         listen = [\"127.0.0.1:0\", \"unix:front.socket\"]\nbackend = \"b\"\n\
         [[backend]]\nname = \"b\"\nservers = \"{server}\"\n"
    )
}

#[tokio::test]
async fn a_new_process_takes_over_while_old_connections_go_on() {
    let mut test = Upgradable::start().await;
    let mode = std::fs::metadata(test.folder.path("upgrade.socket")).expect("it is there");
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    let mut old = test.gate.connect().await;
    let mut old_unix = test.connect_unix().await;
    for old in [line(&mut old).await, line(&mut old_unix).await] {
        assert_eq!(old.expect("the greeting"), "one");
    }

    let mut new = test.upgrade().await;
    test.gate.child.says("this one drains").await;
    test.assert_serves().await;
    old.write_all(b"still here\n").await.expect("it is open");
    assert_eq!(line(&mut old).await.expect("an echo"), "still here");
    drop((old, old_unix));
    // Its listeners are gone, so nothing waits for the announced time.
    let ended = test.gate.child.ended_within(PATIENCE).await;
    assert_eq!(ended.code(), Some(0));
    test.assert_serves().await;

    let text = std::fs::read_to_string(&test.file).expect("it is there");
    let text = text.replace("announce = \"1m\"", "announce = \"0s\"");
    std::fs::write(&test.file, text).expect("it is writable");
    let mut third = test.upgrade().await;
    assert_eq!(new.ended_within(PATIENCE).await.code(), Some(0));
    test.assert_serves().await;
    third.signal("TERM").await;
    assert_eq!(third.ended_within(PATIENCE).await.code(), Some(0));
    for name in ["front.socket", "admin.socket", "upgrade.socket"] {
        assert!(!test.folder.path(name).exists(), "{name} was left behind");
    }
    assert!(TcpStream::connect(test.gate.addresses[0]).await.is_err());
}

#[tokio::test]
async fn a_process_that_was_replaced_changes_nothing_any_more() {
    let mut test = Upgradable::start_with("watch = true").await;
    let mut client = test.gate.connect().await;
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
    let mut new = test.upgrade().await;
    test.gate.child.says("this one drains").await;
    let text = std::fs::read_to_string(&test.file).expect("it is there");
    let text = text.replace(
        "\"127.0.0.1:0\", ",
        "\"127.0.0.1:0\", \"unix:more.socket\", ",
    );
    std::fs::write(&test.file, text).expect("it is writable");
    new.says("was reloaded").await;
    for (signal, answer) in [
        ("HUP", "not reloaded, because the program shuts down"),
        ("USR2", "no new process is started"),
    ] {
        test.gate.child.signal(signal).await;
        let mut logged = test.gate.child.line().await;
        // What the drain waits for, now and then.
        while logged.contains("\"draining\"") {
            logged = test.gate.child.line().await;
        }
        assert!(logged.contains(answer), "{logged}");
    }
    client.write_all(b"still here\n").await.expect("it is open");
    assert_eq!(line(&mut client).await.expect("an echo"), "still here");
    drop(client);
    assert_eq!(test.gate.child.ended_within(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn sigusr2_starts_the_new_process() {
    let mut test = Upgradable::start().await;
    let old = test.gate.child.id();
    test.gate.child.signal("USR2").await;
    // Both write to the same pipe.
    let started = test.gate.child.says("new process was started").await;
    let new: u32 = started
        .split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .next_back()
        .expect("the number of the process");
    assert_ne!(new, old);
    let _new = Stranger(new);
    assert_eq!(test.gate.child.ended_within(PATIENCE).await.code(), Some(0));
    test.assert_serves().await;
}

#[tokio::test]
async fn a_new_process_that_ends_on_its_own_leaves_the_old_one() {
    let mut test = Upgradable::start().await;
    let text = std::fs::read_to_string(&test.file).expect("it is there");
    std::fs::write(&test.file, text.replace("backend = ", "bakend = ")).expect("it is writable");
    test.gate.child.signal("USR2").await;
    let ended = test.gate.child.says("the new process has ended").await;
    let expected = "so the upgrade failed; this process goes on";
    assert!(ended.contains(expected), "{ended}");
    test.assert_serves().await;
}

#[tokio::test]
async fn sigusr2_follows_the_link_that_the_program_was_called_by() {
    let folder = Folder::new();
    let text = configuration(&backend("one").await.to_string());
    let file = folder.write("gate.toml", text);
    let link = folder.path("current");
    symlink(env!("CARGO_BIN_EXE_portcullis"), &link).expect("a link");
    let mut command = tokio::process::Command::new(&link);
    command.arg("run").arg("--config").arg(&file);
    let mut gate = Gate::start(command, 1).await;
    gate.child.says("ready for an upgrade").await;
    let next = folder.write("next", "#!/bin/sh\necho the next version got \"$@\"\n");
    std::fs::set_permissions(&next, Permissions::from_mode(0o755)).expect("it is ours");
    symlink(&next, folder.path("new")).expect("a link");
    std::fs::rename(folder.path("new"), &link).expect("it is replaced");
    gate.child.signal("USR2").await;
    let said = gate.child.says("the next version").await;
    assert!(said.contains("got run --config"), "{said}");
}

impl Upgradable {
    /// What `portcullis ctl` answers, in JSON.
    async fn ctl(&self, arguments: &[&str]) -> Value {
        let output = self.try_ctl(arguments).await;
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("it is JSON")
    }

    async fn try_ctl(&self, arguments: &[&str]) -> Output {
        let admin = format!("unix:{}", self.folder.path("admin.socket").display());
        let mut command = program(["ctl", "--json", "--admin", &admin]);
        command.args(arguments);
        command.output().await.expect("it runs")
    }
}

#[tokio::test]
async fn what_operators_have_changed_goes_on_in_the_new_process() {
    let mut test = Upgradable::start().await;
    test.ctl(&["log-level", "debug"]).await;
    test.ctl(&["listeners", "limit", "a", "7"]).await;
    test.ctl(&["listeners", "pause", "a"]).await;
    test.ctl(&["backends", "drain", "b", &test.server]).await;
    // It waits in the queue of the paused listener, which the new process accepts nothing from either.
    let mut client = test.gate.connect().await;

    let mut new = test.start_new();
    let logged = new.says("taken over from the process before").await;
    let logged: Value = serde_json::from_str(&logged).expect("it is JSON");
    let change = r#"{"configured":"INFO","log_level":"DEBUG"}"#;
    let expected = format!("taken over from the process before: {change}");
    assert_eq!(logged["message"], expected);
    test.gate.child.says("this one drains").await;
    let status = test.ctl(&["status"]).await;
    let process = new.id();
    assert_eq!(
        (&status["pid"], &status["log_level"]),
        (&process.into(), &"debug".into())
    );
    let listener = &test.ctl(&["listeners"]).await["listeners"][0];
    let facts = ["state", "limit", "accepted"].map(|key| &listener[key]);
    assert_eq!(facts, [&Value::from("paused"), &7.into(), &0.into()]);
    let server = |backends: &Value| backends["backends"][0]["servers"][0]["state"].clone();
    assert_eq!(server(&test.ctl(&["backends"]).await), "draining");

    test.ctl(&["backends", "undrain", "b", &test.server]).await;
    test.ctl(&["listeners", "resume", "a"]).await;
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
}

#[tokio::test]
async fn a_value_that_the_new_file_changes_is_that_of_the_file() {
    let mut test = Upgradable::start().await;
    test.ctl(&["log-level", "debug"]).await;
    test.ctl(&["listeners", "limit", "a", "7"]).await;
    let text = std::fs::read_to_string(&test.file).expect("it is there");
    let text = text.replace(
        "backend = \"b\"",
        "backend = \"b\"\nlimits.connections = 50",
    );
    let text = text.replace("[drain]", "[log]\nlevel = \"warn\"\n[drain]");
    std::fs::write(&test.file, text).expect("it is writable");
    let mut new = test.start_new();
    for what in ["log_level", "limit"] {
        let logged = new.says("configuration has changed").await;
        assert!(logged.contains(what), "{logged}");
    }
    test.gate.child.says("this one drains").await;
    let status = test.ctl(&["status"]).await;
    let process = new.id();
    assert_eq!(
        (&status["pid"], &status["log_level"]),
        (&process.into(), &"warn".into())
    );
    assert_eq!(test.ctl(&["listeners"]).await["listeners"][0]["limit"], 50);
}

#[tokio::test]
async fn a_listener_that_gets_another_name_keeps_its_queue_and_what_operators_have_changed() {
    let mut test = Upgradable::start().await;
    test.ctl(&["listeners", "limit", "a", "7"]).await;
    test.ctl(&["listeners", "pause", "a"]).await;
    let mut waiting = test.connect_unix().await;
    let text = std::fs::read_to_string(&test.file).expect("it is there");
    std::fs::write(&test.file, text.replace("\"a\"", "\"z\"")).expect("it is writable");
    let _new = test.upgrade().await;
    test.gate.child.says("this one drains").await;
    let listener = &test.ctl(&["listeners"]).await["listeners"][0];
    let facts = ["name", "state", "limit", "accepted"].map(|key| listener[key].clone());
    assert_eq!(
        facts,
        ["z".into(), "paused".into(), 7.into(), Value::from(0)]
    );
    test.ctl(&["listeners", "resume", "z"]).await;
    assert_eq!(line(&mut waiting).await.expect("the greeting"), "one");
}

#[tokio::test]
async fn a_listener_that_is_split_keeps_its_pause_and_its_limit_in_each_part() {
    let mut test = Upgradable::start().await;
    test.ctl(&["listeners", "limit", "a", "7"]).await;
    test.ctl(&["listeners", "pause", "a"]).await;
    let text = std::fs::read_to_string(&test.file).expect("it is there");
    let text = text.replace(
        "name = \"a\"\nlisten = [\"127.0.0.1:0\", \"unix:front.socket\"]",
        "name = \"x\"\nlisten = \"unix:front.socket\"",
    );
    // The name of before has no socket of before, and is the same listener.
    let more = |name: &str, listen: &str| {
        format!("[[listener]]\nname = \"{name}\"\nlisten = \"{listen}\"\nbackend = \"b\"\n")
    };
    let text = text.replace(
        "[[backend]]",
        &(more("a", "unix:new.socket") + "[[backend]]"),
    );
    let text = text + &more("other", "unix:other.socket");
    std::fs::write(&test.file, text).expect("it is writable");
    let _new = test.upgrade().await;
    test.gate.child.says("this one drains").await;
    let listeners = test.ctl(&["listeners"]).await;
    let facts = |name: &str| {
        let mut all = listeners["listeners"].as_array().expect("a list").iter();
        let found = all.find(|it| it["name"] == name).expect("it is there");
        (found["state"].clone(), found["limit"].clone())
    };
    for name in ["a", "x"] {
        assert_eq!(facts(name), ("paused".into(), 7.into()), "{name}");
    }
    assert_eq!(facts("other").0, "open");
}

#[tokio::test]
async fn a_listener_moves_to_another_address_and_the_admin_interface_to_that_of_the_listener() {
    let mut test = Upgradable::start().await;
    let mut old = test.connect_unix().await;
    assert_eq!(line(&mut old).await.expect("the greeting"), "one");
    let text = std::fs::read_to_string(&test.file).expect("it is there");
    let text = text.replace(
        "\"127.0.0.1:0\", \"unix:front.socket\"",
        "\"unix:moved.socket\"",
    );
    std::fs::write(&test.file, &text).expect("it is writable");
    let mut new = test.upgrade().await;
    let said = test.gate.child.says("does not listen here").await;
    assert!(said.contains("127.0.0.1:0"), "{said}");
    let moved = || UnixStream::connect(test.folder.path("moved.socket"));
    let mut client = moved().await.expect("it listens");
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
    old.write_all(b"still here\n").await.expect("it is open");
    assert_eq!(line(&mut old).await.expect("an echo"), "still here");
    drop((old, client));
    assert_eq!(test.gate.child.ended_within(PATIENCE).await.code(), Some(0));
    assert!(!test.folder.path("front.socket").exists());

    let text = text.replace("unix:admin.socket", "unix:was-admin.socket");
    let text = text.replace("unix:moved.socket", "unix:admin.socket");
    let text = text.replace("unix:was-admin.socket", "unix:moved.socket");
    std::fs::write(&test.file, text).expect("it is writable");
    let _third = test.upgrade().await;
    assert_eq!(new.ended_within(PATIENCE).await.code(), Some(0));
    let client = UnixStream::connect(test.folder.path("admin.socket")).await;
    let mut client = client.expect("it listens");
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
    let mut client = moved().await.expect("it listens");
    let request = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    client.write_all(request).await.expect("it is open");
    let answer = line(&mut client).await.expect("a status");
    assert!(answer.contains("200"), "{answer}");
}

#[tokio::test]
async fn a_change_that_would_be_lost_in_an_upgrade_is_rejected() {
    let mut test = Upgradable::start().await;
    let path = test.folder.path("upgrade.socket");
    let mut peer = UnixStream::connect(&path).await.expect("it listens");
    peer.write_all(&hello()).await.expect("it is open");
    // The first socket.
    let mut first = [0];
    peer.read_exact(&mut first).await.expect("an answer");
    for change in [
        &["log-level", "debug"][..],
        &["listeners", "pause", "a"],
        &["backends", "drain", "b", &test.server],
    ] {
        let output = test.try_ctl(change).await;
        assert!(!output.status.success(), "{output:?}");
        let error = String::from_utf8_lossy(&output.stdout);
        assert!(error.contains("a new process takes over"), "{error}");
    }
    drop(peer);
    test.gate.child.says("this process goes on").await;
    test.ctl(&["log-level", "debug"]).await;
}

#[tokio::test]
async fn what_a_new_configuration_lacks_is_named_and_left_out() {
    let mut test = Upgradable::start().await;
    test.ctl(&["backends", "drain", "b", &test.server]).await;
    let other = backend("one").await.to_string();
    let text = std::fs::read_to_string(&test.file).expect("it is there");
    let text = text.replace(&test.server, &other);
    std::fs::write(&test.file, text).expect("it is writable");
    let mut new = test.start_new();
    let said = new.says("not taken over").await;
    assert!(said.contains(&test.server), "{said}");
    new.says("ready for an upgrade").await;
    test.gate.child.says("this one drains").await;
    test.assert_serves().await;
}

#[tokio::test]
async fn a_socket_that_is_taken_over_gets_the_mode_of_the_new_configuration() {
    let test = Upgradable::start_with("").await;
    let mode = |name: &str| {
        let file = std::fs::metadata(test.folder.path(name)).expect("it is there");
        file.permissions().mode() & 0o777
    };
    let text = std::fs::read_to_string(&test.file).expect("it is there");
    let wide = text.replace("\nbackend =", "\nsocket-mode = \"0666\"\nbackend =");
    let mut processes = Vec::new();
    for (text, expected) in [(&wide, 0o666), (&text, 0o600)] {
        std::fs::write(&test.file, text).expect("it is writable");
        processes.push(test.upgrade().await);
        assert_eq!(mode("front.socket"), expected);
        assert_eq!(mode("admin.socket"), 0o600);
    }
}

/// Ends a process that is no child of the test.
struct Stranger(u32);

impl Drop for Stranger {
    fn drop(&mut self) {
        let number = self.0.to_string();
        let _ = std::process::Command::new("kill")
            .args(["-s", "KILL", &number])
            .status();
    }
}

#[tokio::test]
async fn a_new_process_that_fails_leaves_the_old_one_as_it_was() {
    let test = Upgradable::start().await;
    let right = std::fs::read_to_string(&test.file).expect("it is there");
    let blocker = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let blocked = blocker.local_addr().expect("it is bound");
    for (wrong, code) in [
        (right.replace("backend =", "bakend ="), 2),
        (
            right.replace("unix:front", &format!("{blocked}\", \"unix:front")),
            1,
        ),
    ] {
        std::fs::write(&test.file, wrong).expect("it is writable");
        let mut new = test.start_new();
        assert_eq!(new.ended_within(PATIENCE).await.code(), Some(code));
        test.assert_serves().await;
    }
    std::fs::write(&test.file, right).expect("it is writable");
    let new = test.upgrade().await;
    test.assert_serves().await;
    drop(new);
}

#[tokio::test]
async fn a_process_without_a_listener_in_common_is_no_successor() {
    let mut test = Upgradable::start().await;
    let text = std::fs::read_to_string(&test.file).expect("it is there");
    let other = text.replace("name = \"a\"", "name = \"z\"");
    let other = other.replace("unix:front.socket", "unix:other.socket");
    std::fs::write(&test.file, &other).expect("it is writable");
    let mut new = test.start_new();
    assert_eq!(new.ended_within(PATIENCE).await.code(), Some(1));
    let said = new.log_line().await;
    assert!(
        said.contains("has no listener of the old one; stop the old process"),
        "{said}"
    );
    let said = test.gate.child.says("this process goes on").await;
    assert!(said.contains("has no listener of the old one"), "{said}");
    test.assert_serves().await;

    // With one in common, the others are named.
    let text = text.replace(
        "\"127.0.0.1:0\", \"unix:front.socket\"",
        "\"unix:front.socket\"",
    );
    std::fs::write(&test.file, &text).expect("it is writable");
    let _new = test.upgrade().await;
    let said = test.gate.child.says("does not listen here").await;
    assert!(
        said.contains("WARN") && said.contains("127.0.0.1:0"),
        "{said}"
    );
}

#[tokio::test]
async fn a_process_that_breaks_the_protocol_changes_nothing() {
    let mut test = Upgradable::start().await;
    let path = test.folder.path("upgrade.socket");
    let hello = |version: &str| {
        let mut message = vec![1, 0, u8::try_from(version.len()).expect("it is short")];
        message.extend(version.as_bytes());
        message
    };
    let version = "portcullis-upgrade 2";
    for (sent, logged) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "breaks the protocol"),
        (hello("portcullis-upgrade 1"), "speaks another version"),
        (Vec::new(), "was rejected"),
        ([hello(version), vec![6, 0, 0]].concat(), "upgrade failed"),
        (hello(version), "upgrade failed"),
    ] {
        let mut peer = UnixStream::connect(&path).await.expect("it listens");
        peer.write_all(&sent).await.expect("it is open");
        peer.shutdown().await.expect("it is open");
        test.gate.child.says(logged).await;
        drop(peer);
        test.assert_serves().await;
    }
    // The answer to another version names the one that is spoken.
    let mut peer = UnixStream::connect(&path).await.expect("it listens");
    peer.write_all(&hello("x")).await.expect("it is open");
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer).await.expect("it ends");
    assert!(String::from_utf8_lossy(&answer).contains(version));
    let new = test.upgrade().await;
    test.assert_serves().await;
    drop(new);
}

/// Begins an upgrade by hand, up to the last socket and change that the old process sends.
async fn ask_for_sockets(test: &Upgradable) -> UnixStream {
    let path = test.folder.path("upgrade.socket");
    let mut peer = UnixStream::connect(&path).await.expect("it listens");
    peer.write_all(&hello()).await.expect("it is open");
    loop {
        let mut head = [0; 3];
        peer.read_exact(&mut head).await.expect("a message");
        let mut text = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        peer.read_exact(&mut text).await.expect("its text");
        if head[0] == ALL {
            return peer;
        }
    }
}

fn hello() -> Vec<u8> {
    let version = "portcullis-upgrade 2";
    let length = u8::try_from(version.len()).expect("it is short");
    [&[1, 0, length][..], version.as_bytes()].concat()
}

const ALL: u8 = 3;
const READY: [u8; 3] = [5, 0, 0];

#[tokio::test]
async fn a_new_process_that_ends_as_soon_as_it_is_ready_leaves_the_old_one_as_it_was() {
    let mut test = Upgradable::start().await;
    // So that the end of the new process is there when the old one reads that it is ready.
    test.gate.child.signal("STOP").await;
    let path = test.folder.path("upgrade.socket");
    let mut peer = UnixStream::connect(&path).await.expect("it listens");
    let sent = [&hello()[..], &READY].concat();
    peer.write_all(&sent).await.expect("it is open");
    peer.shutdown().await.expect("it is open");
    test.gate.child.signal("CONT").await;
    test.gate.child.says("this process goes on").await;
    drop(peer);
    test.assert_serves().await;
    let _new = test.upgrade().await;
    test.assert_serves().await;
}

#[tokio::test]
async fn a_new_process_that_hangs_is_given_up_and_what_waited_for_it_is_done() {
    let mut test = Upgradable::start().await;
    let peer = ask_for_sockets(&test).await;
    test.gate.child.signal("HUP").await;
    test.assert_serves().await;
    let error = test.gate.child.says("this process goes on").await;
    assert!(error.contains("did not answer within 10s"), "{error}");
    test.gate.child.says("was reloaded").await;
    test.ctl(&["listeners", "limit", "a", "7"]).await;
    drop(peer);
    let _new = test.upgrade().await;
    test.assert_serves().await;
}

#[tokio::test]
async fn a_signal_that_comes_during_the_greeting_of_a_new_process_does_not_disconnect_it() {
    let mut test = Upgradable::start().await;
    let path = test.folder.path("upgrade.socket");
    let mut peer = UnixStream::connect(&path).await.expect("it listens");
    let hello = hello();
    let (begin, rest) = hello.split_at(5);
    peer.write_all(begin).await.expect("it is open");
    test.gate.child.signal("HUP").await;
    test.gate.child.says("was reloaded").await;
    peer.write_all(rest).await.expect("it is open");
    let mut first = [0];
    peer.read_exact(&mut first).await.expect("a socket");
    assert_eq!(first, [2]);
}

#[tokio::test]
async fn a_process_that_is_stopped_during_an_upgrade_leaves_the_files_of_its_sockets() {
    let mut test = Upgradable::start().await;
    let text = std::fs::read_to_string(&test.file).expect("it is there");
    std::fs::write(&test.file, text.replace("\"1m\"", "\"0s\"")).expect("it is writable");
    test.gate.child.signal("HUP").await;
    test.gate.child.says("was reloaded").await;
    let peer = ask_for_sockets(&test).await;
    test.gate.child.signal("TERM").await;
    assert_eq!(test.gate.child.ended_within(PATIENCE).await.code(), Some(0));
    for name in ["front.socket", "admin.socket"] {
        assert!(
            test.folder.path(name).exists(),
            "{name} is of the new process"
        );
    }
    drop(peer);
    // What a new process that has died meanwhile leaves behind is replaced.
    let mut new = test.start_new();
    new.says("ready for an upgrade").await;
    let mut client = test.connect_unix().await;
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
}

#[tokio::test]
async fn a_process_that_announces_its_end_hands_over_what_it_still_accepts_on() {
    let mut test = Upgradable::start().await;
    let mut old = test.gate.connect().await;
    assert_eq!(line(&mut old).await.expect("the greeting"), "one");
    test.gate.child.signal("TERM").await;
    // Connections are accepted for a minute.
    test.assert_serves().await;
    let _new = test.upgrade().await;
    test.gate.child.says("this one drains").await;
    test.assert_serves().await;
    old.write_all(b"still here\n").await.expect("it is open");
    assert_eq!(line(&mut old).await.expect("an echo"), "still here");
    drop(old);
    assert_eq!(test.gate.child.ended_within(PATIENCE).await.code(), Some(0));
    test.assert_serves().await;
}

#[tokio::test]
async fn each_process_says_why_the_other_one_has_failed() {
    let mut test = Upgradable::start().await;
    let right = std::fs::read_to_string(&test.file).expect("it is there");
    let blocker = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let blocked = blocker.local_addr().expect("it is bound");
    let wrong = right.replace("unix:front", &format!("{blocked}\", \"unix:front"));
    std::fs::write(&test.file, wrong).expect("it is writable");
    let mut new = test.start_new();
    assert_eq!(new.ended_within(PATIENCE).await.code(), Some(1));
    let why = test.gate.child.says("this process goes on").await;
    let expected = format!("cannot listen on {blocked}");
    assert!(why.contains("refused") && why.contains(&expected), "{why}");

    let path = test.folder.path("upgrade.socket");
    let mut peer = UnixStream::connect(&path).await.expect("it listens");
    let wrong = [&hello()[..], &[6, 0, 0]].concat();
    peer.write_all(&wrong).await.expect("it is open");
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer).await.expect("it ends");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains("breaks the protocol"), "{answer}");
    test.assert_serves().await;
}

#[tokio::test]
async fn a_process_whose_predecessor_dies_while_it_hands_over_starts_without_it() {
    let folder = Folder::new();
    let server = backend("one").await.to_string();
    let file = folder.write("gate.toml", configuration(&server));
    let old = UnixListener::bind(folder.path("upgrade.socket")).expect("the folder is writable");
    let file = file.to_str().expect("it is UTF-8");
    let mut new = Child::start(program(["run", "--config", file])).expect("it starts");
    let (mut asks, _) = old.accept().await.expect("a new process");
    let mut greeting = [0; 3];
    asks.read_exact(&mut greeting).await.expect("a greeting");
    // Its file stays, as after SIGKILL.
    drop(old);
    drop(asks);
    new.says("ready for an upgrade").await;
    let client = UnixStream::connect(folder.path("front.socket")).await;
    let mut client = client.expect("it listens");
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
}

const PATIENCE: Duration = Duration::from_secs(30);
