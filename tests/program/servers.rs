//! How long clients wait for a server that is full, and who may connect to a Unix socket.

use crate::{
    gate::{Folder, Gate, backend, line},
    support::eventually,
};
use serde_json::Value;
use std::os::unix::{fs::PermissionsExt, net::UnixStream};

/// A listener before a backend with these keys.
fn configuration(listener: &str, backend: &str) -> String {
    format!(
        "version = 1\n[log]\nformat = \"json\"\n[[listener]]\nname = \"a\"\nbackend = \"b\"\n{listener}\n\
         [[backend]]\nname = \"b\"\n{backend}\n"
    )
}

#[tokio::test]
async fn clients_wait_for_a_full_server_as_long_and_as_many_as_configured() {
    let folder = Folder::new();
    let server = backend("one").await;
    for (queue, reason) in [
        ("{ timeout = \"50ms\" }", "admission timed out after 50ms"),
        (
            "{ timeout = \"1h\", length = 0 }",
            "all servers have as many connections as allowed",
        ),
    ] {
        let keys = format!(
            "queue = {queue}\n[[backend.server]]\naddress = \"{server}\"\nmax-connections = 1"
        );
        let text = configuration("listen = \"127.0.0.1:0\"", &keys);
        let mut gate = Gate::run(&folder.write("gate.toml", text), 1).await;
        let mut first = gate.connect().await;
        line(&mut first).await.expect("the greeting");
        let _second = gate.connect().await;
        let ended = gate.child.says("\"outcome\":\"unreachable\"").await;
        let ended: Value = serde_json::from_str(&ended).expect("it is JSON");
        let told = ended["reason"].as_str().expect("text");
        let full = format!("{reason}; full: {server} with 1 of 1 connections");
        assert!(told.contains(&full), "{told}");
        assert!(
            told.ends_with("(`backend.server.max-connections`)"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn a_unix_socket_has_the_mode_of_the_file() {
    let folder = Folder::new();
    let server = backend("one").await;
    let admin = "[admin]\nlisten = \"unix:admin.sock\"\nsocket-mode = \"0666\"\n";
    let listener = "listen = \"unix:a.sock\"\nsocket-mode = \"0660\"";
    let text = configuration(listener, &format!("servers = \"{server}\""));
    let file = folder.write("gate.toml", text + admin);
    let _gate = Gate::run(&file, 0).await;
    for (name, mode) in [("a.sock", 0o660), ("admin.sock", 0o666)] {
        let path = folder.path(name);
        eventually("it listens", || UnixStream::connect(&path).is_ok()).await;
        let metadata = std::fs::metadata(&path).expect("it is there");
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
    }
}
