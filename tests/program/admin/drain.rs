//! What a graceful shutdown still waits for, in the status and for `ctl drain --wait`.

use super::{Administered, TOKEN, forward_to};
use crate::gate::{backend, line, program};
use serde_json::Value;
use std::{
    process::{Output, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{net::TcpStream, process::Child, time::timeout};

/// A program with one connection, whose shutdown lasts this long at most.
async fn with_a_client(deadline: &str) -> (Administered, TcpStream) {
    let text = forward_to(backend("one").await);
    let text = format!("[drain]\ndeadline = \"{deadline}\"\n{text}");
    let running = Administered::run(&text, 1).await;
    let mut client = running.gate.connect().await;
    line(&mut client).await.expect("the greeting");
    (running, client)
}

fn drain_and_wait(running: &Administered, more: &[&str]) -> Child {
    let admin = format!("http://{}", running.admin);
    let mut command = program(["ctl", "--admin", &admin, "drain", "--wait"]);
    command.args(more).env("PORTCULLIS_TOKEN", TOKEN);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

async fn end(child: Child) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().await.expect("it ends");
    let [stdout, stderr] = [stdout, stderr].map(|it| String::from_utf8(it).expect("it is UTF-8"));
    (status.code(), stdout, stderr)
}

#[tokio::test]
async fn the_status_has_the_open_connections_and_the_deadline_of_a_shutdown() {
    let (mut running, client) = with_a_client("1h").await;
    let status = running.get("/api/status").await.json();
    assert_eq!(status.get("drain"), Some(&Value::Null));

    running.post("/api/drain").await;
    let status = running.get("/api/status").await.json();
    assert_eq!(status["drain"]["open"], 1);
    let deadline = status["drain"]["deadline"].as_u64().expect("a time");
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is later");
    let left = Duration::from_millis(deadline)
        .saturating_sub(now)
        .as_secs();
    assert!((3_500..3_600).contains(&left), "{left}");
    let admin = format!("http://{}", running.admin);
    let shown = program(["ctl", "--admin", &admin, "status"]).output().await;
    let shown = String::from_utf8(shown.expect("it runs").stdout).expect("it is UTF-8");
    let words = "draining, not ready; 1 connection is open, and is force-closed in 3";
    assert!(shown.contains(words), "{shown}");

    drop(client);
    let ended = running.gate.child.ended_within(PATIENCE).await;
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn ctl_waits_until_the_last_connection_and_the_program_have_ended() {
    let (mut running, client) = with_a_client("1h").await;
    let ctl = drain_and_wait(&running, &[]);
    let draining = |status: &Value| status["drain"]["open"] == 1;
    running.eventually("/api/status", draining).await;
    drop(client);
    let (code, stdout, stderr) = end(ctl).await;
    assert_eq!((code, &*stderr), (Some(0), ""), "{stdout}");
    let lines: Vec<_> = stdout.lines().collect();
    let last = lines.last().copied();
    assert_eq!(last, Some("the program has ended"), "{stdout}");
    let ended = running.gate.child.ended_within(PATIENCE).await;
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn ctl_prints_what_it_waits_for_and_ends_with_three_if_that_was_force_closed() {
    let (mut running, client) = with_a_client("2s").await;
    let (code, stdout, stderr) = end(drain_and_wait(&running, &[])).await;
    let words = "draining: 1 connection is open, and is force-closed in ";
    assert!(stdout.starts_with(words), "{stdout}");
    assert!(stderr.contains("were force-closed"), "{stderr}");
    assert_eq!(code, Some(3));
    let ended = running.gate.child.ended_within(PATIENCE).await;
    assert_eq!(ended.code(), Some(3));
    drop(client);

    let (running, _client) = with_a_client("2s").await;
    let (code, stdout, _) = end(drain_and_wait(&running, &["--json"])).await;
    let first = stdout.lines().next().expect("a line");
    let first: Value = serde_json::from_str(first).expect("it is JSON");
    assert_eq!((code, &first["open"]), (Some(3), &1.into()));
}

#[tokio::test]
async fn ctl_goes_on_waiting_for_a_program_that_does_not_answer_for_a_while() {
    let (mut running, client) = with_a_client("1h").await;
    let mut ctl = drain_and_wait(&running, &["--timeout", "200ms"]);
    let draining = |status: &Value| status["drain"]["open"] == 1;
    running.eventually("/api/status", draining).await;
    running.gate.child.signal("STOP").await;
    let waits = timeout(Duration::from_secs(2), ctl.wait()).await;
    assert!(waits.is_err(), "{waits:?}");
    running.gate.child.signal("CONT").await;
    drop(client);
    let (code, stdout, stderr) = end(ctl).await;
    assert_eq!((code, &*stderr), (Some(0), ""), "{stdout}");
    assert!(stdout.ends_with("the program has ended\n"), "{stdout}");
    let ended = running.gate.child.ended_within(PATIENCE).await;
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn ctl_fails_if_a_program_still_does_not_answer_after_the_deadline() {
    let (running, _client) = with_a_client("3s").await;
    let ctl = drain_and_wait(&running, &["--timeout", "200ms"]);
    let draining = |status: &Value| status["drain"]["open"] == 1;
    running.eventually("/api/status", draining).await;
    running.gate.child.signal("STOP").await;
    let (code, stdout, stderr) = end(ctl).await;
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(stderr.contains("no answer within 200ms"), "{stderr}");
    assert!(!stdout.contains("has ended"), "{stdout}");
}

#[tokio::test]
async fn ctl_that_may_not_drain_does_not_wait() {
    let (running, _client) = with_a_client("1h").await;
    let admin = format!("http://{}", running.admin);
    let mut command = program(["ctl", "--admin", &admin, "drain", "--wait"]);
    let output = command.env_remove("PORTCULLIS_TOKEN").output().await;
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(running.get("/api/status").await.json()["state"], "serving");
}

const PATIENCE: Duration = Duration::from_secs(30);
