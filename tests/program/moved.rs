//! Addresses that a reload gives to another listener, or to the admin interface.

use crate::gate::{Folder, Gate, backend, free_address, line, program};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

/// A running program whose file changes, and which is asked over a Unix socket.
struct Running {
    folder: Folder,
    gate: Gate,
    admin: String,
}

impl Running {
    /// Runs `text`, which has this many sockets on TCP, with an admin interface on `admin.sock`.
    async fn start(text: &str, sockets: usize) -> Self {
        let folder = Folder::new();
        folder.write("token", "correct-horse-battery-staple");
        let file = folder.write("gate.toml", with_admin("unix:admin.sock", text));
        let mut gate = Gate::run(&file, sockets).await;
        gate.child.says("admin interface on ").await;
        let admin = format!("unix:{}", folder.path("admin.sock").display());
        Self {
            folder,
            gate,
            admin,
        }
    }

    async fn ctl(&self, words: &[&str]) -> Value {
        let mut command = program(["ctl", "--json", "--admin", &self.admin]);
        let output = command.args(words).output().await.expect("it starts");
        assert!(output.status.success(), "{words:?}: {output:?}");
        serde_json::from_slice(&output.stdout).expect("it is JSON")
    }

    /// Replaces the file, and reloads it.
    async fn reload(&mut self, text: &str) {
        self.reload_with("unix:admin.sock", text).await;
    }

    async fn reload_with(&mut self, admin: &str, text: &str) {
        self.folder.write("gate.toml", with_admin(admin, text));
        self.ctl(&["reload"]).await;
        self.gate.child.says("was reloaded").await;
    }

    /// The same by a signal, because changes over TCP need the token.
    async fn hang_up_with(&mut self, text: &str) {
        self.folder.write("gate.toml", text);
        self.gate.child.signal("HUP").await;
        self.gate.child.says("was reloaded").await;
    }

    /// The state and the limit of a listener that has not been removed.
    async fn listener(&self, name: &str) -> (String, Value) {
        let all = self.ctl(&["listeners"]).await;
        let mut all = all["listeners"].as_array().expect("listeners").iter();
        let found = all.find(|it| it["name"] == name && it["state"] != "draining");
        let found = found.unwrap_or_else(|| panic!("there is no listener {name}"));
        let state = found["state"].as_str().expect("a state").to_owned();
        (state, found["limit"].clone())
    }
}

fn with_admin(listen: &str, text: &str) -> String {
    format!("version = 1\n[admin]\nlisten = \"{listen}\"\ntoken-file = \"token\"\n{text}")
}

/// A listener with a backend of its own.
fn listener(name: &str, listen: &str, server: &str) -> String {
    format!(
        "[[listener]]\nname = \"{name}\"\nlisten = \"{listen}\"\nbackend = \"{name}\"\n\
         [[backend]]\nname = \"{name}\"\nservers = \"{server}\"\n"
    )
}

async fn greeting(address: &str) -> String {
    let mut client = TcpStream::connect(address).await.expect("it listens");
    line(&mut client).await.expect("the greeting")
}

/// The status line of the answer to a probe.
async fn probe(address: &str) -> String {
    let mut client = TcpStream::connect(address).await.expect("it listens");
    let request = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    client.write_all(request).await.expect("it is open");
    line(&mut client).await.expect("a status")
}

#[tokio::test]
async fn a_listener_that_is_renamed_keeps_its_socket_with_the_clients_in_its_queue() {
    let (one, two) = (
        backend("one").await.to_string(),
        backend("two").await.to_string(),
    );
    let address = free_address();
    let on = |names: [&str; 2], server: &str| {
        let unix = listener(names[1], "unix:u.sock", server);
        listener(names[0], &address, server) + &unix
    };
    let mut running = Running::start(&on(["a", "u"], &one), 1).await;
    let mut old = running.gate.connect().await;
    assert_eq!(line(&mut old).await.expect("the greeting"), "one");
    running.ctl(&["listeners", "pause", "a"]).await;
    running.ctl(&["listeners", "pause", "u"]).await;
    // These wait in the queues.
    let mut waiting = running.gate.connect().await;
    let socket = running.folder.path("u.sock");
    let unix = || UnixStream::connect(&socket);
    let mut waiting_unix = unix().await.expect("it listens");

    running.reload(&on(["z", "v"], &two)).await;
    // An operator has paused them, by whatever name.
    for name in ["z", "v"] {
        assert_eq!(running.listener(name).await.0, "paused");
        running.ctl(&["listeners", "resume", name]).await;
    }
    assert_eq!(line(&mut waiting).await.expect("the greeting"), "two");
    assert_eq!(line(&mut waiting_unix).await.expect("a greeting"), "two");
    assert_eq!(greeting(&address).await, "two");
    old.write_all(b"still here\n").await.expect("it is open");
    assert_eq!(line(&mut old).await.expect("an echo"), "still here");
    drop(old);
    // The listener that is gone leaves the file of its socket.
    let mut new = unix().await.expect("its file is there");
    assert_eq!(line(&mut new).await.expect("a greeting"), "two");
    // And back and again, while those of before may drain.
    for (names, server, name) in [(["a", "u"], &one, "one"), (["z", "v"], &two, "two")] {
        running.reload(&on(names, server)).await;
        assert_eq!(greeting(&address).await, name);
        let mut new = unix().await.expect("its file is there");
        assert_eq!(line(&mut new).await.expect("a greeting"), name);
    }
}

#[tokio::test]
async fn what_operators_have_changed_of_a_listener_goes_on_by_another_name_and_address() {
    let server = backend("one").await.to_string();
    let [first, second] = [free_address(), free_address()];
    let mut running = Running::start(&listener("a", &first, &server), 1).await;
    running.ctl(&["listeners", "limit", "a", "7"]).await;
    running.ctl(&["listeners", "pause", "a"]).await;
    let kept = ("paused".to_owned(), Value::from(7));
    for (name, address) in [("a", &first), ("z", &first), ("z", &second)] {
        running.reload(&listener(name, address, &server)).await;
        assert_eq!(running.listener(name).await, kept, "{name} on {address}");
    }
    // A value that the file changes is that of the file.
    let limited = listener("y", &second, &server);
    let limited = limited.replace("[[backend]]", "limits.connections = 50\n[[backend]]");
    running.reload(&limited).await;
    assert_eq!(
        running.listener("y").await,
        ("paused".to_owned(), 50.into())
    );
    // A listener that was there before keeps its own state, whatever address it gets.
    let others = listener("z", &first, &server) + &listener("y", &second, &server);
    running.reload(&others).await;
    let swapped = listener("z", &second, &server) + &listener("y", &first, &server);
    running.reload(&swapped).await;
    assert_eq!(running.listener("y").await.0, "paused");
    assert_eq!(running.listener("z").await.0, "open");
    assert_eq!(greeting(&second).await, "one");
}

#[tokio::test]
async fn two_listeners_exchange_their_addresses() {
    let (one, two) = (
        backend("one").await.to_string(),
        backend("two").await.to_string(),
    );
    let [first, second] = [free_address(), free_address()];
    let on = |a: &str, b: &str| listener("a", a, &one) + &listener("b", b, &two);
    let mut running = Running::start(&on(&first, &second), 2).await;
    let mut old = TcpStream::connect(&first).await.expect("it listens");
    assert_eq!(line(&mut old).await.expect("the greeting"), "one");
    for [one_is_at, two_is_at] in [[&second, &first], [&first, &second], [&second, &first]] {
        running.reload(&on(one_is_at, two_is_at)).await;
        assert_eq!(greeting(one_is_at).await, "one");
        assert_eq!(greeting(two_is_at).await, "two");
    }
    old.write_all(b"still here\n").await.expect("it is open");
    assert_eq!(line(&mut old).await.expect("an echo"), "still here");
}

#[tokio::test]
async fn an_address_moves_between_a_listener_and_the_admin_interface() {
    let server = backend("one").await.to_string();
    let [first, second] = [free_address(), free_address()];
    let mut running = Running::start(&listener("a", &first, &server), 1).await;
    let at_first = listener("a", &first, &server);
    let at_second = listener("a", &second, &server);
    let mut old = running.gate.connect().await;
    assert_eq!(line(&mut old).await.expect("the greeting"), "one");

    // From the listener.
    running.reload_with(&first, &at_second).await;
    assert!(probe(&first).await.contains("200"));
    assert_eq!(greeting(&second).await, "one");
    // Both ways at once, again and again.
    for (admin, listens, text) in [
        (&second, &first, &at_first),
        (&first, &second, &at_second),
        (&second, &first, &at_first),
    ] {
        running.hang_up_with(&with_admin(admin, text)).await;
        assert!(probe(admin).await.contains("200"));
        assert_eq!(greeting(listens).await, "one");
    }
    // To a listener from an interface that is gone.
    let both = at_first.clone() + &listener("b", &second, &server);
    running.hang_up_with(&format!("version = 1\n{both}")).await;
    assert_eq!(greeting(&second).await, "one");
    // To an interface that is new.
    running.hang_up_with(&with_admin(&second, &at_first)).await;
    assert!(probe(&second).await.contains("200"));
    old.write_all(b"still here\n").await.expect("it is open");
    assert_eq!(line(&mut old).await.expect("an echo"), "still here");
}

#[tokio::test]
async fn the_file_of_a_unix_socket_stays_when_a_listener_and_the_admin_interface_exchange_addresses()
 {
    let server = backend("one").await.to_string();
    let mut running = Running::start(&listener("a", "unix:a.sock", &server), 0).await;
    for (admin, listens) in [("a.sock", "admin.sock"), ("admin.sock", "a.sock")] {
        let text = listener("a", &format!("unix:{listens}"), &server);
        let text = with_admin(&format!("unix:{admin}"), &text);
        running.hang_up_with(&text).await;
        let client = UnixStream::connect(running.folder.path(listens)).await;
        let mut client = client.expect("it listens");
        assert_eq!(line(&mut client).await.expect("the greeting"), "one");
        let client = UnixStream::connect(running.folder.path(admin)).await;
        let mut client = client.expect("it listens");
        let request = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        client.write_all(request).await.expect("it is open");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.contains("200 OK"), "{answer}");
    }
    // Its own file goes with each of them.
    running.gate.child.signal("TERM").await;
    let ended = running
        .gate
        .child
        .ended_within(std::time::Duration::from_secs(30))
        .await;
    assert_eq!(ended.code(), Some(0));
    for name in ["a.sock", "admin.sock"] {
        assert!(
            !running.folder.path(name).exists(),
            "{name} was left behind"
        );
    }
}

#[tokio::test]
async fn the_admin_interface_gets_its_own_mode_with_the_socket_of_a_listener_for_all_users() {
    let server = backend("one").await.to_string();
    let open = |listen: &str| {
        let text = listener("a", &format!("unix:{listen}"), &server);
        text.replace("listen =", "socket-mode = \"0666\"\nlisten =")
    };
    let mut running = Running::start(&open("a.sock"), 0).await;
    let path = running.folder.path("a.sock");
    let mode = || std::fs::metadata(&path).expect("it is there").permissions();
    let mode = || mode().mode() & 0o777;
    assert_eq!(mode(), 0o666);
    let blocker = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let blocked = blocker.local_addr().expect("it is bound").to_string();
    let failing = listener("b", "unix:a.sock", &server) + &listener("c", &blocked, &server);
    running
        .folder
        .write("gate.toml", with_admin("unix:admin.sock", &failing));
    running.gate.child.signal("HUP").await;
    running.gate.child.says("was not reloaded").await;
    assert_eq!(mode(), 0o666, "a reload that fails changes nothing");

    let text = with_admin("unix:a.sock", &open("b.sock"));
    running.hang_up_with(&text).await;
    assert_eq!(mode(), 0o600);
    // Back again, which admits all users as before.
    let text = with_admin("unix:b.sock", &open("a.sock"));
    running.hang_up_with(&text).await;
    assert_eq!(mode(), 0o666);
    let admin = std::fs::metadata(running.folder.path("b.sock")).expect("it is there");
    assert_eq!(admin.permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_reload_does_not_need_the_folder_of_a_socket_that_is_open() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("sub")).expect("the folder is writable");
    let server = backend("one").await.to_string();
    let text = |name: &str| listener(name, "unix:sub/a.sock", &server);
    let text = |name: &str| format!("version = 1\n{}", text(name));
    let file = folder.write("gate.toml", text("a"));
    let mut gate = Gate::run(&file, 0).await;
    gate.child.says("listening on").await;
    std::fs::remove_dir_all(folder.path("sub")).expect("it is there");
    folder.write("gate.toml", text("z"));
    gate.child.signal("HUP").await;
    gate.child.says("was reloaded").await;
    let other = text("z").replace("sub/a", "sub/b");
    folder.write("gate.toml", other);
    gate.child.signal("HUP").await;
    let said = gate.child.says("there is no folder").await;
    assert!(said.contains("listener \\\"z\\\": "), "{said}");
}
