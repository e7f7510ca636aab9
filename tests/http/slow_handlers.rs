//! Healthy slowness survives, whatever the bounds on clients are.

use crate::{
    h2_frames::{DATA, END_STREAM, HEADERS, frame, request},
    peer::{Peer, get},
    seconds,
    support::paused_scenario,
};
use portcullis::service::http::BodyRate;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

/// Every bound is a second.
fn peer() -> Peer {
    Peer::with(|http| {
        let bound = seconds(1);
        http.with_first_byte_timeout(bound)
            .with_head_timeout(bound)
            .with_idle_timeout(bound)
            .with_send_timeout(bound)
            .with_idle_grace_period(bound)
            .with_body_rate(BodyRate::new(1000, bound))
    })
}

#[test]
fn a_slow_handler_and_a_long_poll_are_waited_for() {
    paused_scenario(async {
        let mut peer = peer();
        assert_eq!(peer.get("/sleep/300000").await.body, "slept");
        assert_eq!(peer.get("/").await.body, "hello");
    });
}

#[test]
fn a_silent_event_stream_is_not_idle() {
    paused_scenario(async {
        let mut peer = peer();
        peer.send(get("/silent/300000")).await;
        peer.head().await;
        let mut body = [0; 3 + 6 + 2];
        peer.io.read_exact(&mut body).await.unwrap();
        assert!(body.ends_with(b"first \r\n"), "{body:?}");
        let mut last = [0; 4 + 3 + 5 + 2];
        peer.io.read_exact(&mut last).await.unwrap();
        assert!(last.starts_with(b"4\r\nlast\r\n"), "{last:?}");
        assert_eq!(peer.get("/").await.body, "hello");
    });
}

#[test]
fn an_upgraded_connection_has_no_bounds() {
    paused_scenario(async {
        let mut peer = peer();
        peer.send("GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
            .await;
        assert!(peer.head().await.starts_with("http/1.1 101 "));
        for _ in 0..3 {
            sleep(seconds(100)).await;
            peer.send("hello").await;
            let mut echo = [0; 5];
            peer.io.read_exact(&mut echo).await.unwrap();
            assert_eq!(&echo, b"hello");
        }
        peer.io.shutdown().await.unwrap();
        assert!(peer.rest().await.is_empty());
    });
}

#[test]
fn an_http2_stream_that_is_silent_both_ways_lives_on() {
    paused_scenario(async {
        let mut peer = Peer::with(|http| {
            let bound = seconds(1);
            http.with_idle_timeout(bound)
                .with_head_timeout(bound)
                .with_send_timeout(bound)
                .with_body_rate(None)
        });
        peer.h2(65_535).await;
        peer.send(request(1, "POST", "/duplex", 0)).await;
        assert_eq!(peer.frame().await.kind, HEADERS);
        for _ in 0..5 {
            // Pings are answered meanwhile.
            assert!(timeout(seconds(90), peer.frame()).await.is_err());
            peer.send(frame(DATA, 0, 1, b"message")).await;
            let echo = peer.frame().await;
            assert_eq!((echo.kind, &*echo.payload), (DATA, &b"message"[..]));
        }
        peer.send(frame(DATA, END_STREAM, 1, b"")).await;
        assert!(peer.frame().await.ends_stream());
    });
}
