//! Clients that mean harm, of the interface and of the listeners.

use super::{Administered, TOKEN, client::exchange, configuration, forward_to};
use crate::{
    gate::{Authority, Folder, backend, line},
    tls,
};
use rcgen::{CertificateParams, DnType};
use std::{fs, time::Duration};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

/// Memory of the process, in KiB.
fn memory(running: &Administered) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.gate.child.id()));
    let status = status.expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("a number")
}

#[tokio::test]
async fn a_head_of_a_mebibyte_is_refused_without_memory() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    let heads = [
        format!(
            "GET /livez HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
            "x".repeat(1 << 20)
        ),
        format!(
            "GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n",
            "x".repeat(1 << 20)
        ),
        format!(
            "GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n",
            "x: y\r\n".repeat(1 << 17)
        ),
    ];
    // The first ones fill what is kept for later ones.
    let mut before = 0;
    for round in 0..12 {
        if round == 2 {
            before = memory(&running);
        }
        for head in &heads {
            let stream = TcpStream::connect(running.admin).await.expect("it listens");
            let answer = exchange(stream, head.as_bytes()).await;
            assert!([414, 431].contains(&answer.status), "{}", answer.status);
        }
    }
    // The allocator may keep some memory. If the heads were kept, it would be 30 MiB.
    let more = memory(&running).saturating_sub(before);
    assert!(more < 12 * 1_024, "{more} KiB for 30 heads of a MiB");
}

#[tokio::test]
async fn a_body_of_more_than_64_kib_is_refused() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    let api = running.api().with_token(TOKEN);
    let refused = api
        .send("POST", "/api/reload", &"x".repeat(65 * 1024))
        .await;
    assert_eq!(refused.status, 413);
    assert_eq!(
        api.send("POST", "/api/reload", &"x".repeat(64 * 1024))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_probe_is_answered_beside_a_thousand_slow_clients() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    let mut slow = Vec::new();
    for number in 0..1_000 {
        let mut client = TcpStream::connect(running.admin).await.expect("it listens");
        // Some send nothing, some an unfinished head, and some an unfinished body.
        if number % 3 == 2 {
            client
                .write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nx")
                .await
                .expect("it is open");
        }
        if number % 3 == 1 {
            client
                .write_all(b"GET /api/status HTTP/1.1\r\nhost: localhost\r\n")
                .await
                .expect("it is open");
        }
        slow.push(client);
        if number % 100 == 99 {
            // Less than a slow client may take, so that none has left its place by itself.
            let ready = timeout(Duration::from_secs(5), running.get("/readyz")).await;
            let ready = ready.unwrap_or_else(|_| panic!("no answer beside {number} clients"));
            assert_eq!((ready.status, &*ready.body), (200, "ready\n"));
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_delays_no_other_and_is_closed() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    let mut slow = TcpStream::connect(running.admin).await.expect("it listens");
    // Requests without end, whose replies do not fit into the buffers of the kernel.
    let request = format!("GET /page.css HTTP/1.1\r\nhost: {}\r\n\r\n", running.admin);
    let flood = async { while slow.write_all(request.as_bytes()).await.is_ok() {} };
    let probes = async {
        for _ in 0..10 {
            assert_eq!(running.get("/readyz").await.status, 200);
        }
    };
    let closed = timeout(Duration::from_secs(60), async {
        tokio::join!(flood, probes)
    })
    .await;
    assert!(
        closed.is_ok(),
        "a client that does not read keeps its place"
    );
}

#[tokio::test]
async fn markup_of_a_peer_stays_text() {
    const MARKUP: &str = "<img src=x onerror=alert(1)>";
    let (authority, folder) = (Authority::new(), Folder::new());
    let (chain, key) = authority.sign(&["shop.test"]);
    folder.write("shop.pem", chain);
    folder.write("shop.key", key);
    folder.write("ca.pem", authority.pem());
    let tls = "tls = { certificates = \"shop\", client = { roots = \"ca.pem\" } }";
    let server = format!("servers = \"{}\"", backend("one").await);
    let text = configuration(tls, &server)
        + "[[certificate]]\nname = \"shop\"\nchain = \"shop.pem\"\nkey = \"shop.key\"\n";
    let running = Administered::run_in(folder, "", &text, 1).await;

    let mut identity = CertificateParams::new([]).expect("no names");
    identity.distinguished_name.push(DnType::CommonName, MARKUP);
    let identity = authority.sign_params(identity);
    let stream = running.gate.connect().await;
    let client = tls::connect(&authority, Some(identity), "shop.test", stream).await;
    let mut client = client.expect("a handshake");
    line(&mut client).await.expect("the greeting");
    let list = running.get("/api/connections?search=onerror").await;
    assert!(list.head.contains("content-type: application/json"));
    let shown = &list.json()["connections"][0];
    assert_eq!(shown["client_certificate"], format!("CN={MARKUP}"));
    assert_eq!(
        (&shown["name"], &shown["tls"]["version"]),
        (&"shop.test".into(), &"1.3".into())
    );
    drop(client);

    // A name with markup is no host name, and the reason says so as text.
    let mut client = running.gate.connect().await;
    client
        .write_all(&client_hello(MARKUP))
        .await
        .expect("it is open");
    let ended = running
        .eventually("/api/endings", |it| it["last"] == 2)
        .await;
    assert_eq!(
        ended["endings"][0]["outcome"], "handshake_failed",
        "{ended}"
    );
}

#[tokio::test]
async fn the_page_runs_only_its_own_scripts() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    for path in [
        "/",
        "/page.js",
        "/api/status",
        "/metrics",
        "/api/%3Cscript%3E%0aalert",
        "/%zz",
    ] {
        let reply = running.get(path).await;
        let policy = "content-security-policy: default-src 'self'; frame-ancestors 'none'";
        for header in [
            policy,
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
        ] {
            assert!(reply.head.contains(header), "{path}: {}", reply.head);
        }
        assert_eq!(reply.head.contains("text/html"), path == "/", "{path}");
    }
}

/// A ClientHello of TLS 1.2 that requests `name`.
fn client_hello(name: &str) -> Vec<u8> {
    let of_16 = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len())
            .expect("it is short")
            .to_be_bytes();
        [&length, bytes].concat()
    };
    let names = of_16(&[&[0][..], &of_16(name.as_bytes())].concat());
    let extensions = of_16(&[&[0, 0][..], &of_16(&names)].concat());
    let hello = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &of_16(&[0xc0, 0x2f]),
        &[1, 0],
        &extensions,
    ]
    .concat();
    let length = u32::try_from(hello.len())
        .expect("it is short")
        .to_be_bytes();
    let handshake = [&[1], &length[1..], &hello].concat();
    [&[22, 3, 1][..], &of_16(&handshake)].concat()
}

#[tokio::test]
async fn no_secret_is_in_the_log_or_in_a_reply_and_each_change_is_one_line() {
    let mut running = Administered::run_with("", &forward_to(backend("one").await), 1).await;
    let mut replies = Vec::new();
    for path in [
        "status",
        "listeners",
        "connections",
        "endings",
        "backends",
        "certificates",
        "live",
    ] {
        replies.push(running.get(&format!("/api/{path}")).await.body);
    }
    replies.push(running.get("/metrics").await.body);
    running.post("/api/listeners/a/limit?value=9").await;
    running
        .api()
        .with_token("wrong-but-long-enough")
        .post("/api/listeners/a/pause")
        .await;
    running.api().post("/api/listeners/a/resume").await;
    running
        .post("/api/connections/close?name=%0a%1b&all=true")
        .await;
    running.post("/api/drain").await;
    let mut changes = Vec::new();
    while changes.len() < 5 {
        let line = running.gate.child.line().await;
        assert!(
            !line.contains(TOKEN) && !line.contains("wrong-but-long"),
            "{line}"
        );
        assert!(!line.contains('\u{1b}'), "{line:?}");
        if line.contains("POST /api") {
            changes.push(line);
        }
    }
    assert!(replies.iter().all(|reply| !reply.contains(TOKEN)));
    let parts = [
        ("/api/listeners/a/limit?value=9", "the token", "200"),
        ("/api/listeners/a/pause", "an unauthenticated client", "403"),
        (
            "/api/listeners/a/resume",
            "an unauthenticated client",
            "401",
        ),
        ("/api/connections/close", "the token", "200"),
        ("/api/drain", "the token", "202"),
    ];
    for (line, (what, who, status)) in changes.iter().zip(parts) {
        for part in [what, who, status, "127.0.0.1:"] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}
