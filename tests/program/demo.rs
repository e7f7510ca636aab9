//! `portcullis demo`: each listener that it prints does what it says, and its configuration is one for `run`.

use crate::{
    gate::{Authority, Folder, line, program},
    support::child::{Child, address_in},
    tls,
};
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

/// A running demo, with the addresses and the commands that it prints.
struct Demo {
    child: Child,
    web: SocketAddr,
    sni: SocketAddr,
    echo: SocketAddr,
    page: SocketAddr,
    token: String,
    /// To show the status.
    ctl: String,
}

impl Demo {
    async fn run(arguments: &[&str]) -> Self {
        let all = ["demo"].iter().chain(arguments).copied();
        let mut child = Child::start(program(all)).expect("it starts");
        let mut address = async |what: &str| -> SocketAddr {
            let line = child.says(&format!("  {what}  ")).await;
            address_in(&line).unwrap_or_else(|| panic!("no address in {line}"))
        };
        let (web, sni) = (address("web").await, address("sni").await);
        let (echo, page) = (address("echo").await, address("page").await);
        let token = child.line().await.trim().to_owned();
        let ctl = child.says(" ctl --admin ").await;
        for option in ["load", "print"] {
            let line = child.says(&format!(" demo --{option}")).await;
            assert!(line.contains(env!("CARGO_BIN_EXE_portcullis")), "{line}");
        }
        Self {
            child,
            web,
            sni,
            echo,
            page,
            token,
            ctl,
        }
    }

    async fn api(&self, path: &str) -> Value {
        let client = TcpStream::connect(self.page).await.expect("it listens");
        let answer = get(path, client).await;
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Waits until the answer is so.
    async fn eventually(&self, path: &str, is_so: impl Fn(&Value) -> bool) {
        let look = async {
            while !is_so(&self.api(path).await) {
                sleep(Duration::from_millis(100)).await;
            }
        };
        let found = timeout(Duration::from_secs(120), look).await;
        found.unwrap_or_else(|_| panic!("{path} is not so"));
    }

    async fn end(mut self) {
        self.child.signal("TERM").await;
        let ended = self.child.ended_within(Duration::from_secs(60)).await;
        assert_eq!(ended.code(), Some(0));
    }
}

#[tokio::test]
async fn each_listener_serves_and_sigterm_ends_it() {
    let demo = Demo::run(&[]).await;
    // It listens before it says so.
    let client = TcpStream::connect(demo.web).await.expect("it listens");
    let client = tls::connect_to_any("localhost", client).await;
    let answer = get("/", client.expect("a handshake")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("hello, 127.0.0.1:"), "{answer}");

    for (name, server) in [
        ("a.test", Some("from server ")),
        ("b.test", Some("from the server that terminates TLS itself")),
        ("c.test", None),
    ] {
        let client = TcpStream::connect(demo.sni).await.expect("it listens");
        match (tls::connect_to_any(name, client).await, server) {
            (Ok(client), Some(server)) => {
                let answer = get("/", client).await;
                assert!(answer.contains(server), "{name}: {answer}");
            }
            (client, server) => assert_eq!(client.is_ok(), server.is_some(), "{name}"),
        }
    }

    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = TcpStream::connect(demo.echo).await.expect("it listens");
        client.write_all(b"ping\n").await.expect("it is open");
        assert_eq!(line(&mut client).await.expect("an echo"), "ping");
        clients.push(client);
    }
    let mut fourth = TcpStream::connect(demo.echo).await.expect("it listens");
    let mut received = Vec::new();
    let _reset = fourth.read_to_end(&mut received).await;
    assert_eq!(received, b"");
    let path = "/api/endings?listener=echo&outcome=refused";
    let says_why = |it: &Value| {
        let reason = it["endings"][0]["reason"].as_str();
        reason.is_some_and(|reason| reason.starts_with("rejected by keyed_limit"))
    };
    demo.eventually(path, says_why).await;
    drop(clients);

    let client = TcpStream::connect(demo.page).await.expect("it listens");
    let answer = get("/", client).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("<html"), "{answer}");
    let status = demo.api("/api/status").await;
    let place = status["token_place"].as_str().expect("text");
    assert!(place.contains("terminal"), "{place}");

    // What it prints can be run.
    let output = shell(&demo.ctl).await;
    assert!(output.contains("serving, ready"), "{output}");
    let admin = format!("http://{}", demo.page);
    let level = ["ctl", "--admin", &admin, "log-level", "debug"];
    let mut command = program(level);
    let output = command.env("PORTCULLIS_TOKEN", &demo.token).output().await;
    assert!(output.expect("it runs").status.success());
    demo.end().await;
}

async fn shell(command: &str) -> String {
    let mut shell = tokio::process::Command::new("sh");
    let output = shell.args(["-c", command]).output().await;
    let output = output.expect("there is a shell");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn its_load_shows_completed_and_refused_connections_and_a_server_that_goes_down() {
    let demo = Demo::run(&["--load"]).await;
    for outcome in ["completed", "refused", "handshake_failed"] {
        let path = format!("/api/endings?outcome={outcome}&limit=1");
        let is_there = |it: &Value| it["endings"].as_array().is_some_and(|it| it.len() == 1);
        demo.eventually(&path, is_there).await;
    }
    // After half a minute, when its checks have failed.
    demo.eventually("/api/backends", |it| {
        let backends = it["backends"].as_array().into_iter().flatten();
        let web = backends.filter(|it| it["name"] == "web");
        let mut servers = web.flat_map(|it| it["servers"].as_array().into_iter().flatten());
        servers.any(|it| it["state"] == "down")
    })
    .await;
    drop(demo);
}

async fn get(path: &str, mut client: impl AsyncRead + AsyncWrite + Unpin) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    client
        .write_all(request.as_bytes())
        .await
        .expect("it is open");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test]
async fn its_configuration_is_right_once_there_is_a_certificate() {
    let printed = program(["demo", "--print"])
        .output()
        .await
        .expect("it runs");
    let text = String::from_utf8(printed.stdout).expect("it is UTF-8");
    let how = "-keyout demo.key -out demo.pem\n[[certificate]]";
    assert!(text.contains(how), "{text}");

    let folder = Folder::new();
    let (chain, key) = Authority::new().sign(&["localhost", "a.test", "b.test"]);
    folder.write("demo.pem", chain);
    folder.write("demo.key", key);
    let file = folder.write("gate.toml", text);
    let check = program(["check", "--config", file.to_str().expect("it is UTF-8")]);
    let output = { check }.output().await.expect("it runs");
    let words = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{words}");
}

#[tokio::test]
async fn ports_that_are_taken_are_replaced_by_others() {
    let usual = [8443, 8444, 7007, 9900];
    // Another program may have some, and may leave them meanwhile.
    let taken = usual.map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).ok());
    let demo = Demo::run(&[]).await;
    let addresses = [demo.web, demo.sni, demo.echo, demo.page];
    for (address, taken) in addresses.into_iter().zip(taken) {
        let taken = taken.map(|it| it.local_addr().expect("it is bound"));
        assert_ne!(Some(address), taken);
        TcpStream::connect(address).await.expect("it listens");
    }
    demo.child.handles_sigterm().await;
    demo.end().await;
}
