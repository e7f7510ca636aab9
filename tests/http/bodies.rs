//! How slow the body of a request may come.

use crate::{
    GRAIN,
    h2_frames::{DATA, END_STREAM, GOAWAY, HEADERS, RST_STREAM, frame, headers, request},
    millis,
    peer::{Peer, assert_took, upload},
    seconds,
    support::paused_scenario,
};
use portcullis::service::http::{BodyRate, phase};
use tokio::time::{Instant, sleep};

/// 240 bytes a second after 10 s, as by default.
fn peer() -> Peer {
    Peer::with(|http| http.with_body_rate(BodyRate::new(240, seconds(10))))
}

#[test]
fn a_byte_now_and_then_is_cut_soon_after_the_grace_and_the_answer_arrives() {
    paused_scenario(async {
        let mut peer = peer();
        peer.send(upload("/length", 1000)).await;
        let begun = Instant::now();
        for _ in 0..10 {
            sleep(seconds(1) - GRAIN).await;
            peer.send("x").await;
        }
        let answer = peer.answer().await;
        assert_eq!(answer.status(), 408, "{answer:?}");
        assert!(
            answer.body.starts_with("request body timed out after 10."),
            "{answer:?}"
        );
        // 10 s, and what ten bytes earned.
        assert_took(begun.elapsed(), seconds(10) + millis(41));
        assert!(peer.rest().await.is_empty(), "the connection ends");
    });
}

#[test]
fn a_body_just_above_the_rate_lives() {
    paused_scenario(async {
        let mut peer = peer();
        peer.send(upload("/length", 240 * 120)).await;
        for _ in 0..120 {
            sleep(seconds(1)).await;
            peer.send([b'x'; 240]).await;
        }
        assert_eq!(peer.answer().await.body, (240 * 120).to_string());
        assert_eq!(peer.get("/").await.body, "hello");
    });
}

#[test]
fn a_handler_that_does_not_ask_costs_the_client_nothing() {
    paused_scenario(async {
        let mut peer = peer();
        peer.send(upload("/patient/60000", 10)).await;
        peer.send("12345").await;
        sleep(seconds(69)).await;
        peer.send("67890").await;
        assert_eq!(peer.answer().await.body, "10");
    });
}

#[test]
fn a_body_over_http2_is_held_to_the_rate_too() {
    paused_scenario(async {
        let mut peer = peer();
        peer.h2(65_535).await;
        let begun = Instant::now();
        peer.send(request(1, "POST", "/length", 0)).await;
        peer.h2_get(3, "/sleep/30000").await;
        let answer = peer.frame().await;
        assert_eq!((answer.kind, answer.stream), (HEADERS, 1));
        assert_took(begun.elapsed(), seconds(10));
        let text = peer.h2_answer(1).await;
        assert_eq!(text, b"request body timed out after 10s");
        // The other stream lives on.
        let mut reset = false;
        loop {
            let frame = peer.frame().await;
            reset |= frame.kind == RST_STREAM && frame.stream == 1;
            if frame.stream == 3 && frame.ends_stream() {
                break;
            }
        }
        assert!(reset, "the body is not waited for any more");
    });
}

/// An upload over HTTP/2 of a byte each twenty seconds.
async fn slow_messages(mut peer: Peer, content_type: &str) -> Vec<u8> {
    peer.h2(65_535).await;
    let block = headers(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/length"),
        ("content-type", content_type),
    ]);
    peer.send(frame(HEADERS, 4, 1, &block)).await;
    for _ in 0..6 {
        // Answers pings meanwhile.
        let answer = tokio::time::timeout(seconds(20), peer.frame()).await;
        if answer.is_ok() {
            return peer.h2_answer(1).await;
        }
        peer.send(frame(DATA, 0, 1, b"x")).await;
    }
    peer.send(frame(DATA, END_STREAM, 1, b"")).await;
    peer.h2_answer(1).await
}

#[test]
fn messages_of_streaming_calls_have_a_pace_of_their_own_where_there_are_such_calls() {
    paused_scenario(async {
        let streaming = || Peer::with(|http| http.with_streaming_calls());
        for named in [
            "application/grpc",
            "application/grpc+proto",
            "application/connect+json",
        ] {
            assert_eq!(slow_messages(streaming(), named).await, b"6", "{named}");
            let answer = slow_messages(peer(), named).await;
            assert!(answer.starts_with(b"request body timed out"), "{named}");
        }
        for named in [
            "application/grpcX",
            "application/grpc-web+proto",
            "text/plain",
        ] {
            let answer = slow_messages(streaming(), named).await;
            assert!(answer.starts_with(b"request body timed out"), "{named}");
        }
    });
}

#[test]
fn a_request_of_http1_is_no_streaming_call() {
    paused_scenario(async {
        let mut peer = Peer::with(|http| http.with_streaming_calls());
        let begun = Instant::now();
        peer.send(
            "POST /length HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\n\
             content-length: 1000\r\n\r\n",
        )
        .await;
        assert_eq!(peer.answer().await.status(), 408);
        assert_took(begun.elapsed(), seconds(10));
    });
}

#[test]
fn a_body_that_was_read_to_its_end_counts_as_read_although_it_is_held() {
    paused_scenario(async {
        let chunked = "POST /hoarder HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
                       5\r\n12345\r\n0\r\n\r\n";
        let length = upload("/hoarder", 5) + "12345";
        for request in [&length, chunked] {
            let peer = async || {
                let mut peer = Peer::with(|http| http);
                peer.send(request).await;
                assert_eq!(peer.answer().await.body, "5");
                (peer, Instant::now())
            };
            let (mut idle, since) = peer().await;
            assert!(idle.rest().await.is_empty());
            assert_took(since.elapsed(), seconds(75));

            let (mut head, since) = peer().await;
            head.send("GET /").await;
            head.timed_out(phase::REQUEST_HEAD, since, seconds(30))
                .await;

            let (mut drained, since) = peer().await;
            drained.drain.close();
            assert!(drained.rest().await.is_empty());
            assert_took(since.elapsed(), millis(500));
            sleep(seconds(100)).await;
        }
    });
}

#[test]
fn a_body_over_http2_that_is_held_after_its_end_keeps_no_connection() {
    paused_scenario(async {
        let mut peer = Peer::with(|http| http.with_idle_timeout(seconds(20)));
        peer.h2(65_535).await;
        peer.send(request(1, "POST", "/hoarder", 0)).await;
        peer.send(frame(DATA, END_STREAM, 1, b"12345")).await;
        assert_eq!(peer.h2_answer(1).await, b"5");
        let since = Instant::now();
        assert_eq!(peer.frame().await.kind, GOAWAY);
        assert_took(since.elapsed(), seconds(20));
        while peer.next_frame().await.is_some() {}
        sleep(seconds(100)).await;
    });
}

#[test]
fn a_body_that_is_read_after_its_answer_is_no_head_and_no_idleness() {
    paused_scenario(async {
        let mut peer = Peer::with(|http| {
            http.with_idle_timeout(seconds(5))
                .with_head_timeout(seconds(5))
                .with_body_rate(None)
        });
        peer.send(upload("/background", 10)).await;
        assert_eq!(peer.answer().await.status(), 202);
        for _ in 0..10 {
            sleep(seconds(6)).await;
            peer.send("x").await;
        }
        assert_eq!(peer.get("/").await.body, "hello");
    });
}

/// A handler that asks, does something else for long, and asks again has not waited all the while.
#[test]
fn a_handler_that_turned_away_while_it_waited_did_not_wait() {
    paused_scenario(async {
        let mut peer = peer();
        peer.send(upload("/distracted", 10)).await;
        sleep(seconds(1)).await;
        peer.send("12345").await;
        sleep(seconds(60)).await;
        peer.send("67890").await;
        assert_eq!(peer.answer().await.body, "10");
    });
}

#[test]
fn a_grace_without_end_never_ends() {
    paused_scenario(async {
        let rate = BodyRate::new(240, std::time::Duration::MAX);
        let mut peer = Peer::with(|http| http.with_body_rate(rate));
        peer.send(upload("/length", 10)).await;
        for _ in 0..10 {
            sleep(seconds(50)).await;
            peer.send("x").await;
        }
        assert_eq!(peer.answer().await.body, "10");
    });
}
