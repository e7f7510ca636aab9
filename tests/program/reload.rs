//! SIGHUP: the file is read again while connections live.

use crate::gate::{Folder, Gate, backend, free_address, line, program};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

fn configuration(listen: &str, server: &str) -> String {
    format!(
        "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"{listen}\"\nbackend = \"b\"\n\
         [[backend]]\nname = \"b\"\nservers = \"{server}\"\n"
    )
}

#[tokio::test]
async fn new_connections_get_the_new_backend_and_old_ones_keep_theirs() {
    let folder = Folder::new();
    let (one, two) = (backend("one").await, backend("two").await);
    let file = folder.write("gate.toml", configuration("127.0.0.1:0", &one.to_string()));
    let mut gate = Gate::run(&file, 1).await;
    let mut old = gate.connect().await;
    assert_eq!(line(&mut old).await.expect("the greeting"), "one");

    folder.write("gate.toml", configuration("127.0.0.1:0", &two.to_string()));
    gate.child.signal("HUP").await;
    gate.child.says("was reloaded").await;

    let mut new = gate.connect().await;
    assert_eq!(line(&mut new).await.expect("the greeting"), "two");
    old.write_all(b"still here\n").await.expect("it is open");
    assert_eq!(line(&mut old).await.expect("an echo"), "still here");
}

#[tokio::test]
async fn a_removed_server_drains_although_another_setting_changes_with_it() {
    let folder = Folder::new();
    let (one, two) = (backend("one").await, backend("two").await);
    let with = |server: String, timeout: &str| {
        let text = configuration("127.0.0.1:0", &server);
        format!("{text}drain = \"1s\"\nconnect-timeout = \"{timeout}\"\n")
    };
    let file = folder.write("gate.toml", with(one.to_string(), "3s"));
    let mut gate = Gate::run(&file, 1).await;
    let mut old = gate.connect().await;
    assert_eq!(line(&mut old).await.expect("the greeting"), "one");

    folder.write("gate.toml", with(two.to_string(), "4s"));
    gate.child.signal("HUP").await;
    gate.child.says("was reloaded").await;
    let mut new = gate.connect().await;
    assert_eq!(line(&mut new).await.expect("the greeting"), "two");
    let mut rest = [0; 1];
    let end = timeout(Duration::from_secs(30), old.read(&mut rest)).await;
    let end = end.expect("it is not closed");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn a_wrong_file_keeps_the_old_configuration_and_says_why() {
    let folder = Folder::new();
    let one = backend("one").await.to_string();
    let file = folder.write("gate.toml", configuration("127.0.0.1:0", &one));
    let mut gate = Gate::run(&file, 1).await;

    folder.write(
        "gate.toml",
        configuration("127.0.0.1:0", &one).replace("backend =", "bakend ="),
    );
    gate.child.signal("HUP").await;
    let why = gate.child.says("did you mean").await;
    assert!(why.contains("gate.toml:5:1"), "{why}");
    gate.child.says("the old one stays in use").await;

    let mut client = gate.connect().await;
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
}

#[tokio::test]
async fn a_listener_that_is_added_listens_and_a_removed_one_ends_gracefully() {
    let folder = Folder::new();
    let one = backend("one").await.to_string();
    let file = folder.write("gate.toml", configuration("127.0.0.1:0", &one));
    let mut gate = Gate::run(&file, 1).await;
    let mut old = gate.connect().await;
    assert_eq!(line(&mut old).await.expect("the greeting"), "one");

    let moved = configuration("127.0.0.1:0", &one).replace("\"a\"", "\"z\"");
    folder.write("gate.toml", moved);
    gate.child.signal("HUP").await;
    let listening = gate.child.says("listening on 127").await;
    let (_, address) = listening.split_once("listening on ").expect("an address");
    let address: String = address
        .chars()
        .take_while(|it| it.is_ascii_digit() || ".:".contains(*it))
        .collect();
    gate.child.says("was reloaded").await;

    let mut new = TcpStream::connect(&address).await.expect("it listens");
    assert_eq!(line(&mut new).await.expect("the greeting"), "one");
    old.write_all(b"still here\n").await.expect("it is open");
    assert_eq!(line(&mut old).await.expect("an echo"), "still here");
    old.shutdown().await.expect("it is open");
    let mut rest = Vec::new();
    old.read_to_end(&mut rest).await.expect("it ends well");
    let refused = TcpStream::connect(gate.addresses[0]).await;
    assert!(refused.is_err(), "the removed listener still accepts");
}

#[tokio::test]
async fn a_failed_reload_leaves_a_renamed_listener_and_checks_no_new_server() {
    let folder = Folder::new();
    let one = backend("one").await.to_string();
    let socket = folder.path("u.sock");
    let address = free_address();
    let with = |name: &str| {
        let listen = format!("{address}\", \"unix:u.sock");
        let text = configuration("x", &one).replace("\"a\"", &format!("\"{name}\""));
        text.replace("\"x\"", &format!("[\"{listen}\"]"))
    };
    let file = folder.write("gate.toml", with("a"));
    let mut gate = Gate::run(&file, 1).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let taken = taken.local_addr().expect("it is bound");
    let more = format!("[[listener]]\nname = \"y\"\nlisten = \"{taken}\"\nbackend = \"new\"\n");
    let new =
        format!("[[backend]]\nname = \"new\"\nservers = \"{one}\"\nhealth.interval = \"10ms\"\n");
    folder.write("gate.toml", with("z") + &more + &new);
    gate.child.signal("HUP").await;
    loop {
        let line = gate.child.line().await;
        assert!(!line.contains("\"pool\":\"new\""), "{line}");
        if line.contains("was not reloaded") {
            break;
        }
    }
    let mut client = gate.connect().await;
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
    let client = tokio::net::UnixStream::connect(&socket).await;
    let mut client = client.expect("its file is there");
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
    // What was prepared for it is forgotten.
    folder.write("gate.toml", with("z"));
    gate.child.signal("HUP").await;
    gate.child.says("was reloaded").await;
    let mut client = gate.connect().await;
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
}

#[tokio::test]
async fn an_address_that_a_listener_of_before_prevents_is_reported_with_its_name() {
    let folder = Folder::new();
    let one = backend("one").await.to_string();
    let address = free_address();
    let (_, port) = address.split_once(':').expect("a port");
    let wildcard = format!("0.0.0.0:{port}");
    let file = folder.write("gate.toml", configuration(&wildcard, &one));
    let mut gate = Gate::run(&file, 1).await;
    folder.write("gate.toml", configuration(&address, &one));
    gate.child.signal("HUP").await;
    let why = gate.child.says("gate.toml:4:10: ").await;
    let expected = format!(
        "cannot listen on {address}: {wildcard} is held by listener \\\"a\\\" of this process; keep it, or \
         restart"
    );
    assert!(why.contains(&expected), "{why}");
}

#[tokio::test]
async fn a_value_that_the_library_rejects_is_reported_and_ends_nothing() {
    let folder = Folder::new();
    let one = backend("one").await.to_string();
    let good = configuration("127.0.0.1:0", &one);
    let file = folder.write("gate.toml", &good);
    let mut gate = Gate::run(&file, 1).await;
    let mut old = gate.connect().await;
    assert_eq!(line(&mut old).await.expect("the greeting"), "one");

    let long = "x".repeat(256);
    for (wrong, message) in [
        ("health.http = \"/health check\"".to_owned(), "ASCII"),
        (format!("tls.alpn = \"{long}\""), "255 bytes"),
    ] {
        folder.write("gate.toml", format!("{good}{wrong}\n"));
        gate.child.signal("HUP").await;
        gate.child.says(message).await;
        gate.child.says("the old one stays in use").await;
    }
    old.write_all(b"still here\n").await.expect("it is open");
    assert_eq!(line(&mut old).await.expect("an echo"), "still here");
}

#[tokio::test]
async fn an_included_file_is_read_from_the_folder_of_the_program_s_own() {
    let folder = Folder::new();
    let one = backend("one").await.to_string();
    folder.write("gate.toml", "version = 1\ninclude = \"part-*.toml\"\n");
    let part = configuration("127.0.0.1:0", &one).replace("version = 1\n", "");
    folder.write("part-1.toml", part);
    let mut command = program(["run", "--config", "gate.toml"]);
    command.current_dir(folder.path(""));
    let gate = Gate::start(command, 1).await;
    let mut client = gate.connect().await;
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
}

#[tokio::test]
async fn both_wildcard_addresses_can_be_listed_on_one_port() {
    let folder = Folder::new();
    let one = backend("one").await.to_string();
    let free = std::net::TcpListener::bind("[::]:0").expect("a port is free");
    let port = free.local_addr().expect("it is bound").port();
    drop(free);
    let text = configuration("x", &one);
    let text = text.replace("\"x\"", &format!("[\"0.0.0.0:{port}\", \"[::]:{port}\"]"));
    let gate = Gate::run(&folder.write("gate.toml", text), 2).await;
    drop(gate);
}

#[tokio::test]
async fn a_port_that_is_taken_keeps_the_old_configuration() {
    let folder = Folder::new();
    let (one, two) = (backend("one").await, backend("two").await);
    let file = folder.write("gate.toml", configuration("127.0.0.1:0", &one.to_string()));
    let mut gate = Gate::run(&file, 1).await;

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound");
    let more = format!("[[listener]]\nname = \"z\"\nlisten = \"{address}\"\nbackend = \"b\"\n");
    let text = configuration("127.0.0.1:0", &two.to_string()) + &more;
    folder.write("gate.toml", text);
    gate.child.signal("HUP").await;
    let why = gate.child.says("gate.toml:11:10: listener ").await;
    assert!(why.contains("another socket has this port"), "{why}");
    assert_eq!(why.matches("Address already in use").count(), 1, "{why}");
    gate.child
        .says("was not reloaded; the old one stays in use")
        .await;

    let mut client = gate.connect().await;
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
}

#[tokio::test]
async fn a_file_that_has_vanished_keeps_the_old_configuration() {
    let folder = Folder::new();
    let one = backend("one").await.to_string();
    let text = configuration("127.0.0.1:0", &one);
    let file = folder.write("gate.toml", &text);
    let mut gate = Gate::run(&file, 1).await;
    std::fs::remove_file(&file).expect("it is there");
    gate.child.signal("HUP").await;
    gate.child.says("cannot be read").await;
    gate.child.says("the old one stays in use").await;
    let mut client = gate.connect().await;
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
    folder.write("gate.toml", text);
    gate.child.signal("HUP").await;
    gate.child.says("was reloaded").await;
}

#[tokio::test]
async fn a_lack_of_file_descriptors_keeps_the_old_configuration() {
    let folder = Folder::new();
    let (one, two) = (
        backend("one").await.to_string(),
        backend("two").await.to_string(),
    );
    for workers in ["2", "\"per-core\""] {
        let process = format!("[process]\nworkers = {workers}\n[[listener]]");
        let with = |server: &str| {
            let text = configuration("127.0.0.1:0", server);
            text.replacen("[[listener]]", &process, 1)
        };
        let file = folder.write("gate.toml", with(&one));
        let mut command = tokio::process::Command::new("sh");
        let limited = "ulimit -n 100; exec \"$0\" run --config \"$1\"";
        command
            .args(["-c", limited, env!("CARGO_BIN_EXE_portcullis")])
            .arg(&file);
        let mut gate = Gate::start(command, 1).await;
        let many = (0..100).map(|number| {
            format!(
                "[[listener]]\nname = \"l{number}\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n"
            )
        });
        let renamed = with(&two).replace("\"a\"", "\"z\"");
        folder.write("gate.toml", renamed + &many.collect::<String>());
        gate.child.signal("HUP").await;
        let why = gate.child.says("Too many open files").await;
        assert!(why.contains("gate.toml:"), "{why}");
        gate.child.says("the old one stays in use").await;
        let mut client = gate.connect().await;
        assert_eq!(line(&mut client).await.expect("the greeting"), "one");
        folder.write("gate.toml", with(&two));
        gate.child.signal("HUP").await;
        gate.child.says("was reloaded").await;
        let mut client = gate.connect().await;
        assert_eq!(line(&mut client).await.expect("the greeting"), "two");
    }
}

#[tokio::test]
async fn a_reload_that_sigterm_interrupts_holds_up_no_shutdown_and_leaves_no_file() {
    let folder = Folder::new();
    let one = backend("one").await.to_string();
    let with = |name: &str, listen: &str| {
        configuration(listen, &one).replace("\"a\"", &format!("\"{name}\""))
    };
    for round in 0..8 {
        let file = folder.write("gate.toml", with("a", "unix:a.sock"));
        let mut gate = Gate::run(&file, 0).await;
        gate.child.says("listening on").await;
        // One is renamed, one is added, and one is moved.
        let added = "[[listener]]\nname = \"b\"\nlisten = \"unix:b.sock\"\nbackend = \"b\"\n";
        let text = match round % 3 {
            0 => with("z", "unix:a.sock"),
            1 => with("a", "unix:a.sock") + added,
            _ => with("a", "unix:b.sock"),
        };
        folder.write("gate.toml", text);
        gate.child.signal("HUP").await;
        if round % 2 == 0 {
            gate.child.signal("HUP").await;
        }
        gate.child.signal("TERM").await;
        let ended = gate.child.ended_within(Duration::from_secs(30)).await;
        assert_eq!(ended.code(), Some(0), "round {round}");
        for name in ["a.sock", "b.sock"] {
            assert!(
                !folder.path(name).exists(),
                "{name} was left behind in round {round}"
            );
        }
    }
}
