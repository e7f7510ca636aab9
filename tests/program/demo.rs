//! `portcullis demo`: each listener that it prints does what it says, and its configuration is one for `run`.

use crate::{
    gate::{Authority, Folder, line, program},
    support::child::{Child, address_in},
    tls,
};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn each_listener_serves_and_sigterm_ends_it() {
    let mut demo = Child::start(program(["demo"])).expect("it starts");
    let mut address = async |what: &str| -> SocketAddr {
        let line = demo.says(&format!("  {what}  ")).await;
        address_in(&line).unwrap_or_else(|| panic!("no address in {line}"))
    };
    let (web, echo, page) = (
        address("web").await,
        address("echo").await,
        address("page").await,
    );
    demo.says("demo --load").await;
    demo.says("demo --print").await;
    demo.says("admin interface on ").await;

    let client = TcpStream::connect(web).await.expect("it listens");
    let client = tls::connect_to_any("localhost", client).await;
    let answer = get("/", client.expect("a handshake")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("hello, 127.0.0.1:"), "{answer}");

    let mut client = TcpStream::connect(echo).await.expect("it listens");
    client.write_all(b"ping\n").await.expect("it is open");
    assert_eq!(line(&mut client).await.expect("an echo"), "ping");
    drop(client);

    let client = TcpStream::connect(page).await.expect("it listens");
    let answer = get("/", client).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("<html"), "{answer}");

    demo.signal("TERM").await;
    let ended = demo.ended_within(Duration::from_secs(30)).await;
    assert_eq!(ended.code(), Some(0));
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
