//! The stages of the end, on one connection, with time that stands still.

use crate::{
    GRAIN,
    app::app,
    h2_frames::{END_STREAM, GOAWAY, HEADERS, PREFACE, hello, request},
    millis,
    peer::{Peer, assert_took, get},
    seconds,
    support::paused_scenario,
};
use portcullis::{
    middleware::{
        drain::DrainStage,
        error::{Elapsed, TimeoutPhase, find},
        outcome::Outcome,
        timeout::ConnectionTimeoutLayer,
    },
    service::HttpService,
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};
use tower::Layer;

const IDLE_GRACE_PERIOD: Duration = millis(500);

fn peer() -> Peer {
    Peer::with(|http| http)
}

#[test]
fn announced_an_idle_connection_stays_usable_and_learns_of_the_end() {
    paused_scenario(async {
        let mut peer = peer();
        assert!(!peer.get("/").await.closes());
        peer.drain.notify();
        sleep(seconds(20)).await;
        let answer = peer.get("/").await;
        assert!(answer.closes() && answer.body == "hello", "{answer:?}");
        assert!(peer.rest().await.is_empty());
        drop(peer.io);
        assert_eq!(peer.info.drain_stage(), DrainStage::Notified);
    });
}

#[test]
fn a_request_in_flight_at_the_announcement_is_answered_with_close() {
    paused_scenario(async {
        let mut peer = peer();
        peer.send(get("/sleep/20000")).await;
        sleep(seconds(1)).await;
        peer.drain.notify();
        peer.drain.close();
        let answer = peer.answer().await;
        assert!(answer.closes() && answer.body == "slept", "{answer:?}");
        drop(peer.rest().await);
    });
}

#[test]
fn closing_an_idle_connection_has_a_last_call() {
    paused_scenario(async {
        let mut late = peer();
        let mut idle = peer();
        let fresh = peer();
        let mut fresh_late = peer();
        assert!(!late.get("/").await.closes());
        assert!(!idle.get("/").await.closes());
        late.drain.close();
        idle.drain.close();
        fresh.drain.close();
        fresh_late.drain.close();
        let begun = Instant::now();
        sleep(IDLE_GRACE_PERIOD - GRAIN).await;
        let answer = late.get("/").await;
        assert!(answer.closes() && answer.body == "hello", "{answer:?}");
        let answer = fresh_late.get("/").await;
        assert!(answer.closes() && answer.body == "hello", "{answer:?}");
        for mut peer in [idle, fresh] {
            assert!(peer.rest().await.is_empty());
            assert_took(begun.elapsed(), IDLE_GRACE_PERIOD);
            drop(peer.io);
        }
    });
}

#[test]
fn at_the_end_of_its_lifetime_a_connection_shuts_down_gracefully() {
    paused_scenario(async {
        let layer = ConnectionTimeoutLayer::new()
            .with_max_lifetime(seconds(5))
            .with_lifetime_grace(seconds(20));
        let peer = || Peer::of(layer.layer(HttpService::new(app())), 64 * 1024);
        let mut first = peer();
        let [mut busy, mut idle, mut stubborn] = [peer(), peer(), peer()];
        sleep(seconds(5) - GRAIN).await;
        assert!(!first.get("/").await.closes());
        let begun = Instant::now();
        stubborn.send(get("/sleep/60000")).await;
        sleep(2 * GRAIN).await;
        assert!(idle.info.is_draining());
        // A request after the notice, and one that takes longer than half of the grace period.
        assert!(first.get("/").await.closes());
        busy.send(get("/sleep/15000")).await;
        let answer = busy.answer().await;
        assert!(answer.closes() && answer.body == "slept", "{answer:?}");
        for mut peer in [first, busy] {
            assert!(peer.rest().await.is_empty());
            drop(peer.io.shutdown().await);
            assert_eq!(peer.outcome().await, Outcome::Completed);
        }
        // An idle connection closes in the second half.
        assert!(idle.rest().await.is_empty());
        let (result, at) = idle.ended().await;
        result.unwrap();
        assert!(at < begun + seconds(11), "{:?}", at - begun);
        let lifetime = TimeoutPhase::LIFETIME;
        let (result, at) = stubborn.ended().await;
        let error = result.unwrap_err();
        let elapsed = find::<Elapsed>(&*error).map(|elapsed| (elapsed.phase(), elapsed.after()));
        assert_eq!(elapsed, Some((lifetime, seconds(5))));
        assert_took(at - begun, seconds(20) + GRAIN);
    });
}

#[test]
fn a_fresh_connection_is_served_at_each_stage_until_its_last_call() {
    paused_scenario(async {
        for part in [&b""[..], b"G", b"GET / HTTP/1.1\r\nho"] {
            for closing in [false, true] {
                let mut peer = peer();
                peer.send(part).await;
                sleep(GRAIN).await;
                peer.drain.notify();
                if closing {
                    peer.drain.close();
                }
                sleep(IDLE_GRACE_PERIOD - GRAIN).await;
                let all = get("/");
                peer.send(&all[part.len()..]).await;
                let answer = peer.answer().await;
                assert!(answer.closes() && answer.body == "hello", "{answer:?}");
                peer.io.shutdown().await.unwrap();
                assert_eq!(peer.outcome().await, Outcome::Completed);
            }
        }
        for part in [0, 1, 12, 23, 24, 30] {
            for closing in [false, true] {
                let mut peer = peer();
                let all = [hello(65_535), request(1, "GET", "/", END_STREAM)].concat();
                peer.send(&all[..part]).await;
                sleep(GRAIN).await;
                peer.drain.notify();
                if closing {
                    peer.drain.close();
                }
                sleep(IDLE_GRACE_PERIOD - GRAIN).await;
                peer.send(&all[part..]).await;
                assert_eq!(peer.h2_answer(1).await, b"hello", "{part} {closing}");
                while peer.next_frame().await.is_some() {}
                assert_eq!(peer.outcome().await, Outcome::Completed);
            }
        }
    });
}

#[test]
fn a_part_of_a_head_is_waited_for_as_long_as_heads_are() {
    paused_scenario(async {
        let mut peer = peer();
        peer.send(&PREFACE[..4]).await;
        peer.drain.notify();
        peer.drain.close();
        sleep(seconds(29)).await;
        assert!(peer.is_served());
        sleep(seconds(2)).await;
        assert!(!peer.is_served());
    });
}

#[test]
fn http2_is_told_to_go_away_and_streams_in_flight_or_on_their_way_are_served() {
    paused_scenario(async {
        let mut peer = peer();
        peer.h2(65_535).await;
        peer.h2_get(1, "/sleep/20000").await;
        sleep(seconds(1)).await;
        peer.drain.notify();
        sleep(GRAIN).await;
        // Sent before the client has seen any of it.
        peer.h2_get(3, "/").await;
        let first = peer.frame().await;
        assert_eq!((first.kind, first.last_stream()), (GOAWAY, i32::MAX as u32));
        let (mut third, mut second) = (false, None);
        while !third || second.is_none() {
            let frame = peer.frame().await;
            third |= frame.stream == 3 && frame.ends_stream();
            if frame.kind == GOAWAY {
                second = Some(frame.last_stream());
            }
        }
        assert_eq!(second, Some(3));
        peer.drain.close();
        assert_eq!(peer.h2_answer(1).await, b"slept");
        assert!(peer.next_frame().await.is_none());
        assert_eq!(peer.outcome().await, Outcome::Completed);
    });
}

#[test]
fn an_http2_connection_without_a_request_is_asked_to_go_only_when_the_server_closes() {
    paused_scenario(async {
        let mut used = peer();
        let mut unused = peer();
        for peer in [&mut used, &mut unused] {
            peer.h2(65_535).await;
            peer.drain.notify();
            assert!(timeout(seconds(20), peer.frame()).await.is_err());
        }
        used.h2_get(1, "/").await;
        assert_eq!(used.h2_answer(1).await, b"hello");
        assert_eq!(used.frame().await.kind, GOAWAY);
        unused.drain.close();
        let begun = Instant::now();
        assert_eq!(unused.frame().await.kind, GOAWAY);
        assert_took(begun.elapsed(), IDLE_GRACE_PERIOD);
        for mut peer in [used, unused] {
            while peer.next_frame().await.is_some() {}
            assert_eq!(peer.outcome().await, Outcome::Completed);
        }
    });
}

#[test]
fn a_switch_of_protocols_says_nothing_of_an_end() {
    paused_scenario(async {
        let mut peer = peer();
        peer.drain.notify();
        peer.send("GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
            .await;
        let head = peer.head().await;
        assert!(
            head.contains("connection: upgrade\r\n") && !head.contains("close"),
            "{head}"
        );
        peer.drain.close();
        sleep(seconds(60)).await;
        peer.send("hello").await;
        let mut echo = [0; 5];
        peer.io.read_exact(&mut echo).await.unwrap();
        peer.io.shutdown().await.unwrap();
        assert!(peer.rest().await.is_empty());
    });
}

/// After a `connection: close` nothing more is served (RFC 9112, 9.6): who pipelines repeats the rest.
#[test]
fn of_pipelined_requests_the_first_after_the_announcement_is_the_last() {
    paused_scenario(async {
        let mut peer = peer();
        peer.drain.notify();
        sleep(GRAIN).await;
        peer.send(get("/").repeat(3)).await;
        let answer = peer.answer().await;
        assert!(answer.closes() && answer.body == "hello", "{answer:?}");
        assert!(peer.rest().await.is_empty());
    });
}

#[test]
fn pipelined_requests_before_the_announcement_are_answered_in_order() {
    paused_scenario(async {
        let mut peer = peer();
        peer.send(format!("{}{}", get("/sleep/1000"), get("/")))
            .await;
        assert_eq!(peer.answer().await.body, "slept");
        assert_eq!(peer.answer().await.body, "hello");
    });
}

#[test]
fn a_client_that_ends_its_side_gets_its_answer_where_hyper_is_told_to_allow_it() {
    paused_scenario(async {
        let mut peer = Peer::with(|http| {
            http.with_hyper(|hyper| {
                hyper.http1().half_close(true);
            })
        });
        peer.send(get("/sleep/20000")).await;
        peer.io.shutdown().await.unwrap();
        sleep(seconds(1)).await;
        peer.drain.notify();
        peer.drain.close();
        let answer = peer.answer().await;
        assert!(answer.closes() && answer.body == "slept", "{answer:?}");
        assert!(peer.rest().await.is_empty());
        // By default such a client has gone, and its handler is spared.
        let mut peer = self::peer();
        peer.send(get("/sleep/20000")).await;
        peer.io.shutdown().await.unwrap();
        let begun = Instant::now();
        assert_eq!(peer.outcome().await, Outcome::Disconnected);
        assert!(begun.elapsed() < seconds(1));
    });
}

#[test]
fn an_http2_stream_that_the_client_opens_after_the_good_bye_is_not_half_served() {
    paused_scenario(async {
        let mut peer = peer();
        peer.h2(65_535).await;
        peer.h2_get(1, "/sleep/1000").await;
        peer.drain.notify();
        let mut last = u32::MAX;
        for _ in 0..2 {
            let frame = peer.frame().await;
            assert_eq!(frame.kind, GOAWAY);
            last = frame.last_stream();
        }
        assert_eq!(last, 1);
        peer.h2_get(3, "/").await;
        let mut answered = Vec::new();
        while let Some(frame) = peer.next_frame().await {
            if frame.kind == HEADERS {
                answered.push(frame.stream);
            }
        }
        assert_eq!(answered, [1]);
    });
}
