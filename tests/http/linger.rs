//! Responses to clients that are still sending, and clients that do not leave.

use crate::{
    app::app,
    millis,
    peer::{Peer, assert_took, upload},
    seconds,
    support::{Fixture, paused_scenario, scenario},
};
use portcullis::{
    ServiceBuilderExt, connection::Linger, middleware::outcome::Outcome, service::HttpService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep},
};
use tower::ServiceBuilder;

const SIZE: usize = 5_000_000;

#[test]
fn a_413_arrives_although_five_megabytes_follow() {
    scenario(async {
        let stack = ServiceBuilder::new()
            .peer_addr()
            .service(HttpService::new(app()));
        let server = Fixture::serve(stack);
        for _ in 0..10 {
            let mut client = server.connect().await;
            client
                .write_all(upload("/early", SIZE).as_bytes())
                .await
                .unwrap();
            client.write_all(&vec![b'x'; SIZE]).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        }
        server.finish().await;
    });
}

#[test]
fn a_slow_upload_that_was_answered_early_may_go_on_for_thirty_seconds_and_no_longer() {
    const PART: usize = 1000;
    paused_scenario(async {
        for (parts, completes) in [(290, true), (310, false)] {
            let mut peer = Peer::with(|http| {
                // Neither has a say in it.
                http.with_idle_timeout(seconds(1))
                    .with_head_timeout(seconds(1))
            });
            peer.send(upload("/early", parts * PART)).await;
            let begun = Instant::now();
            assert_eq!(peer.answer().await.status(), 413);
            let mut sent = 0;
            for _ in 0..parts {
                sleep(millis(100)).await;
                sent += usize::from(peer.io.write_all(&[b'x'; PART]).await.is_ok());
            }
            assert_eq!(sent == parts, completes, "{sent} of {parts}");
            peer.io.shutdown().await.unwrap();
            let (result, at) = peer.ended().await;
            result.unwrap();
            let longest = if completes { 29 } else { 30 };
            assert_took(at - begun, seconds(longest));
        }
    });
}

#[test]
fn a_client_that_stays_is_waited_for_as_long_as_the_setting_says() {
    paused_scenario(async {
        for (linger, expected) in [
            (None, 5),
            (Some(Linger::new().with_idle_timeout(seconds(7))), 7),
            (Some(Linger::new().with_timeout(seconds(2))), 2),
        ] {
            let mut peer = Peer::with(|http| match linger {
                None => http,
                Some(linger) => http.with_linger(linger),
            });
            let begun = Instant::now();
            peer.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                .await;
            assert!(peer.rest().await.ends_with(b"hello"));
            let (result, at) = peer.ended().await;
            result.unwrap();
            assert_took(at - begun, seconds(expected));
        }
    });
}

#[test]
fn an_idle_client_that_was_silent_for_long_enough_is_not_waited_for_once_more() {
    paused_scenario(async {
        for (idle, lingers) in [(seconds(3), seconds(5)), (seconds(5), seconds(0))] {
            let mut peer = Peer::with(|http| http);
            assert_eq!(peer.get("/").await.status(), 200);
            sleep(idle).await;
            let begun = Instant::now();
            peer.drain.close();
            let (result, at) = peer.ended().await;
            result.unwrap();
            assert_took(at - begun, millis(500) + lingers);
        }
    });
}

/// hyper answers it, and lets it end in order.
#[test]
fn the_answer_to_a_bad_request_arrives_at_a_client_that_goes_on() {
    paused_scenario(async {
        let mut peer = Peer::with(|http| http.with_head_timeout(seconds(1)));
        peer.send("nonsense\r\n\r\n").await;
        for _ in 0..4 {
            sleep(seconds(4)).await;
            peer.send([b'x'; 5000]).await;
        }
        peer.io.shutdown().await.unwrap();
        assert!(peer.rest().await.starts_with(b"HTTP/1.1 400"));
        assert!(!matches!(peer.outcome().await, Outcome::TimedOut(_)));
    });
}
