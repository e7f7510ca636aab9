//! The log: levels, access lines, and rotation.

use crate::{
    gate::{Authority, Folder, Gate, Stranger, backend, line},
    tls,
};
use serde_json::Value;
use std::{fs, path::Path, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

/// The lines of `log`, in a gate with one listener before `server`.
fn configuration(log: &str, server: &str) -> String {
    format!(
        "version = 1\n[log]\n{log}\n[[listener]]\nname = \"shop\"\nlisten = \"127.0.0.1:0\"\n\
         backend = \"one\"\n[[backend]]\nname = \"one\"\nservers = \"{server}\"\n"
    )
}

/// A client that gets the greeting, sends five bytes, gets them back, and leaves.
async fn visit(gate: &Gate) {
    visit_over(gate.connect().await).await;
}

async fn visit_over(mut client: impl AsyncRead + AsyncWrite + Unpin) {
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
    client.write_all(b"ping\n").await.expect("it is open");
    assert_eq!(line(&mut client).await.expect("an echo"), "ping");
}

/// Waits until the file has a line with `text`.
async fn line_in(file: &Path, text: &str) -> String {
    let look = async {
        loop {
            let written = fs::read_to_string(file).unwrap_or_default();
            if let Some(line) = written.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            tokio::task::yield_now().await;
        }
    };
    let found = timeout(Duration::from_secs(30), look).await;
    found.unwrap_or_else(|_| panic!("no {text} in {}", file.display()))
}

#[tokio::test]
async fn a_reload_changes_the_format_of_the_next_line() {
    let folder = Folder::new();
    let server = backend("one").await.to_string();
    let file = folder.write("gate.toml", configuration("format = \"json\"", &server));
    let mut gate = Gate::run(&file, 1).await;
    visit(&gate).await;
    let is_json = |line: &str| serde_json::from_str::<Value>(line).is_ok();
    assert!(is_json(&gate.child.says("outcome").await));
    for (format, json) in [("text", false), ("json", true)] {
        folder.write(
            "gate.toml",
            configuration(&format!("format = \"{format}\""), &server),
        );
        gate.child.signal("HUP").await;
        assert_eq!(is_json(&gate.child.says("was reloaded").await), json);
        visit(&gate).await;
        assert_eq!(is_json(&gate.child.says("outcome").await), json);
    }
}

/// `script` runs the program in a terminal.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn access_lines_in_a_file_have_no_colors_and_those_on_a_terminal_do() {
    let folder = Folder::new();
    let server = backend("one").await.to_string();
    let (file, log) = (folder.path("gate.toml"), folder.path("access.log"));
    let write = |access: &str| {
        let log = format!("level = \"debug\"\naccess = \"{access}\"\n[process]\nwatch = true");
        folder.write("gate.toml", configuration(&log, &server));
    };
    let has_colors = |line: &str| line.contains('\u{1b}');
    write("stdout");
    let mut command = tokio::process::Command::new("script");
    let number = folder.path("number");
    let run = format!(
        "echo $$ > {}; exec {} run --config {}",
        number.display(),
        env!("CARGO_BIN_EXE_portcullis"),
        file.display()
    );
    command.args(["--quiet", "--return", "--command", &run, "/dev/null"]);
    command.env("SHELL", "/bin/sh").env_remove("NO_COLOR");
    let mut gate = Gate::start(command, 1).await;
    // It goes on after `script`, because the end of its terminal sends SIGHUP, which is a reload.
    let number = fs::read_to_string(number).expect("it is there");
    let _program = Stranger(number.trim().parse().expect("a number"));
    visit(&gate).await;
    assert!(has_colors(&gate.child.says("outcome").await));
    for _ in 0..2 {
        write(log.to_str().expect("it is UTF-8"));
        assert!(has_colors(&gate.child.says("was reloaded").await));
        visit(&gate).await;
        let line = line_in(&log, "outcome").await;
        assert!(
            line.contains("ended_by=\"client\"") && !has_colors(&line),
            "{line:?}"
        );
        fs::remove_file(&log).expect("it is there");
        write("stdout");
        assert!(has_colors(&gate.child.says("was reloaded").await));
        visit(&gate).await;
        assert!(has_colors(&gate.child.says("outcome").await));
    }
}

#[tokio::test]
async fn each_connection_has_one_line_with_its_facts() {
    let folder = Folder::new();
    let server = backend("one").await.to_string();
    let file = folder.write("gate.toml", configuration("format = \"json\"", &server));
    let mut gate = Gate::run(&file, 1).await;
    visit(&gate).await;
    let access = gate.child.says("outcome").await;
    let access: Value = serde_json::from_str(&access).expect("it is JSON");
    let expected = [
        ("target", "access"),
        ("listener", "shop"),
        ("backend", "one"),
        ("server", &server),
        ("ended_by", "client"),
        ("outcome", "completed"),
    ];
    for (field, value) in expected {
        assert_eq!(access[field], value, "{access}");
    }
    assert_eq!(
        (&access["bytes_in"], &access["bytes_out"]),
        (&5.into(), &9.into())
    );
    assert!(
        access["peer"]
            .as_str()
            .is_some_and(|it| it.starts_with("127.0.0.1:"))
    );
    for field in [
        "duration",
        "connect_time",
        "first_byte_in",
        "first_byte_out",
    ] {
        assert!(
            access[field].as_f64().is_some_and(|it| it > 0.0),
            "{access}"
        );
    }
    for field in ["reason", "route", "proxy", "name", "observed"] {
        assert!(access.get(field).is_none(), "{access}");
    }
    gate.child.signal("TERM").await;
    assert!(!gate.child.says("signal").await.contains("access"));
}

#[tokio::test]
async fn a_reload_changes_the_level_and_where_access_lines_go() {
    let folder = Folder::new();
    let server = backend("one").await.to_string();
    let path = folder.path("access.log");
    let front = folder.path("front.socket");
    // At level error there is no line with the address, so it is fixed.
    let text = |log: &str| configuration(log, &server).replace("127.0.0.1:0", "unix:front.socket");
    let file = folder.write("gate.toml", text("level = \"error\""));
    let mut gate = Gate::run(&file, 0).await;
    crate::support::eventually("it listens", || {
        std::os::unix::net::UnixStream::connect(&front).is_ok()
    })
    .await;
    // Access lines do not depend on the level.
    gate.child.says("outcome").await;

    folder.write(
        "gate.toml",
        text("level = \"debug\"\naccess = \"./access.log\""),
    );
    gate.child.signal("HUP").await;
    gate.child.says("was reloaded").await;
    visit_over(UnixStream::connect(&front).await.expect("it listens")).await;
    line_in(&path, "\"bytes_in\":5").await;

    for wrong in ["./missing/access.log", "acess"] {
        folder.write("gate.toml", text(&format!("access = \"{wrong}\"")));
        gate.child.signal("HUP").await;
        let why = gate.child.says("gate.toml:3:10").await;
        assert!(why.contains(wrong) || why.contains("No such file"), "{why}");
        gate.child.says("the old one stays in use").await;
    }
    folder.write("gate.toml", text("level = \"error\"\naccess = \"off\""));
    gate.child.signal("HUP").await;
    crate::support::eventually("it was reloaded", || {
        // Nothing is logged any more, so the file is watched instead.
        fs::read_to_string(&path).is_ok_and(|text| text.lines().count() == 1)
    })
    .await;
}

#[tokio::test]
async fn a_rotated_file_is_opened_again_on_sigusr1_and_at_a_reload() {
    let folder = Folder::new();
    let server = backend("one").await.to_string();
    let log = "format = \"json\"\naccess = \"./access.log\"";
    let file = folder.write("gate.toml", configuration(log, &server));
    let path = folder.path("access.log");
    let mut gate = Gate::run(&file, 1).await;
    visit(&gate).await;
    line_in(&path, "outcome").await;
    for (number, signal) in ["USR1", "HUP"].into_iter().enumerate() {
        let rotated = folder.path(&format!("access.log.{number}"));
        fs::rename(&path, &rotated).expect("it is there");
        gate.child.signal(signal).await;
        crate::support::eventually("it is opened again", || path.exists()).await;
        // A connection may have begun before.
        let look = async {
            while fs::read_to_string(&path).is_ok_and(|text| text.is_empty()) {
                visit(&gate).await;
            }
        };
        timeout(Duration::from_secs(30), look)
            .await
            .expect("a line");
        let before = fs::read_to_string(&rotated).expect("it is there");
        assert!(before.lines().count() >= 1);
    }
    // What is still in the queue at the end is written.
    for _ in 0..100 {
        drop(gate.connect().await);
    }
    gate.child.signal("TERM").await;
    gate.child.ended_within(Duration::from_secs(30)).await;
    let text = fs::read_to_string(&path).expect("it is there");
    let lines = text.lines().map(serde_json::from_str::<Value>);
    let lines: Vec<_> = lines.collect::<Result<_, _>>().expect("whole lines");
    assert!(lines.len() > 100, "{} lines", lines.len());
}

#[tokio::test]
async fn a_log_that_is_not_read_stalls_no_connection_and_the_lines_lost_are_counted() {
    let folder = Folder::new();
    let server = backend("one").await.to_string();
    let file = folder.write("gate.toml", configuration("format = \"json\"", &server));
    let mut gate = Gate::run(&file, 1).await;
    // More than the queue, the pipe and the test's own buffer hold.
    for _ in 0..10_000 {
        let mut client = gate.connect().await;
        assert_eq!(line(&mut client).await.expect("the greeting"), "one");
    }
    let lost = gate.child.says("lines of the log were dropped").await;
    let lost: Value = serde_json::from_str(&lost).expect("it is JSON");
    assert!(
        lost["dropped"].as_u64().is_some_and(|lost| lost > 0),
        "{lost}"
    );
    visit(&gate).await;
    gate.child.says("\"bytes_in\":5").await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_log_file_that_takes_nothing_is_a_warning_and_counted() {
    let folder = Folder::new();
    let server = backend("one").await.to_string();
    let log = "format = \"json\"\naccess = \"/dev/full\"";
    let admin = "[admin]\nlisten = \"unix:admin.sock\"\n";
    let file = folder.write("gate.toml", configuration(log, &server) + admin);
    let mut gate = Gate::run(&file, 1).await;
    for _ in 0..3 {
        visit(&gate).await;
    }
    let warned = gate.child.says("lines of the log cannot be written").await;
    assert!(warned.contains("No space left on device"), "{warned}");
    // Once a minute, also if more lines are lost.
    gate.child.signal("HUP").await;
    loop {
        let line = gate.child.line().await;
        assert!(!line.contains("lines of the log"), "{line}");
        if line.contains("was reloaded") {
            break;
        }
    }
    let lost = |path: &str, name: &str| {
        let (request, name) = (format!("GET {path} HTTP/1.0\r\n\r\n"), name.to_owned());
        let socket = folder.path("admin.sock");
        async move {
            let mut stream = UnixStream::connect(socket).await.expect("it listens");
            let sent = stream.write_all(request.as_bytes()).await;
            sent.expect("it is open");
            let mut text = String::new();
            stream.read_to_string(&mut text).await.expect("an answer");
            let counted = text.split_once(&name).map(|(_, behind)| behind.to_owned());
            let digits = |it: &char| it.is_ascii_digit();
            let counted = counted.map(|it| it.chars().take_while(digits).collect::<String>());
            counted.and_then(|it| it.parse::<u64>().ok())
        }
    };
    let counted = lost("/metrics", "\nportcullis_log_lines_dropped_total ").await;
    assert!(counted.is_some_and(|lost| lost > 0), "{counted:?}");
    let shown = lost("/api/status", "\"log_lines_dropped\":").await;
    assert!(shown.is_some_and(|lost| lost > 0), "{shown:?}");
}

#[tokio::test]
async fn a_client_of_routes_has_its_name_and_fingerprint_in_its_line() {
    let folder = Folder::new();
    let authority = Authority::new();
    let server = backend("one").await.to_string();
    let text = configuration("format = \"json\"", &server);
    let route = "[[listener.route]]\nnames = \"other.example\"\nbackend = \"one\"\npass = true";
    let text = text.replace(
        "backend = \"one\"\n[[backend]]",
        &format!("{route}\n[[backend]]"),
    );
    let mut gate = Gate::run(&folder.write("gate.toml", text), 1).await;
    let greet = async |gate: &Gate, name| {
        let mut client = gate.connect().await;
        let hello = tls::client_hello(tls::client(&authority, None), name);
        client.write_all(&hello).await.expect("it is open");
    };
    greet(&gate, "other.example").await;
    let taken = gate.child.says("outcome").await;
    let taken: Value = serde_json::from_str(&taken).expect("it is JSON");
    assert_eq!(taken["route"], "route other.example", "{taken}");
    greet(&gate, "shop.example").await;
    let access = gate.child.says("outcome").await;
    let access: Value = serde_json::from_str(&access).expect("it is JSON");
    assert!(access.get("route").is_none(), "{access}");
    for (field, value) in [
        ("name", "shop.example"),
        ("outcome", "refused"),
        ("ended_by", "gate"),
        (
            "reason",
            "rejected by route: no route matches: server name shop.example",
        ),
    ] {
        assert_eq!(access[field], value, "{access}");
    }
    let ja4 = access["ja4"].as_str();
    assert!(
        ja4.is_some_and(|ja4| ja4.starts_with("t13d") && ja4.len() == 36),
        "{access}"
    );
}
