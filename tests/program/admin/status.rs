//! The program as a whole: status, readiness, reload, drain.

use super::{Administered, TOKEN, client::Api, forward_to};
use crate::{
    gate::{Folder, Gate, backend, program},
    support::child::address_in,
};

#[tokio::test]
async fn a_reload_by_request_answers_what_became_of_it() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    assert_eq!(
        running.post("/api/reload").await.json()["result"],
        "reloaded"
    );

    let file = running.folder.path("gate.toml");
    let right = std::fs::read_to_string(&file).expect("it is there");
    running
        .folder
        .write("gate.toml", right.replace("backend =", "bakend ="));
    let refused = running.post("/api/reload").await;
    assert_eq!(refused.status, 422);
    assert!(
        refused.body.contains("did you mean `backend`"),
        "{}",
        refused.body
    );
    let status = running.get("/api/status").await.json();
    let configuration = &status["configuration"];
    assert_eq!(
        (&configuration["reloads"], &configuration["failed_reloads"]),
        (&1.into(), &1.into())
    );
    assert!(
        configuration["last_error"]["problems"][0]
            .as_str()
            .expect("a text")
            .contains("gate.toml:9:1")
    );
    assert_eq!(
        (&status["ready"], &status["state"]),
        (&true.into(), &"serving".into())
    );
}

#[tokio::test]
async fn a_changed_token_is_in_use_after_the_reload() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    let new = "another-token-that-is-long";
    running.folder.write("token", new);
    assert_eq!(running.post("/api/reload").await.status, 200);
    assert_eq!(
        running
            .api()
            .with_token(TOKEN)
            .post("/api/reload")
            .await
            .status,
        403
    );
    assert_eq!(
        running
            .api()
            .with_token(new)
            .post("/api/reload")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_drain_by_request_is_that_of_sigterm_and_the_interface_shows_it() {
    let text = forward_to(backend("one").await);
    let mut running = Administered::run(&text, 1).await;
    let mut client = running.gate.connect().await;
    crate::gate::line(&mut client).await.expect("the greeting");
    let drained = running.post("/api/drain").await;
    assert_eq!(drained.status, 202);
    let ready = running.get("/readyz").await;
    assert_eq!((ready.status, &*ready.body), (503, "draining\n"));
    assert_eq!(running.get("/api/status").await.json()["state"], "draining");
    drop(client);
    let ended = running
        .gate
        .child
        .ended_within(std::time::Duration::from_secs(20))
        .await;
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn the_level_of_the_log_is_changed_at_run_time() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    let changed = running.post("/api/log-level?level=debug").await.json();
    assert_eq!(changed["log_level"], "debug");
    let status = running.get("/api/status").await.json();
    assert_eq!(status["log_level"], "debug");
    for wrong in ["", "?level=loud", "?level=DEBUG", "?lvl=info"] {
        let refused = running.post(&format!("/api/log-level{wrong}")).await;
        assert_eq!(refused.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn the_status_says_where_the_token_is() {
    let text = forward_to(backend("one").await);
    let running = Administered::run(&text, 1).await;
    let status = running.get("/api/status").await;
    let file = running.folder.path("token");
    let place = format!("in the file {}", file.display());
    assert_eq!(status.json()["token_place"], place);
    assert!(!status.body.contains(TOKEN));

    let folder = Folder::new();
    let admin = "version = 1\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"env:GATE_TOKEN\"\n";
    let file = folder.write("gate.toml", format!("{admin}{text}"));
    let mut command = program(["run", "--config", file.to_str().expect("it is UTF-8")]);
    command.env("GATE_TOKEN", TOKEN);
    let mut gate = Gate::start(command, 1).await;
    let admin = gate.child.says("admin interface on ").await;
    let api = Api::tcp(address_in(&admin).expect("an address"));
    let status = api.get("/api/status").await.json();
    assert_eq!(
        status["token_place"],
        "in the environment variable GATE_TOKEN"
    );
    let api = api.with_token("a-wrong-token-of-a-test");
    let wrong = api.post("/api/reload").await;
    assert_eq!(wrong.status, 403);
    assert!(wrong.body.contains("admin.token"), "{}", wrong.body);
}
