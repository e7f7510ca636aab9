//! In place of systemd: its notification socket, its watchdog, and the sockets that it passes.

mod sockets;

use crate::gate::{Folder, Gate, backend, line, program};
use std::{path::Path, time::Duration};
use tokio::{net::UnixDatagram, process::Command, time::timeout};

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
