//! Clients that send no HTTP or malformed HTTP/1: they get a 400 or an end, and others are served.

use crate::{
    app::app,
    h2_frames::{self, END_STREAM, RST_STREAM, read_frame},
    peer::get,
    support::{Fixture, scenario},
};
use portcullis::{ServiceBuilderExt, middleware::outcome::Outcome, service::HttpService};
use std::{collections::HashMap, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tower::ServiceBuilder;

pub fn serve() -> Fixture {
    let stack = ServiceBuilder::new()
        .peer_addr()
        .service(HttpService::new(app()));
    Fixture::serve(stack)
}

/// Sends what is bad and reads all that comes back.
pub async fn answer(server: &Fixture, bad: &[u8]) -> Vec<u8> {
    let mut client = server.connect().await;
    // It may be cut in the middle of it.
    let _ = client.write_all(bad).await;
    let mut answer = Vec::new();
    let end = timeout(Duration::from_secs(10), client.read_to_end(&mut answer));
    let _end_or_reset = end.await.expect("neither an answer nor an end");
    answer
}

pub async fn good(server: &Fixture) {
    let answer = answer(
        server,
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.ends_with(b"hello"), "{answer:?}");
}

pub async fn outcomes(server: Fixture) -> HashMap<Outcome, u64> {
    server.idle().await;
    let outcomes = server.status().outcomes.into_iter().collect();
    server.finish().await;
    outcomes
}

#[test]
fn what_is_no_http_gets_a_400_or_an_end() {
    scenario(async {
        let server = serve();
        let bombs = [
            format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(600_000)),
            format!(
                "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
                "b".repeat(600_000)
            ),
            format!(
                "GET / HTTP/1.1\r\nhost: a\r\n{}\r\n",
                "x: y\r\n".repeat(2000)
            ),
        ];
        let bad: [&[u8]; 18] = [
            b"\0\0\0\0\0\0\0\0\r\n\r\n",
            &[0xff; 2000],
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\r\nho\0st: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: a\0b\r\n\r\n",
            b"GET /\x01\x7f HTTP/1.1\r\nhost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\n folded: a\r\n\r\n",
            b"POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
            b"POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
            b"POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n",
            b"POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
            b"POST /length HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, x\r\n\r\n",
            // TLS to a plain port.
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            bombs[0].as_bytes(),
            bombs[1].as_bytes(),
            bombs[2].as_bytes(),
        ];
        for bad in bad {
            let answer = answer(&server, bad).await;
            let head = String::from_utf8_lossy(&answer);
            let told = head.is_empty() || head.starts_with("HTTP/1.1 4");
            let what = String::from_utf8_lossy(&bad[..bad.len().min(60)]).into_owned();
            assert!(told, "{what:?}: {head}");
            good(&server).await;
        }
        let outcomes = outcomes(server).await;
        assert_eq!(
            outcomes[&Outcome::Completed],
            bad.len() as u64,
            "{outcomes:?}"
        );
        let ended_badly: u64 = outcomes.values().sum::<u64>() - bad.len() as u64;
        assert_eq!(ended_badly, bad.len() as u64, "{outcomes:?}");
        assert!(!outcomes.contains_key(&Outcome::Panicked));
    });
}

#[test]
fn bad_chunks_fail_the_body_and_end_the_connection() {
    scenario(async {
        let server = serve();
        for chunks in [
            "x\r\n",
            "5\r\nab",
            "-1\r\n",
            "fffffffffffffffff\r\n",
            "1;\nx\r\n",
            "2\r\nabc\r\n0\r\n\r\n",
        ] {
            let head = "POST /length HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
            let mut client = server.connect().await;
            client
                .write_all(format!("{head}{chunks}").as_bytes())
                .await
                .unwrap();
            client.shutdown().await.unwrap();
            let mut answer = String::new();
            let _ = client.read_to_string(&mut answer).await;
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
                "{chunks:?}: {answer}"
            );
            good(&server).await;
        }
        drop(outcomes(server).await);
    });
}

/// Who reads the length and who reads the chunks would disagree where the next request begins.
#[test]
fn a_request_cannot_be_smuggled_in_the_body_of_another() {
    scenario(async {
        let server = serve();
        let inner = "GET /panic HTTP/1.1\r\nhost: a\r\n\r\n";
        for fields in [
            format!(
                "content-length: {}\r\ntransfer-encoding: chunked",
                inner.len() + 5
            ),
            format!(
                "transfer-encoding: chunked\r\ncontent-length: {}",
                inner.len() + 5
            ),
            "transfer-encoding: chunked\r\ntransfer-encoding: identity".to_owned(),
            "transfer-encoding: xchunked".to_owned(),
            "transfer-encoding:\x0bchunked".to_owned(),
        ] {
            let request =
                format!("POST /length HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n0\r\n\r\n{inner}");
            let answer = answer_within(&server, request.as_bytes()).await;
            let answers = answer.matches("HTTP/1.1 ").count();
            // Chunks win over a length, and then the connection ends (RFC 9112, 6.1).
            let chunks_won = fields.contains("content-length") && answer.ends_with("\r\n\r\n0");
            assert!(
                answer.starts_with("HTTP/1.1 400 ") || chunks_won,
                "{fields:?}: {answer}"
            );
            assert!(
                answers == 1 && answer.contains("connection: close"),
                "{fields:?}: {answer}"
            );
            good(&server).await;
        }
        drop(outcomes(server).await);
    });
}

async fn answer_within(server: &Fixture, request: &[u8]) -> String {
    let mut client = server.connect().await;
    client.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_millis(300), client.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

#[test]
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
fn plain_http_to_a_tls_port_fails_the_handshake() {
    scenario(async {
        let stack = ServiceBuilder::new()
            .peer_addr()
            .layer(crate::support::tls::layer())
            .service(HttpService::new(app()));
        let server = Fixture::serve(stack);
        for bad in [get("/").as_bytes(), h2_frames::PREFACE] {
            let answer = answer(&server, bad).await;
            assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
        }
        let mut client = crate::support::tls::connect(server.connect().await)
            .await
            .unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
        // Without its close_notify the end would count as truncated.
        client.shutdown().await.unwrap();
        drop(client);
        let outcomes = outcomes(server).await;
        assert_eq!(outcomes[&Outcome::HandshakeFailed], 2, "{outcomes:?}");
        assert_eq!(outcomes[&Outcome::Completed], 1, "{outcomes:?}");
    });
}

#[test]
fn a_handler_that_panics_ends_its_connection_or_its_stream() {
    scenario(async {
        let server = serve();
        assert!(answer(&server, get("/panic").as_bytes()).await.is_empty());
        good(&server).await;
        let mut client = server.connect().await;
        let hello = h2_frames::hello(65_535);
        let requests = [
            hello,
            h2_frames::request(1, "GET", "/panic", END_STREAM),
            h2_frames::request(3, "GET", "/sleep/20", END_STREAM),
        ];
        client.write_all(&requests.concat()).await.unwrap();
        let (mut reset, mut answered) = (false, false);
        while !(reset && answered) {
            let frame = read_frame(&mut client).await.unwrap();
            reset |= frame.kind == RST_STREAM && frame.stream == 1;
            answered |= frame.stream == 3 && frame.ends_stream();
        }
        drop(client);
        let outcomes = outcomes(server).await;
        assert_eq!(outcomes[&Outcome::Panicked], 1, "{outcomes:?}");
    });
}
