//! Clients that do not read, or slowly.

use crate::{
    GRAIN,
    app::app,
    h2_frames::{DATA, GOAWAY, HEADERS, read_frame},
    peer::{Peer, get},
    seconds,
    support::paused_scenario,
};
use portcullis::{
    middleware::{error::TimeoutPhase, outcome::Outcome},
    service::HttpService,
};
use std::time::Duration;
use tokio::{
    io::AsyncReadExt,
    time::{Instant, sleep, timeout},
};

const BOUND: Duration = seconds(20);

const BIG: usize = 1024 * 1024;

/// With little room between the two.
fn peer() -> Peer {
    let http = HttpService::new(app())
        .with_send_timeout(BOUND)
        .with_idle_timeout(seconds(5));
    Peer::of(http, 1024)
}

#[test]
fn a_response_that_is_never_read_ends_the_connection_at_its_bound() {
    paused_scenario(async {
        for path in ["/big/1048576", "/stream/1024"] {
            let mut peer = peer();
            let begun = Instant::now();
            peer.send(get(path)).await;
            peer.timed_out(TimeoutPhase::WRITE, begun, BOUND).await;
        }
    });
}

/// One `Bytes` of a megabyte is with hyper as a whole at once; the exchange lasts until it was sent.
#[test]
fn a_reader_that_is_slow_and_moves_gets_everything() {
    paused_scenario(async {
        for path in ["/big/1048576", "/stream/1024"] {
            let mut peer = peer();
            peer.send(get(path)).await;
            peer.head().await;
            let mut left = BIG;
            let mut buffer = [0; 100_000];
            while left > 0 {
                sleep(BOUND - GRAIN).await;
                let read = left.min(buffer.len());
                peer.io.read_exact(&mut buffer[..read]).await.unwrap();
                left -= read;
            }
            assert!(peer.is_served());
        }
    });
}

#[test]
fn an_http2_client_that_reads_nothing_is_cut_at_the_bound() {
    paused_scenario(async {
        for path in ["/big/1048576", "/stream/1024"] {
            let mut peer = peer();
            peer.h2(BIG as u32).await;
            let begun = Instant::now();
            peer.h2_get(1, path).await;
            peer.timed_out(TimeoutPhase::WRITE, begun, BOUND).await;
        }
    });
}

#[test]
fn an_http2_client_that_opens_no_window_is_cut_though_it_answers_pings() {
    paused_scenario(async {
        for (path, window) in [
            ("/big/1048576", 100),
            ("/stream/1024", 100),
            ("/big/1048576", 0),
        ] {
            let http = HttpService::new(app())
                .with_send_timeout(BOUND)
                .with_hyper(|hyper| {
                    hyper.http2().keep_alive_interval(seconds(3));
                });
            let mut peer = Peer::of(http, 65_536);
            peer.h2(window).await;
            let begun = Instant::now();
            peer.h2_get(1, path).await;
            while peer.next_frame().await.is_some() {}
            peer.timed_out(TimeoutPhase::WRITE, begun, BOUND).await;
        }
    });
}

#[test]
fn an_http2_client_that_opens_its_window_now_and_then_gets_everything() {
    paused_scenario(async {
        for path in ["/big/102400", "/stream/100"] {
            let http = HttpService::new(app())
                .with_send_timeout(BOUND)
                .with_idle_timeout(seconds(5));
            let mut peer = Peer::of(http, 65_536);
            peer.h2(1000).await;
            peer.h2_get(1, path).await;
            assert_eq!(peer.frame().await.kind, HEADERS);
            let (mut got, mut ended) = (0, false);
            while !ended {
                match timeout(BOUND - GRAIN, peer.frame()).await {
                    Ok(frame) => {
                        assert_eq!(frame.kind, DATA, "{frame:?}");
                        got += frame.payload.len();
                        ended = frame.ends_stream();
                    }
                    Err(_) => peer.h2_window(1, 10_000).await,
                }
            }
            assert_eq!(got, 102_400);
        }
    });
}

#[test]
fn slow_readers_get_everything_although_the_server_ends() {
    paused_scenario(async {
        let mut peer = peer();
        peer.send(get("/big/1048576")).await;
        sleep(GRAIN).await;
        peer.drain.notify();
        peer.drain.close();
        peer.head().await;
        let mut left = BIG;
        let mut buffer = [0; 100_000];
        while left > 0 {
            sleep(seconds(10)).await;
            let read = left.min(buffer.len());
            peer.io.read_exact(&mut buffer[..read]).await.unwrap();
            left -= read;
        }
        assert!(peer.rest().await.is_empty());
        assert_eq!(peer.outcome().await, Outcome::Completed);
    });
}

#[test]
fn slow_readers_of_http2_get_everything_although_the_server_ends() {
    paused_scenario(async {
        let http = HttpService::new(app()).with_send_timeout(BOUND);
        let mut peer = Peer::of(http, 65_536);
        peer.h2(1000).await;
        peer.h2_get(1, "/big/100000").await;
        sleep(GRAIN).await;
        peer.drain.notify();
        peer.drain.close();
        let (mut got, mut ended, mut told) = (0, false, 0);
        while !ended {
            match timeout(seconds(10), peer.frame()).await {
                Ok(frame) => {
                    told += usize::from(frame.kind == GOAWAY);
                    if frame.kind == DATA {
                        got += frame.payload.len();
                    }
                    ended = frame.ends_stream();
                }
                Err(_) => peer.h2_window(1, 10_000).await,
            }
        }
        assert_eq!((got, told), (100_000, 2));
        while read_frame(&mut peer.io).await.is_some() {}
        assert_eq!(peer.outcome().await, Outcome::Completed);
    });
}
