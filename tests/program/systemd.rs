//! A systemd of the test's own: its notification socket, its watchdog and its sockets.

use crate::{
    gate::{Folder, Gate, backend, line, program},
    support::child::Child,
};
use std::{
    net::TcpListener,
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixListener,
    },
    path::Path,
    time::Duration,
};
use tokio::{
    net::{TcpStream, UnixDatagram, UnixStream},
    process::Command,
    time::timeout,
};

/// The socket to which services report.
struct Systemd {
    folder: Folder,
    socket: UnixDatagram,
}

impl Systemd {
    fn new() -> Self {
        let folder = Folder::new();
        let socket = UnixDatagram::bind(folder.path("notify")).expect("a socket");
        Self { folder, socket }
    }

    /// The fields of the next message that is not from the watchdog.
    async fn message(&self) -> Vec<(String, String)> {
        loop {
            let fields = self.any_message().await;
            if fields.iter().all(|(name, _)| name != "WATCHDOG") {
                return fields;
            }
        }
    }

    async fn any_message(&self) -> Vec<(String, String)> {
        let mut buffer = [0; 4_096];
        let received = timeout(PATIENCE, self.socket.recv(&mut buffer)).await;
        let received = received.expect("a message").expect("it is open");
        let text = String::from_utf8_lossy(&buffer[..received]);
        let fields = text.lines().filter_map(|line| line.split_once('='));
        fields
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    /// A program that reports to it.
    fn program(&self, file: &Path) -> Command {
        let mut command = program(["run", "--config", file.to_str().expect("it is UTF-8")]);
        command.env("NOTIFY_SOCKET", self.folder.path("notify"));
        command
    }
}

fn value<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let field = fields.iter().find(|(known, _)| known == name);
    field.map(|(_, value)| &**value)
}

fn configuration(listen: &str, server: &str) -> String {
    format!(
        "version = 1\n[process]\nupgrade-socket = \"upgrade.socket\"\n[[listener]]\nname = \"a\"\n\
         listen = {listen}\nbackend = \"b\"\n[[backend]]\nname = \"b\"\nservers = \"{server}\"\n"
    )
}

#[tokio::test]
async fn systemd_learns_of_the_start_reloads_and_the_shutdown() {
    let systemd = Systemd::new();
    let text = configuration("\"127.0.0.1:0\"", &backend("one").await.to_string());
    let file = systemd.folder.write("gate.toml", &text);
    let mut gate = Gate::start(systemd.program(&file), 1).await;
    let ready = systemd.message().await;
    assert_eq!(value(&ready, "READY"), Some("1"));
    assert_eq!(
        value(&ready, "STATUS"),
        Some("serving 1 listener with 1 backend")
    );

    let mut before = 0;
    for (text, status) in [
        (text.clone(), "serving 1 listener with 1 backend"),
        (
            text.replace("backend =", "bakend ="),
            "the last reload failed",
        ),
    ] {
        systemd.folder.write("gate.toml", text);
        gate.child.signal("HUP").await;
        let reloading = systemd.message().await;
        assert_eq!(value(&reloading, "RELOADING"), Some("1"));
        let micros = value(&reloading, "MONOTONIC_USEC").expect("a time");
        let micros: u64 = micros.parse().expect("a number");
        assert!(micros > before, "{micros} is not after {before}");
        before = micros;
        let ready = systemd.message().await;
        assert_eq!(value(&ready, "READY"), Some("1"));
        let words = value(&ready, "STATUS").expect("a status");
        assert!(words.contains(status), "{words}");
    }

    gate.child.signal("TERM").await;
    assert_eq!(value(&systemd.message().await, "STOPPING"), Some("1"));
    assert_eq!(gate.child.ended_within(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn systemd_learns_what_a_shutdown_waits_for_and_waits_longer() {
    let systemd = Systemd::new();
    let text = configuration("\"127.0.0.1:0\"", &backend("one").await.to_string());
    let text = text.replace("version = 1", "version = 1\n[drain]\ndeadline = \"1h\"");
    let file = systemd.folder.write("gate.toml", text);
    let mut gate = Gate::start(systemd.program(&file), 1).await;
    assert_eq!(value(&systemd.message().await, "READY"), Some("1"));
    let mut clients = [gate.connect().await, gate.connect().await];
    for client in &mut clients {
        line(client).await.expect("the greeting");
    }
    gate.child.signal("TERM").await;
    // The second one comes ten seconds later.
    let [first, second] = clients;
    for (open, next) in [
        ("2 connections are open", Some(first)),
        ("1 connection is open", None),
    ] {
        let message = systemd.message().await;
        assert_eq!(value(&message, "STOPPING"), Some("1"));
        let status = value(&message, "STATUS").expect("a status");
        assert!(
            status.starts_with(&format!("draining: {open}, and ")),
            "{status}"
        );
        let more = value(&message, "EXTEND_TIMEOUT_USEC").expect("more time");
        let more: u64 = more.parse().expect("a number");
        assert!(more > 20_000_000, "{more}");
        let line = gate.child.says("draining").await;
        let line: serde_json::Value = serde_json::from_str(&line).expect("it is JSON");
        assert_eq!(line["open"].to_string(), open[..1]);
        let left = line["left"].as_u64().expect("whole seconds");
        assert!((3_580..=3_600).contains(&left), "{line}");
        drop(next);
    }
    drop(second);
    assert_eq!(gate.child.ended_within(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn the_watchdog_gets_signs_of_life_while_it_wants_them() {
    let systemd = Systemd::new();
    let text = configuration("\"127.0.0.1:0\"", &backend("one").await.to_string());
    let file = systemd.folder.write("gate.toml", text);
    let mut command = systemd.program(&file);
    command.env("WATCHDOG_USEC", "50000");
    let gate = Gate::start(command, 1).await;
    let mut signs = 0;
    while signs < 3 {
        let message = systemd.any_message().await;
        signs += usize::from(value(&message, "WATCHDOG") == Some("1"));
    }
    drop(gate);
}

#[tokio::test]
async fn an_upgrade_names_the_new_main_process() {
    let systemd = Systemd::new();
    let text = configuration("\"127.0.0.1:0\"", &backend("one").await.to_string());
    let file = systemd.folder.write("gate.toml", text);
    let mut old = Gate::start(systemd.program(&file), 1).await;
    old.child.says("ready for an upgrade").await;
    assert_eq!(value(&systemd.message().await, "READY"), Some("1"));
    let new = Gate::start(systemd.program(&file), 1).await;
    // First, because systemd ignores the messages of others than the main process.
    let main = systemd.message().await;
    assert_eq!(value(&main, "MAINPID"), Some(&*new.child.id().to_string()));
    assert_eq!(value(&systemd.message().await, "READY"), Some("1"));
    assert_eq!(old.child.ended_within(PATIENCE).await.code(), Some(0));
    new.child.signal("TERM").await;
    // The old process has not reported its own end.
    assert_eq!(value(&systemd.message().await, "STOPPING"), Some("1"));
}

#[tokio::test]
async fn a_process_that_was_replaced_gives_no_signs_of_life() {
    let systemd = Systemd::new();
    let text = configuration("\"127.0.0.1:0\"", &backend("one").await.to_string());
    let file = systemd.folder.write("gate.toml", text);
    let mut command = systemd.program(&file);
    command.env("WATCHDOG_USEC", "50000");
    let mut old = Gate::start(command, 1).await;
    old.child.says("ready for an upgrade").await;
    let client = old.connect().await;
    let new = Gate::start(systemd.program(&file), 1).await;
    while value(&systemd.message().await, "MAINPID").is_none() {}
    assert_eq!(value(&systemd.message().await, "READY"), Some("1"));
    let next = timeout(Duration::from_millis(500), systemd.any_message()).await;
    assert!(next.is_err(), "{next:?}");
    drop((client, new));
}

#[tokio::test]
async fn a_process_that_shuts_down_does_not_report_a_reload() {
    let systemd = Systemd::new();
    let text = configuration("\"127.0.0.1:0\"", &backend("one").await.to_string());
    let text = text.replace(
        "version = 1",
        "version = 1\n[admin]\nlisten = \"unix:admin\"",
    );
    let file = systemd.folder.write("gate.toml", text);
    let mut gate = Gate::start(systemd.program(&file), 1).await;
    assert_eq!(value(&systemd.message().await, "READY"), Some("1"));
    let mut client = gate.connect().await;
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
    gate.child.signal("TERM").await;
    assert_eq!(value(&systemd.message().await, "STOPPING"), Some("1"));
    gate.child.signal("HUP").await;
    gate.child.says("not reloaded, because").await;
    let admin = format!("unix:{}", systemd.folder.path("admin").display());
    let reload = program(["ctl", "--admin", &admin, "reload"]).output().await;
    let reload = reload.expect("it runs");
    assert!(!reload.status.success());
    let why = format!("{reload:?}");
    assert!(why.contains("the program shuts down"), "{why}");
    drop(client);
    assert_eq!(gate.child.ended_within(PATIENCE).await.code(), Some(0));
    let mut buffer = [0; 4_096];
    let more = systemd.socket.try_recv(&mut buffer);
    assert!(more.is_err(), "{}", String::from_utf8_lossy(&buffer));
}

#[tokio::test]
async fn listeners_use_the_sockets_that_systemd_has_opened() {
    let folder = Folder::new();
    let path = folder.path("passed.socket");
    let web = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = web.local_addr().expect("it is bound");
    let unix = UnixListener::bind(&path).expect("a socket");
    let text = configuration("\"fd:web\"", &backend("one").await.to_string());
    let file = folder.write("gate.toml", &text);
    // It waits in the queue until the program runs.
    let mut early = TcpStream::connect(address).await.expect("it listens");
    let mut gate = activate(&file, &[("web", &web), ("web", &unix)]);
    for _ in 0..2 {
        gate.says("listening on").await;
    }
    assert_eq!(line(&mut early).await.expect("the greeting"), "one");
    let mut client = UnixStream::connect(&path).await.expect("it listens");
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");

    // A listener that goes and returns finds its sockets again.
    for listen in ["\"127.0.0.1:0\"", "\"fd:web\""] {
        folder.write("gate.toml", text.replace("\"fd:web\"", listen));
        gate.signal("HUP").await;
        gate.says("was reloaded").await;
    }
    let mut late = TcpStream::connect(address).await.expect("it listens");
    assert_eq!(line(&mut late).await.expect("the greeting"), "one");
    drop((early, client, late));
    gate.signal("TERM").await;
    assert_eq!(gate.ended_within(PATIENCE).await.code(), Some(0));
    assert!(path.exists(), "the file belongs to systemd");
}

#[tokio::test]
async fn a_new_process_knows_the_sockets_that_systemd_has_passed_to_the_old_one() {
    let folder = Folder::new();
    let path = folder.path("passed.socket");
    let web = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let api = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let unix = UnixListener::bind(&path).expect("a socket");
    let server = backend("one").await.to_string();
    let text = configuration("\"fd:web\"", &server);
    let file = folder.write("gate.toml", &text);
    let mut old = activate(&file, &[("web", &web), ("web", &unix), ("api", &api)]);
    old.says("ready for an upgrade").await;
    let arguments = ["run", "--config", file.to_str().expect("it is UTF-8")];
    let mut new = Child::start(program(arguments)).expect("it starts");
    new.says("ready for an upgrade").await;
    assert_eq!(old.ended_within(PATIENCE).await.code(), Some(0));
    // One that no listener has used, and one that goes and returns.
    for listen in ["\"fd:api\"", "[\"fd:web\", \"fd:api\"]"] {
        folder.write("gate.toml", configuration(listen, &server));
        new.signal("HUP").await;
        new.says("was reloaded").await;
    }
    for socket in [&web, &api] {
        let address = socket.local_addr().expect("it is bound");
        let mut client = TcpStream::connect(address).await.expect("it listens");
        assert_eq!(line(&mut client).await.expect("the greeting"), "one");
    }
    let mut client = UnixStream::connect(&path).await.expect("it listens");
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
    drop(client);
    new.signal("TERM").await;
    assert_eq!(new.ended_within(PATIENCE).await.code(), Some(0));
    assert!(path.exists(), "the file belongs to systemd");
}

#[tokio::test]
async fn a_socket_that_was_not_passed_is_named() {
    let folder = Folder::new();
    let text = configuration("\"fd:wep\"", &backend("one").await.to_string());
    let file = folder.write("gate.toml", text);
    let web = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let mut gate = activate(&file, &[("web", &web)]);
    let error = gate.log_line().await;
    assert!(error.contains("gate.toml:6:10"), "{error}");
    assert!(error.contains("FileDescriptorName=wep"), "{error}");
    assert_eq!(gate.ended_within(PATIENCE).await.code(), Some(1));
}

/// A file descriptor that can be passed on.
trait Passed: AsFd + AsRawFd {}
impl<T: AsFd + AsRawFd> Passed for T {}

/// Starts the program with `sockets` in the file descriptors 3 and up.
fn activate(file: &Path, sockets: &[(&str, &dyn Passed)]) -> Child {
    let mut script = String::new();
    let mut duplicates = Vec::new();
    for (number, (_, socket)) in sockets.iter().enumerate() {
        // The shell takes them over, so they may pass through one exec.
        let duplicate = rustix::io::dup(socket.as_fd()).expect("descriptors are left");
        script += &format!("exec {}<&{}\n", 3 + number, duplicate.as_raw_fd());
        duplicates.push(duplicate);
    }
    let names: Vec<_> = sockets.iter().map(|(name, _)| *name).collect();
    script += "LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let mut command = Command::new("bash");
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_portcullis")])
        .args(["run", "--config", file.to_str().expect("it is UTF-8")])
        .env("LISTEN_FDS", sockets.len().to_string())
        .env("LISTEN_FDNAMES", names.join(":"));
    Child::start(command).expect("it starts")
}

#[tokio::test]
async fn the_units_are_what_systemd_expects() {
    let Ok(version) = Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .await
    else {
        println!("skipped: there is no systemd-analyze");
        return;
    };
    let version = String::from_utf8_lossy(&version.stdout);
    let version: u32 = version
        .split_whitespace()
        .nth(1)
        .and_then(|version| version.parse().ok())
        .expect("a version");
    let folder = Folder::new();
    let share = Path::new(env!("CARGO_MANIFEST_DIR")).join("share");
    let read = |name: &str| std::fs::read_to_string(share.join(name)).expect("it is there");
    let mut service = read("portcullis.service");
    service = service.replace("/usr/bin/portcullis", env!("CARGO_BIN_EXE_portcullis"));
    if version < 253 {
        service = service.replace("Type=notify-reload", "Type=notify");
    }
    let service = folder.write("portcullis.service", service);
    let socket = folder.write("portcullis.socket", read("portcullis.socket"));
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args([service, socket])
        .output()
        .await
        .expect("it runs");
    let said = String::from_utf8_lossy(&verify.stderr);
    assert!(verify.status.success(), "{said}");
    let about_ours: Vec<_> = said
        .lines()
        .filter(|line| line.contains("portcullis"))
        .collect();
    assert!(about_ours.is_empty(), "{about_ours:?}");
}

const PATIENCE: Duration = Duration::from_secs(30);
