//! Both sides of each bound on what a client may wait with. Time stands still, so they are exact.

use crate::{
    GRAIN,
    h2_frames::{GOAWAY, PREFACE, read_frame},
    millis,
    peer::{Peer, assert_took, get},
    seconds,
    support::paused_scenario,
};
use portcullis::{middleware::outcome::Outcome, service::http::phase};
use std::time::Duration;
use tokio::{
    io::AsyncReadExt,
    time::{Instant, sleep},
};

const BOUND: Duration = seconds(10);

#[test]
fn a_client_may_take_its_time_to_the_first_byte_and_no_longer() {
    paused_scenario(async {
        let begun = Instant::now();
        let mut late = Peer::with(|http| http.with_first_byte_timeout(BOUND));
        let mut silent = Peer::with(|http| http.with_first_byte_timeout(BOUND));
        sleep(BOUND - GRAIN).await;
        assert_eq!(late.get("/").await.body, "hello");
        silent.timed_out(phase::FIRST_BYTE, begun, BOUND).await;
        assert!(silent.rest().await.is_empty());
        assert!(late.is_served());
    });
}

#[test]
fn a_head_may_take_its_bound_from_its_first_byte_however_it_is_cut() {
    paused_scenario(async {
        for first in [
            &b"G"[..],
            b"P",
            b"PRI * HTTP/2.0",
            &PREFACE[..23],
            b"GET / HTTP/1.1\r\nhost: a",
        ] {
            let mut peer = Peer::with(|http| http.with_head_timeout(BOUND));
            // The bound before the first byte is another one.
            sleep(seconds(5)).await;
            let begun = Instant::now();
            peer.send(first).await;
            peer.timed_out(phase::REQUEST_HEAD, begun, BOUND).await;
        }
        let mut peer = Peer::with(|http| http.with_head_timeout(BOUND));
        for _ in 0..2 {
            peer.send("GET / HTTP/1.1\r\n").await;
            sleep(BOUND - GRAIN).await;
            peer.send("host: a\r\n\r\n").await;
            assert_eq!(peer.answer().await.body, "hello");
        }
    });
}

#[test]
fn a_byte_a_second_does_not_prolong_a_head() {
    paused_scenario(async {
        for requests in 0..3 {
            let mut peer = Peer::with(|http| http.with_head_timeout(BOUND));
            for _ in 0..requests {
                assert_eq!(peer.get("/").await.body, "hello");
                sleep(seconds(3)).await;
            }
            let begun = Instant::now();
            for byte in get("/a/long/path").bytes().take(10) {
                peer.send([byte]).await;
                sleep(seconds(1) - GRAIN).await;
            }
            peer.timed_out(phase::REQUEST_HEAD, begun, BOUND).await;
        }
    });
}

#[test]
fn an_idle_connection_ends_politely_at_its_bound() {
    paused_scenario(async {
        let mut peer = Peer::with(|http| http.with_idle_timeout(BOUND));
        for _ in 0..3 {
            // Each request begins the time anew, and a slow handler is not idle.
            assert_eq!(peer.get("/sleep/25000").await.body, "slept");
            sleep(BOUND - GRAIN).await;
        }
        assert_eq!(peer.get("/").await.body, "hello");
        let begun = Instant::now();
        assert!(peer.rest().await.is_empty(), "an end, and no error");
        assert_took(begun.elapsed(), BOUND);
        drop(peer.io);
    });
}

#[test]
fn an_idle_http2_connection_is_told_to_go_away_at_its_bound() {
    paused_scenario(async {
        let mut peer = Peer::with(|http| http.with_idle_timeout(BOUND));
        peer.h2(65_535).await;
        for stream in [1, 3, 5] {
            peer.h2_get(stream, "/sleep/25000").await;
            assert_eq!(peer.h2_answer(stream).await, b"slept");
            if stream < 5 {
                sleep(BOUND - GRAIN).await;
            }
        }
        let begun = Instant::now();
        assert_eq!(peer.frame().await.kind, GOAWAY);
        assert_took(begun.elapsed(), BOUND);
        assert_eq!(peer.frame().await.kind, GOAWAY);
        assert!(peer.next_frame().await.is_none());
        let (result, at) = peer.ended().await;
        result.unwrap();
        // It stays, and was silent for longer than a linger would wait.
        assert_took(at - begun, BOUND);
    });
}

#[test]
fn an_http2_client_that_never_asks_for_anything_is_idle() {
    paused_scenario(async {
        let begun = Instant::now();
        let mut peer = Peer::with(|http| http.with_idle_timeout(BOUND));
        peer.h2(65_535).await;
        assert_eq!(peer.frame().await.kind, GOAWAY);
        assert_took(begun.elapsed(), BOUND);
        while peer.next_frame().await.is_some() {}
        assert_eq!(peer.outcome().await, Outcome::Completed);
    });
}

#[test]
fn an_http2_client_that_came_late_has_all_the_time_to_ask() {
    paused_scenario(async {
        let mut peer = Peer::with(|http| http.with_idle_timeout(BOUND));
        sleep(2 * BOUND).await;
        let begun = Instant::now();
        peer.h2(65_535).await;
        assert_eq!(peer.frame().await.kind, GOAWAY);
        assert_took(begun.elapsed(), BOUND);
        while peer.next_frame().await.is_some() {}
    });
}

#[test]
fn an_http2_client_that_does_not_answer_the_good_bye_is_left() {
    paused_scenario(async {
        let begun = Instant::now();
        let mut peer = Peer::with(|http| http.with_idle_timeout(BOUND));
        peer.send(crate::h2_frames::hello(65_535)).await;
        // It reads, and says nothing more.
        while read_frame(&mut peer.io).await.is_some() {}
        assert!(
            begun.elapsed() <= BOUND + seconds(3),
            "{:?}",
            begun.elapsed()
        );
        peer.ended().await.0.unwrap();
    });
}

#[test]
fn a_dead_http2_peer_is_cut_by_pings() {
    paused_scenario(async {
        let begun = Instant::now();
        let mut peer = Peer::with(|http| http);
        peer.h2(65_535).await;
        peer.h2_get(1, "/sleep/300000").await;
        // 30 s until the ping, 20 s for its answer.
        sleep(seconds(49)).await;
        assert!(peer.is_served());
        assert_eq!(peer.outcome().await, Outcome::Disconnected);
        // It is lingered for, as any other.
        assert!(begun.elapsed() <= seconds(56), "{:?}", begun.elapsed());
    });
}

#[test]
fn hyper_s_own_bound_on_a_head_can_be_set() {
    paused_scenario(async {
        let mut peer = Peer::with(|http| {
            http.with_hyper(|hyper| {
                hyper.http1().header_read_timeout(seconds(5));
            })
        });
        assert_eq!(peer.get("/").await.body, "hello");
        let begun = Instant::now();
        peer.send("GET /").await;
        assert_eq!(peer.outcome().await, Outcome::Disconnected);
        assert!(begun.elapsed() < seconds(6));
    });
}

#[test]
fn none_turns_each_bound_off() {
    paused_scenario(async {
        let endless = |http: portcullis::service::HttpService<_>| {
            http.with_first_byte_timeout(None)
                .with_head_timeout(None)
                .with_idle_timeout(None)
                .with_body_rate(None)
                .with_hyper(|hyper| {
                    hyper.http2().keep_alive_interval(None);
                })
        };
        let (mut h1, mut h2) = (Peer::with(endless), Peer::with(endless));
        sleep(seconds(140)).await;
        h1.send("GET / HTTP/1.1\r\n").await;
        h2.send(&PREFACE[..5]).await;
        sleep(seconds(140)).await;
        h1.send("host: a\r\n\r\n").await;
        assert_eq!(h1.answer().await.body, "hello");
        h2.send(&crate::h2_frames::hello(65_535)[5..]).await;
        sleep(seconds(140)).await;
        h1.send("POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nx")
            .await;
        h2.h2_get(1, "/").await;
        assert_eq!(h2.h2_answer(1).await, b"hello");
        sleep(seconds(140)).await;
        h1.send("x").await;
        assert_eq!(h1.answer().await.body, "2");
        h2.h2_get(3, "/").await;
        assert_eq!(h2.h2_answer(3).await, b"hello");
    });
}

/// tokio lets a task do so much at a time. Timers begun when that is used up count all the same.
#[test]
fn a_flood_of_work_takes_no_bound_away() {
    paused_scenario(async {
        for drains in [false, true] {
            let mut peer = Peer::with(|http| http.with_idle_timeout(BOUND));
            peer.send(get("/queue/1000")).await;
            peer.head().await;
            let mut body = Vec::new();
            while !body.ends_with(b"0\r\n\r\n") {
                body.push(peer.io.read_u8().await.unwrap());
            }
            let begun = Instant::now();
            if drains {
                peer.drain.close();
            }
            assert!(peer.rest().await.is_empty());
            assert_took(begun.elapsed(), if drains { millis(500) } else { BOUND });
            drop(peer.io);
        }
    });
}

/// A keeper that spins while a handler works would stop the clock of this test: hence the watch.
#[test]
fn bounds_of_zero_end_connections_and_do_not_spin() {
    let (done, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        paused_scenario(async {
            let none = Duration::ZERO;
            let zero =
                || Peer::with(|http| http.with_idle_timeout(none).with_idle_grace_period(none));
            let mut peer = zero();
            assert_eq!(peer.get("/sleep/5000").await.body, "slept");
            assert!(peer.rest().await.is_empty());

            let mut peer = zero();
            peer.send(get("/sleep/5000")).await;
            sleep(millis(10)).await;
            peer.drain.close();
            assert_eq!(peer.answer().await.body, "slept");
            assert!(peer.rest().await.is_empty());
        });
        done.send(()).unwrap();
    });
    end.recv_timeout(seconds(20)).expect("it spins");
}
