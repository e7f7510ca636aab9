//! `portcullis forward`: a gate without a file.

use crate::gate::{Gate, backend, line, program};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
