//! `listener.timeouts`: each ends what it is for, not before its time, and says so.

use super::{PATIENCE, Running, SHORT, end, flooding_server, silent_server, stays_open};
use crate::{
    gate::{Authority, Folder, line},
    tls,
};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

const LONGER: Duration = Duration::from_secs(2);

/// Checks that the next connection has ended by this timeout of 300 ms.
async fn assert_reached(running: &mut Running, key: &str) {
    assert_reached_after("300ms", running, key).await;
}

async fn assert_reached_after(time: &str, running: &mut Running, key: &str) {
    let reason = running.reason().await;
    let expected = format!("timed out after {time} (`timeouts.{key}`)");
    assert!(reason.ends_with(&expected), "{reason}");
}

#[tokio::test]
async fn a_client_that_sends_no_byte_reaches_first_byte() {
    // Long enough for a client that speaks.
    let mut running = Running::listener("timeouts.first-byte = \"2s\"").await;
    let mut speaks = running.connect().await;
    speaks.write_all(b"x").await.expect("it is open");
    let mut silent = running.connect().await;
    assert!(end(&mut silent).await >= LONGER);
    assert_reached_after("2s", &mut running, "first-byte").await;
    assert!(stays_open(&mut speaks, Duration::from_millis(100)).await);
}

#[tokio::test]
async fn a_connection_on_which_both_sides_are_silent_reaches_idle() {
    // Long enough for a greeting.
    let mut running = Running::listener("timeouts.idle = \"2s\"").await;
    let mut client = running.greeted().await;
    client.write_all(b"x").await.expect("it is open");
    assert!(end(&mut client).await >= LONGER);
    assert_reached_after("2s", &mut running, "idle").await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_reaches_write() {
    let backend = format!("servers = \"{}\"", flooding_server().await);
    let keys = "timeouts.write = \"300ms\"";
    let mut running = Running::in_folder(Folder::new(), "", &[keys], &backend).await;
    let begun = Instant::now();
    let _client = running.connect().await;
    assert_reached(&mut running, "write").await;
    assert!(begun.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_server_that_is_silent_after_the_end_of_the_client_reaches_half_closed() {
    let backend = format!("servers = \"{}\"", silent_server().await);
    let keys = "timeouts.half-closed = \"300ms\"";
    let mut running = Running::in_folder(Folder::new(), "", &[keys], &backend).await;
    let mut client = running.connect().await;
    client.shutdown().await.expect("it is open");
    assert!(end(&mut client).await >= SHORT);
    assert_reached(&mut running, "half-closed").await;
}

#[tokio::test]
async fn a_connection_in_use_reaches_lifetime() {
    // Long enough for a greeting.
    let mut running = Running::listener("timeouts.lifetime = \"2s\"").await;
    let begun = Instant::now();
    let mut client = running.greeted().await;
    let used =
        async { while client.write_all(b"x").await.is_ok() && client.read_u8().await.is_ok() {} };
    let used = tokio::time::timeout(PATIENCE, used).await;
    used.expect("it does not end");
    assert!(begun.elapsed() >= LONGER);
    assert_reached_after("2s", &mut running, "lifetime").await;
}

#[tokio::test]
async fn the_lifetimes_of_connections_differ_by_the_jitter() {
    const CLIENTS: usize = 16;
    let keys = "timeouts = { lifetime = \"2s\", lifetime-jitter = \"100%\" }";
    let mut running = Running::listener(keys).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(running.connect().await);
    }
    let mut lasted = Vec::new();
    for _ in 0..CLIENTS {
        let ended = running.ended().await;
        lasted.push(ended["duration"].as_f64().expect("a time"));
    }
    let shortest = lasted.iter().copied().fold(f64::INFINITY, f64::min);
    let longest = lasted.iter().copied().fold(0.0, f64::max);
    assert!(shortest >= 2.0, "{lasted:?}");
    // That all 16 are within 0.7 s of 2 s has a probability of 2 in a million.
    assert!(longest - shortest > 0.7, "{lasted:?}");
}

#[tokio::test]
async fn a_trusted_proxy_that_is_silent_reaches_proxy_header() {
    let keys = "proxy-protocol.trust = \"127.0.0.1\"\ntimeouts.proxy-header = \"300ms\"";
    let mut running = Running::listener(keys).await;
    assert!(end(&mut running.connect().await).await >= SHORT);
    assert_reached(&mut running, "proxy-header").await;
}

#[tokio::test]
async fn a_client_by_whose_bytes_no_route_is_chosen_yet_reaches_client_hello() {
    let keys = "timeouts.client-hello = \"300ms\"\n\
                route = [{ protocol = \"ssh\", backend = \"b\" }]";
    let mut running = Running::listener(keys).await;
    assert!(end(&mut running.connect().await).await >= SHORT);
    assert_reached(&mut running, "client-hello").await;
}

/// A listener with TLS and these keys, in front of this server.
async fn with_tls(keys: &str, server: SocketAddr) -> (Running, Authority) {
    let (folder, authority) = (Folder::new(), Authority::new());
    let (chain, key) = authority.sign(&["a.test"]);
    folder.write("c.pem", chain);
    folder.write("c.key", key);
    let certificate = "[[certificate]]\nname = \"c\"\nchain = \"c.pem\"\nkey = \"c.key\"\n";
    let keys = format!("tls.certificates = \"c\"\n{keys}");
    let backend = format!("servers = \"{server}\"");
    let running = Running::in_folder(folder, certificate, &[&keys], &backend).await;
    (running, authority)
}

#[tokio::test]
async fn a_client_that_begins_no_handshake_reaches_handshake() {
    let keys = "timeouts.handshake = \"300ms\"";
    let (mut running, _) = with_tls(keys, silent_server().await).await;
    assert!(end(&mut running.connect().await).await >= SHORT);
    assert_reached(&mut running, "handshake").await;
}

#[tokio::test]
async fn a_client_that_does_not_request_tls_reaches_prelude() {
    let keys = "prelude = \"postgres\"\ntimeouts.prelude = \"300ms\"";
    let (mut running, _) = with_tls(keys, silent_server().await).await;
    let mut client = running.connect().await;
    client.write_all(b"\0\0\0\x08").await.expect("it is open");
    assert!(end(&mut client).await >= SHORT);
    assert_reached(&mut running, "prelude").await;
}

#[tokio::test]
async fn a_mail_server_that_does_not_greet_reaches_prelude() {
    let keys = "prelude = \"smtp\"\ntimeouts.prelude = \"300ms\"";
    let (mut running, authority) = with_tls(keys, silent_server().await).await;
    let mut client = running.connect().await;
    line(&mut client).await.expect("the greeting");
    client.write_all(b"STARTTLS\r\n").await.expect("it is open");
    line(&mut client).await.expect("the answer");
    let client = tls::connect(&authority, None, "a.test", client).await;
    let mut client = client.expect("a handshake");
    assert!(end(&mut client).await >= SHORT);
    let reason = running.reason().await;
    assert!(
        reason.ends_with("prelude timed out after 300ms"),
        "{reason}"
    );
}
