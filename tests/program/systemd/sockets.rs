//! Socket activation: listeners on the sockets that systemd has opened.

use super::{PATIENCE, configuration};
use crate::{
    gate::{Folder, backend, line, program},
    support::child::Child,
};
use std::{
    net::TcpListener,
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixListener,
    },
    path::Path,
};
use tokio::{
    net::{TcpStream, UnixStream},
    process::Command,
};

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

/// Linux includes its bookkeeping in the sizes, which doubles them.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn open_sockets_get_the_buffers_of_the_file_and_of_reloads() {
    use rustix::net::sockopt::{socket_recv_buffer_size, socket_send_buffer_size};
    let folder = Folder::new();
    let web = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let sizes = || {
        let receive = socket_recv_buffer_size(&web).expect("it is open");
        (receive, socket_send_buffer_size(&web).expect("it is open"))
    };
    let server = backend("one").await.to_string();
    let write = |receive, send| {
        let keys = format!("\"fd:web\"\nreceive-buffer = \"{receive}\"\nsend-buffer = \"{send}\"");
        folder.write("gate.toml", configuration(&keys, &server))
    };
    let file = write("32 KiB", "40 KiB");
    let mut old = activate(&file, &[("web", &web)]);
    old.says("ready for an upgrade").await;
    assert_eq!(sizes(), (65_536, 81_920));
    write("24 KiB", "44 KiB");
    old.signal("HUP").await;
    old.says("was reloaded").await;
    assert_eq!(sizes(), (49_152, 90_112));
    // A reload that fails leaves the socket alone.
    let blocked = web.local_addr().expect("it is bound");
    let failing = format!("[\"fd:web\", \"{blocked}\"]\nreceive-buffer = \"64 KiB\"");
    let failing = configuration(&failing, &server).replace("\"a\"", "\"renamed\"");
    folder.write("gate.toml", failing);
    old.signal("HUP").await;
    old.says("was not reloaded").await;
    assert_eq!(sizes(), (49_152, 90_112));
    write("off", "48 KiB");
    let arguments = ["run", "--config", file.to_str().expect("it is UTF-8")];
    let mut new = Child::start(program(arguments)).expect("it starts");
    new.says("ready for an upgrade").await;
    assert_eq!(sizes(), (49_152, 98_304));
    assert_eq!(old.ended_within(PATIENCE).await.code(), Some(0));
    new.signal("TERM").await;
    assert_eq!(new.ended_within(PATIENCE).await.code(), Some(0));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_socket_that_goes_to_another_listener_gets_its_buffers() {
    use rustix::net::sockopt::socket_recv_buffer_size;
    let folder = Folder::new();
    let sockets = ["web", "api"].map(|name| {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        (name, socket)
    });
    let server = backend("one").await.to_string();
    let write = |names: [&str; 2]| {
        let first = format!("\"fd:{}\"\nreceive-buffer = \"32 KiB\"", names[0]);
        let second = format!(
            "[[listener]]\nname = \"c\"\nlisten = \"fd:{}\"\nbackend = \"b\"\nreceive-buffer = \"16 KiB\"\n",
            names[1]
        );
        folder.write("gate.toml", configuration(&first, &server) + &second)
    };
    let file = write(["web", "api"]);
    let passed = sockets
        .each_ref()
        .map(|(name, socket)| (*name, socket as &dyn Passed));
    let mut gate = activate(&file, &passed);
    gate.says("ready for an upgrade").await;
    for expected in [[65_536, 32_768], [32_768, 65_536], [65_536, 32_768]] {
        let sizes = sockets
            .each_ref()
            .map(|(_, socket)| socket_recv_buffer_size(socket).expect("it is open"));
        assert_eq!(sizes, expected);
        match expected[0] {
            65_536 => write(["api", "web"]),
            _ => write(["web", "api"]),
        };
        gate.signal("HUP").await;
        gate.says("was reloaded").await;
    }
    gate.signal("TERM").await;
    assert_eq!(gate.ended_within(PATIENCE).await.code(), Some(0));
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
