//! Upgrades in which a process fails, hangs or is stopped.

use super::{PATIENCE, READY, Upgradable, ask_for_sockets, configuration, hello};
use crate::{
    gate::{Folder, backend, line, program},
    support::child::Child,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

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
