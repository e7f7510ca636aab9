//! `portcullis forward`: a gate without a file.

use crate::{
    gate::{Authority, Folder, Gate, backend, line, program},
    tls,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixListener, UnixStream},
};

#[tokio::test]
async fn one_line_forwards_a_port_to_a_server_byte_for_byte() {
    let server = backend("one").await.to_string();
    let gate = Gate::start(program(["forward", "127.0.0.1:0", &server]), 1).await;
    let mut client = gate.connect().await;
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
    let sent: Vec<u8> = (0..3_000_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    let (mut read, mut write) = client.split();
    let send = async {
        write.write_all(&sent).await?;
        write.shutdown().await
    };
    let mut received = Vec::new();
    let (sending, receiving) = tokio::join!(send, read.read_to_end(&mut received));
    sending.expect("it is taken");
    receiving.expect("the end follows");
    assert!(
        received == sent,
        "{} of {} bytes",
        received.len(),
        sent.len()
    );
}

#[tokio::test]
async fn a_client_outside_of_the_allowed_networks_is_refused() {
    let server = backend("one").await.to_string();
    let command = program(["forward", "127.0.0.1:0", &server, "--allow", "192.0.2.0/24"]);
    let gate = Gate::start(command, 1).await;
    let mut client = gate.connect().await;
    let mut received = Vec::new();
    let _ = client.read_to_end(&mut received).await;
    assert_eq!(received, b"");
}

#[tokio::test]
async fn a_server_that_is_down_costs_no_client_where_another_one_is_up() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let down = closed.local_addr().expect("it is bound").to_string();
    drop(closed);
    let up = backend("up").await.to_string();
    let gate = Gate::start(program(["forward", "127.0.0.1:0", &down, &up]), 1).await;
    for _ in 0..20 {
        let mut client = gate.connect().await;
        assert_eq!(line(&mut client).await.expect("the greeting"), "up");
    }
}

#[tokio::test]
async fn it_terminates_tls_with_a_chain_and_a_key() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let (chain, key) = authority.sign(&["db.example"]);
    let (chain, key) = (folder.write("db.pem", chain), folder.write("db.key", key));
    let (chain, key) = (chain.display().to_string(), key.display().to_string());
    let server = backend("one").await.to_string();
    let command = program([
        "forward",
        "127.0.0.1:0",
        &server,
        "--chain",
        &chain,
        "--key",
        &key,
    ]);
    let gate = Gate::start(command, 1).await;
    let client = tls::connect(&authority, None, "db.example", gate.connect().await).await;
    let mut client = client.expect("a handshake");
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
}

#[tokio::test]
async fn the_server_gets_the_address_of_the_client_in_a_proxy_header() {
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = server.local_addr().expect("it is bound").to_string();
    let command = program(["forward", "127.0.0.1:0", &address, "--proxy-protocol", "1"]);
    let gate = Gate::start(command, 1).await;
    let client = gate.connect().await;
    let own = client.local_addr().expect("it is bound");
    let header = format!(
        "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r",
        own.port(),
        gate.addresses[0].port()
    );
    // A health check sends a header without a client.
    loop {
        let (mut stream, _) = server.accept().await.expect("a connection");
        let first = line(&mut stream).await.unwrap_or_default();
        if first == header {
            break;
        }
        assert!(first.is_empty() || first == "PROXY UNKNOWN\r", "{first}");
    }
}

#[tokio::test]
async fn unix_sockets_are_forwarded_from_and_to() {
    let folder = Folder::new();
    let (front, back) = (folder.path("front.sock"), folder.path("back.sock"));
    let server = UnixListener::bind(&back).expect("the folder is writable");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            // A health check has gone by then.
            let _ = stream.write_all(b"one\n").await;
        }
    });
    let (listen, server) = (
        format!("unix:{}", front.display()),
        format!("unix:{}", back.display()),
    );
    let mut gate = Gate::start(program(["forward", &listen, &server]), 0).await;
    gate.child.says("listening on ").await;
    let mut client = UnixStream::connect(front).await.expect("it listens");
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
}

#[tokio::test]
async fn what_is_wrong_on_the_command_line_has_no_place_in_a_file() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let taken = taken.local_addr().expect("it is bound").to_string();
    for (listen, server, code, message) in [
        ("127.0.0.1:0", "no-port", 2, "write \"host:port\""),
        (&*taken, "127.0.0.1:1", 1, "listener \"forward\": "),
    ] {
        let output = program(["forward", listen, server]).output().await;
        let output = output.expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(message), "{text}");
        assert!(!text.contains("command line"), "{text}");
    }
}
