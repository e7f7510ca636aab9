//! What goes on in the new process, and what its file changes.

use super::{PATIENCE, Upgradable, hello};
use crate::gate::{backend, line};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

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
