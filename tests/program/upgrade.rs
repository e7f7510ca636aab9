//! Upgrades: a new process takes the listening sockets of the old one over.

mod changes;
mod failures;

use crate::{
    gate::{Folder, Gate, Stranger, backend, line, program},
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
    net::{TcpStream, UnixStream},
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

const PATIENCE: Duration = Duration::from_secs(30);
