//! Streams of HTTP/2 that became tunnels (RFC 8441).

use crate::{
    h2_frames::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, frame, headers},
    peer::{Peer, assert_took},
    seconds,
    support::paused_scenario,
};
use portcullis::middleware::outcome::Outcome;
use std::time::Duration;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep, timeout},
};

const BOUND: Duration = seconds(10);

async fn peer() -> Peer {
    peer_with(BOUND).await
}

async fn peer_with(idle: Duration) -> Peer {
    let mut peer = Peer::with(|http| {
        http.with_idle_timeout(idle).with_hyper(|hyper| {
            hyper.http2().enable_connect_protocol();
        })
    });
    peer.h2(65_535).await;
    peer
}

impl Peer {
    async fn tunnel(&mut self, stream: u32, path: &str) {
        let block = headers(&[
            (":method", "CONNECT"),
            (":protocol", "echo"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", path),
        ]);
        self.send(frame(HEADERS, END_HEADERS, stream, &block)).await;
        let answer = self.frame().await;
        assert_eq!((answer.kind, answer.stream), (HEADERS, stream));
    }

    /// Sends `text` through the tunnel, and receives it.
    async fn echoes(&mut self, stream: u32, text: &[u8]) {
        self.send(frame(DATA, 0, stream, text)).await;
        let echo = self.frame().await;
        assert_eq!(
            (echo.kind, echo.stream, &*echo.payload),
            (DATA, stream, text)
        );
    }

    /// Expects that the connection goes when it has been idle since then.
    async fn goes(&mut self, since: Instant) {
        self.goes_after(BOUND, since).await;
    }

    async fn goes_after(&mut self, idle: Duration, since: Instant) {
        let mut frame = self.frame().await;
        if frame.kind == RST_STREAM {
            frame = self.frame().await;
        }
        assert_eq!(frame.kind, GOAWAY);
        assert_took(since.elapsed(), idle);
        while self.next_frame().await.is_some() {}
        assert_eq!(self.outcome().await, Outcome::Completed);
    }
}

#[test]
fn a_connection_whose_tunnels_have_ended_is_idle_again() {
    paused_scenario(async {
        let mut peer = peer().await;
        for stream in [1, 3] {
            peer.tunnel(stream, "/tunnel").await;
            for _ in 0..3 {
                peer.echoes(stream, b"hello").await;
                // It answers pings, and reads nothing else.
                assert!(timeout(4 * BOUND, peer.frame()).await.is_err());
            }
        }
        peer.send(frame(DATA, 0, 1, b"bye!")).await;
        let end = peer.frame().await;
        assert!(
            end.stream == 1 && (end.ends_stream() || end.kind == RST_STREAM),
            "{end:?}"
        );
        let still = async { while peer.frame().await.kind == RST_STREAM {} };
        assert!(
            timeout(4 * BOUND, still).await.is_err(),
            "the other one lives"
        );
        peer.echoes(3, b"hello").await;
        peer.send(frame(RST_STREAM, 0, 3, &8_u32.to_be_bytes()))
            .await;
        peer.goes(Instant::now()).await;
    });
}

#[test]
fn answers_to_pings_do_not_keep_a_connection_whose_tunnel_has_ended() {
    paused_scenario(async {
        // Longer than between two pings of the server, as by default.
        let idle = seconds(45);
        let mut peer = peer_with(idle).await;
        peer.tunnel(1, "/tunnel").await;
        peer.send(frame(DATA, 0, 1, b"bye!")).await;
        let since = Instant::now();
        let end = peer.frame().await;
        assert!(end.ends_stream() || end.kind == RST_STREAM, "{end:?}");
        peer.goes_after(idle, since).await;
    });
}

#[test]
fn a_tunnel_that_was_refused_leaves_nothing_behind() {
    paused_scenario(async {
        let mut peer = peer().await;
        let since = Instant::now();
        peer.tunnel(1, "/none").await;
        peer.goes(since).await;
    });
}

#[test]
fn a_tunnel_of_which_we_ended_our_side_lives_while_the_client_sends() {
    paused_scenario(async {
        let mut peer = peer().await;
        peer.tunnel(1, "/tunnel").await;
        peer.send(frame(DATA, 0, 1, b"over.")).await;
        assert!(peer.frame().await.ends_stream());
        for _ in 0..5 {
            sleep(BOUND - seconds(1)).await;
            peer.send(frame(DATA, 0, 1, b".")).await;
        }
        let since = Instant::now();
        peer.send(frame(DATA, END_STREAM, 1, b"!")).await;
        peer.goes(since).await;
    });
}

#[test]
fn a_tunnel_that_has_ended_does_not_hold_the_drain() {
    paused_scenario(async {
        let mut peer = peer().await;
        peer.tunnel(1, "/tunnel").await;
        peer.drain.notify();
        peer.drain.close();
        sleep(seconds(20)).await;
        // LayeredConnector the GOAWAY, and the pong that was sent to it.
        while peer.frame().await.kind != GOAWAY {}
        assert!(peer.is_served());
        let begun = Instant::now();
        peer.send(frame(DATA, 0, 1, b"bye!")).await;
        while peer.next_frame().await.is_some() {}
        peer.io.shutdown().await.unwrap();
        assert_eq!(peer.outcome().await, Outcome::Completed);
        assert!(begun.elapsed() < seconds(3), "{:?}", begun.elapsed());
    });
}
