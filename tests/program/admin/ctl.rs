//! `portcullis ctl`, as a process.

use super::{Administered, TOKEN, configuration, forward_to, two_certificates};
use crate::{
    gate::{Authority, Folder, Gate, backend, line, program},
    tls,
};
use serde_json::Value;
use std::process::Output;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

impl Administered {
    async fn ctl(&self, arguments: &[&str]) -> Output {
        let admin = format!("http://{}", self.admin);
        let mut command = program(["ctl", "--admin", &admin]);
        command.args(arguments).env("PORTCULLIS_TOKEN", TOKEN);
        command.output().await.expect("it starts")
    }
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

#[tokio::test]
async fn ctl_asks_and_changes_with_the_token_of_the_environment_or_a_file() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    let ready = running.ctl(&["ready"]).await;
    assert_eq!(
        (ready.status.code(), text(&ready.stdout)),
        (Some(0), "ready\n".into())
    );
    let reload = running.ctl(&["reload"]).await;
    assert_eq!(
        (reload.status.code(), text(&reload.stdout)),
        (Some(0), "reloaded\n".into())
    );

    let wrong = running.folder.write("wrong", "x".repeat(20));
    let wrong = running
        .ctl(&["reload", "--token-file", wrong.to_str().expect("UTF-8")])
        .await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        text(&wrong.stderr).contains("the token is wrong"),
        "{}",
        text(&wrong.stderr)
    );
}

#[tokio::test]
async fn ctl_says_what_is_missing() {
    let none = program(["ctl", "status", "--config", "/nowhere.toml"]);
    let none = { none }.output().await.expect("it starts");
    assert_eq!(none.status.code(), Some(2));
    assert!(
        text(&none.stderr).contains("write --admin"),
        "{}",
        text(&none.stderr)
    );
    let folder = Folder::new();
    let damaged = folder.write("gate.toml", "version = 1\n[admin\n");
    let damaged = damaged.to_str().expect("it is UTF-8");
    let damaged = program(["ctl", "status", "--config", damaged]);
    let damaged = { damaged }.output().await.expect("it starts");
    let error = text(&damaged.stderr);
    assert!(
        error.contains("gate.toml:2:") && !error.contains("there is no [admin]"),
        "{error}"
    );
    let closed = program(["ctl", "status", "--admin", "127.0.0.1:1"]);
    let closed = { closed }.output().await.expect("it starts");
    assert_eq!(closed.status.code(), Some(1));
    assert!(
        text(&closed.stderr).contains("http://127.0.0.1:1: "),
        "{}",
        text(&closed.stderr)
    );
}

#[tokio::test]
async fn ctl_says_how_to_give_the_token() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    let admin = format!("http://{}", running.admin);
    let file = running.folder.path("gate.toml");
    let file = file.to_str().expect("it is UTF-8");
    let need = "portcullis: this change needs the token: set PORTCULLIS_TOKEN, or use --token-file";
    let ctl = async |arguments: &[&str]| {
        let mut command = program([&["ctl", "reload"], arguments].concat());
        let output = command.env_remove("PORTCULLIS_TOKEN").output().await;
        let output = output.expect("it starts");
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    };
    assert_eq!(ctl(&["--admin", &admin]).await, format!("{need}\n"));
    let with_address = std::fs::read_to_string(file).expect("it is there");
    let with_address = with_address.replacen("127.0.0.1:0", &running.admin.to_string(), 1);
    let with_address = with_address.replace("\"token\"", "\"nowhere\"");
    let other = running.folder.write("other.toml", with_address);
    let other = other.to_str().expect("it is UTF-8");
    let nowhere = running.folder.path("nowhere").display().to_string();
    assert_eq!(
        ctl(&["--config", other]).await,
        format!(
            "{need}; {other}:4:14: {nowhere} cannot be read: No such file or directory (os error 2)\n"
        )
    );
}

#[tokio::test]
async fn ctl_knows_what_is_no_admin_interface() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let page = "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 9\r\n\r\n<h1>x</h1";
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4_096]).await;
            let _ = stream.write_all(page.as_bytes()).await;
        }
    });
    let admin = format!("http://{address}");
    let output = program(["ctl", "--admin", &admin, "status"]).output().await;
    let output = output.expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        format!("portcullis: {admin}: this is not an admin interface of portcullis\n")
    );
}

#[tokio::test]
async fn ctl_shows_tables_and_changes_what_the_interface_can() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    let mut client = running.gate.connect().await;
    line(&mut client).await.expect("the greeting");
    let output = async |arguments: &[&str]| {
        let output = running.ctl(arguments).await;
        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    };
    let peer = client.local_addr().expect("it is bound").to_string();
    for (command, parts) in [
        (
            &["status"][..],
            &["serving, ready", "1 open, 1 accepted", "gate.toml ("][..],
        ),
        (&["listeners"], &["NAME", "open", "10000"]),
        (&["connections"], &["CLIENT", &peer, "serving", "1 of 1"]),
        (&["connections", "--peer", "192.0.2.0/24"], &["0 of 0"]),
        (&["backends"], &["BACKEND", "up", "yes"]),
        (&["certificates"], &["DAYS LEFT"]),
        (&["connections", "--older", "1h"], &["0 of 0"]),
        (&["connections", "--older", "0"], &["1 of 1"]),
        (&["listeners", "limit", "a", "7"], &["7"]),
        (&["listeners", "limit", "a", "off"], &["off"]),
        (&["log-level", "debug"], &["log level: debug"]),
        (&["listeners", "pause", "a"], &["paused"]),
        (&["listeners", "resume", "a"], &["open"]),
        (
            &["close", "--listener", "a", "--dry-run"],
            &["1 match, none closed"],
        ),
        (&["close", "--listener", "a", "--reset"], &["1 closed"]),
    ] {
        let shown = output(command).await;
        for part in parts {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }
    running
        .eventually("/api/endings", |it| it["last"] == 1)
        .await;
    let shown = output(&["endings", "--outcome", "forced"]).await;
    assert!(
        shown.contains(&peer) && shown.contains("closed because an operator requested it"),
        "{shown}"
    );
    let recent = output(&["endings", "--since", "10m"]).await;
    assert!(recent.contains(&peer), "{recent}");
    // The command itself takes longer to start.
    let recent = output(&["endings", "--since", "1ms"]).await;
    assert!(!recent.contains(&peer), "{recent}");
    let wrong = running.ctl(&["endings", "--since", "10"]).await;
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        text(&wrong.stderr).contains("such as 10m"),
        "{}",
        text(&wrong.stderr)
    );
    let json: Value = serde_json::from_str(&output(&["endings", "--json"]).await).expect("JSON");
    assert_eq!(json["endings"][0]["peer"], peer);

    for (wrong, error) in [
        (
            &["close"][..],
            "this would close all connections; write a filter, or `all=true` (--all)",
        ),
        (
            &["connections", "--listener", "nope"],
            "there is no listener \"nope\"; there is a",
        ),
        (
            &["listeners", "pause", "nope"],
            "there is no listener \"nope\"; there is a",
        ),
        (
            &["backends", "drain", "nope", "x"],
            "there is no backend \"nope\"; there is b",
        ),
        (
            &[
                "explain",
                "--listener",
                "a",
                "--from",
                "::1",
                "--cert",
                "client.pem",
            ],
            "cert: \"client.pem\" is not a name in a certificate; write one such as dns:batch.mesh or \
             uri:spiffe://mesh/batch",
        ),
        (
            &["connections", "--limit", "501"],
            "limit: \"501\" is not a whole number from 1 to 500",
        ),
    ] {
        let refused = running.ctl(wrong).await;
        assert_eq!(refused.status.code(), Some(1), "{wrong:?}");
        assert_eq!(text(&refused.stderr), format!("portcullis: {error}\n"));
    }
    let refused = running.ctl(&["close", "99999"]).await;
    assert!(
        text(&refused.stderr).contains("/api/endings"),
        "{}",
        text(&refused.stderr)
    );
    let wrong = running.ctl(&["close", "--al"]).await;
    assert_eq!(wrong.status.code(), Some(2));
    assert_eq!(output(&["drain"]).await, "draining\n");
}

#[tokio::test]
async fn ctl_says_what_to_do_about_a_socket_without_a_server() {
    let folder = Folder::new();
    let path = folder.path("admin.sock");
    let admin = path.to_str().expect("it is UTF-8").to_owned();
    let ctl = async |arguments: &[&str]| {
        let mut command = program(["ctl", "--admin", &admin]);
        let output = command.args(arguments).output().await.expect("it starts");
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    };
    let missing = ctl(&["status"]).await;
    assert!(missing.contains("the program is not running"), "{missing}");
    let socket = std::os::unix::net::UnixListener::bind(&path).expect("the folder is writable");
    let silent = ctl(&["status", "--timeout", "50ms"]).await;
    assert!(silent.ends_with("no answer within 50ms\n"), "{silent}");
    drop(socket);
    let stale = ctl(&["status"]).await;
    assert!(
        stale.contains("no program listens there any more"),
        "{stale}"
    );
}

#[tokio::test]
async fn endings_show_what_guards_that_observe_would_have_done() {
    let keys = "access = { deny = \"127.0.0.0/8\", observe = true }";
    let server = backend("one").await;
    let text_of_file = configuration(keys, &format!("servers = \"{server}\""));
    let running = Administered::run(&text_of_file, 1).await;
    line(&mut running.gate.connect().await)
        .await
        .expect("the greeting");
    running
        .eventually("/api/endings", |it| it["last"] == 1)
        .await;
    let shown = text(&running.ctl(&["endings"]).await.stdout);
    assert!(
        shown.contains("OBSERVED") && shown.contains("acl"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_client_that_never_sends_close_notify_is_truncated_and_not_failed() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let certificates = two_certificates(&authority, &folder);
    let server = backend("one").await;
    let keys = "tls = { certificates = [\"a\"] }";
    let listener = configuration(keys, &format!("servers = \"{server}\""));
    let running = Administered::run_in(folder, "", &(certificates + &listener), 1).await;
    let client = running.gate.connect().await;
    let client = tls::connect(&authority, None, "a.test", client).await;
    let mut client = client.expect("a handshake");
    line(&mut client).await.expect("the greeting");
    drop(client);
    let has_ended = |it: &Value| it["listeners"][0]["truncated"] == 1;
    let shown = running.eventually("/api/listeners", has_ended).await;
    assert_eq!(shown["listeners"][0]["failed"], 0);
}

#[tokio::test]
async fn ctl_finds_the_unix_socket_in_the_configuration() {
    let folder = Folder::new();
    let server = forward_to(backend("one").await);
    let text_of_file = format!("version = 1\n[admin]\nlisten = \"unix:admin.sock\"\n{server}");
    let file = folder.write("gate.toml", text_of_file);
    let mut gate = Gate::run(&file, 1).await;
    gate.child.says("admin interface on unix:").await;
    let file = file.to_str().expect("it is UTF-8");
    let mut command = program(["ctl", "reload", "--config", file]);
    let output = command.output().await.expect("it starts");
    assert_eq!(
        text(&output.stdout),
        "reloaded\n",
        "{}",
        text(&output.stderr)
    );
}
