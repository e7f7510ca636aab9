//! `backend.health`: when servers are checked, how, and what follows.

use super::{PATIENCE, Running, serve, silent_server};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::{Instant, timeout},
};

/// A server that reports the time of each connection, then serves it.
async fn reporting<F>(
    serve_one: impl Fn(TcpStream) -> F + Clone + Send + 'static,
) -> (SocketAddr, mpsc::UnboundedReceiver<Instant>)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let (sender, received) = mpsc::unbounded_channel();
    let address = serve(move |stream| {
        // The test may be over.
        let _ = sender.send(Instant::now());
        serve_one(stream)
    });
    (address.await, received)
}

async fn next(checks: &mut mpsc::UnboundedReceiver<Instant>) -> Instant {
    let next = timeout(PATIENCE, checks.recv()).await;
    next.expect("there is no check").expect("the server runs")
}

/// The head of a request.
async fn head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

async fn answer(stream: &mut TcpStream, status: &str) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await
}

#[tokio::test]
async fn servers_are_checked_by_a_connect_unless_checks_are_off() {
    for (health, is_checked) in [("tcp", true), ("off", false)] {
        let (server, mut checks) = reporting(|_| async { Ok(()) }).await;
        let keys = format!("servers = \"{server}\"\nhealth = \"{health}\"");
        let _running = Running::backend(&keys).await;
        if is_checked {
            next(&mut checks).await;
        } else {
            let none = timeout(Duration::from_millis(500), checks.recv()).await;
            assert!(none.is_err(), "it is checked");
        }
    }
}

#[tokio::test]
async fn checks_have_their_interval() {
    let (server, mut checks) = reporting(|_| async { Ok(()) }).await;
    let keys = format!("servers = \"{server}\"\nhealth.interval = \"200ms\"");
    let _running = Running::backend(&keys).await;
    let first = next(&mut checks).await;
    for _ in 0..5 {
        next(&mut checks).await;
    }
    // Five intervals, each with 10 % of jitter. The default of one is 5 s.
    let took = first.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test]
async fn a_check_that_is_not_answered_fails_at_its_timeout() {
    let keys = format!(
        "servers = \"{}\"\nhealth = {{ http = \"/\", timeout = \"200ms\" }}",
        silent_server().await
    );
    let mut running = Running::backend(&keys).await;
    let down = running.says("server is down").await;
    assert!(down.contains("200ms"), "{down}");
}

/// A server with checks over HTTP, of which the first ones are good or not as listed, and the others the opposite of the
/// last one. It counts the others.
async fn turning(first: &'static [bool]) -> (SocketAddr, Arc<AtomicUsize>) {
    let others = Arc::new(AtomicUsize::new(0));
    let count = others.clone();
    let checks = AtomicUsize::new(0);
    let server = serve(move |mut stream| {
        let listed = first.get(checks.fetch_add(1, Ordering::Relaxed));
        let count = count.clone();
        async move {
            head(&mut stream).await?;
            let is_good = listed.copied().unwrap_or(first.last() == Some(&false));
            if listed.is_none() {
                count.fetch_add(1, Ordering::Relaxed);
            }
            answer(&mut stream, if is_good { "200 OK" } else { "503 No" }).await
        }
    });
    (server.await, others)
}

#[tokio::test]
async fn a_server_is_down_after_failed_checks_in_a_row() {
    const FALL: usize = 6;
    let (server, failed) = turning(&[true]).await;
    let keys = format!(
        "servers = \"{server}\"\n\
         health = {{ http = \"/\", interval = \"100ms\", fall = {FALL} }}"
    );
    let mut running = Running::backend(&keys).await;
    running.says("server is down").await;
    let failed = failed.load(Ordering::Relaxed);
    assert!(failed >= FALL, "after {failed} failed checks");
}

#[tokio::test]
async fn a_server_is_up_after_good_checks_in_a_row() {
    const RISE: usize = 6;
    let (server, good) = turning(&[true, false]).await;
    let keys = format!(
        "servers = \"{server}\"\n\
         health = {{ http = \"/\", interval = \"100ms\", fall = 1, rise = {RISE} }}"
    );
    let mut running = Running::backend(&keys).await;
    running.says("server is down").await;
    running.says("server is up").await;
    let good = good.load(Ordering::Relaxed);
    assert!(good >= RISE, "after {good} good checks");
}

/// Whether the server comes up after its first check, which fails.
async fn comes_up(running: &mut Running, is_expected: bool) -> bool {
    running.says("server is down").await;
    let time = match is_expected {
        true => PATIENCE,
        // Several checks.
        false => Duration::from_millis(600),
    };
    timeout(time, running.says("server is up")).await.is_ok()
}

#[tokio::test]
async fn a_request_has_the_path_and_its_answer_one_of_the_statuses() {
    for (expect, status, is_good) in [
        ("", "200 OK", true),
        ("", "204 Fine", false),
        ("expect = \"200-299\", ", "204 Fine", true),
        ("expect = [200, 401], ", "401 Who", true),
        ("expect = 204, ", "200 OK", false),
    ] {
        let (sender, mut heads) = mpsc::unbounded_channel();
        let checks = AtomicUsize::new(0);
        let server = serve(move |mut stream| {
            let is_first = checks.fetch_add(1, Ordering::Relaxed) == 0;
            let sender = sender.clone();
            async move {
                // The test may be over.
                let _ = sender.send(head(&mut stream).await?);
                answer(&mut stream, if is_first { "500 No" } else { status }).await
            }
        });
        let keys = format!(
            "servers = \"{}\"\n\
             health = {{ http = \"/ready\", {expect}interval = \"100ms\", fall = 1, rise = 1 }}",
            server.await
        );
        let mut running = Running::backend(&keys).await;
        let first = timeout(PATIENCE, heads.recv()).await.expect("a check");
        let first = first.expect("the server runs");
        assert!(first.starts_with("GET /ready HTTP/1."), "{first}");
        assert_eq!(
            comes_up(&mut running, is_good).await,
            is_good,
            "{expect}{status}"
        );
    }
}

#[tokio::test]
async fn texts_are_sent_and_expected() {
    for (keys, is_good) in [
        ("send = \"PING\\n\", expect = \"PONG\"", true),
        ("send = \"PING\\n\", expect = [\"nothing\", \"PONG\"]", true),
        ("send = \"PING\\n\", expect = \"nothing\"", false),
        ("send = \"HELO\\n\", expect = \"PONG\"", false),
        ("expect = \"ready\"", true),
        ("expect = \"nothing\"", false),
    ] {
        let checks = AtomicUsize::new(0);
        let server = serve(move |mut stream| {
            let is_first = checks.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                if is_first {
                    return Ok(());
                }
                stream.write_all(b"ready\n").await?;
                let mut text = [0; 5];
                stream.read_exact(&mut text).await?;
                let reply: &[u8] = if text == *b"PING\n" {
                    b"PONG\n"
                } else {
                    b"?\n"
                };
                stream.write_all(reply).await?;
                stream.shutdown().await
            }
        });
        let keys = format!(
            "servers = \"{}\"\n\
             health = {{ {keys}, interval = \"100ms\", timeout = \"2s\", fall = 1, rise = 1 }}",
            server.await
        );
        let mut running = Running::backend(&keys).await;
        assert_eq!(comes_up(&mut running, is_good).await, is_good, "{keys}");
    }
}

#[tokio::test]
async fn checks_go_to_their_port() {
    let (other, mut checks) = reporting(|_| async { Ok(()) }).await;
    let (server, mut to_server) = reporting(|_| async { Ok(()) }).await;
    let keys = format!(
        "servers = \"{server}\"\nhealth = {{ port = {}, interval = \"100ms\" }}",
        other.port()
    );
    let _running = Running::backend(&keys).await;
    for _ in 0..3 {
        next(&mut checks).await;
    }
    assert!(to_server.try_recv().is_err(), "the server is checked");
}
