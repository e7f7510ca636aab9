//! Clients that are slow, or do nothing at all. Time stands still, so bounds are exact.

use super::{ANSWER, ECHO, Gate, act, seconds};
use crate::support::{echoed, idle, paused_scenario};
use portcullis::middleware::{error::TimeoutPhase, outcome::Outcome, timeout::IoTimeoutLayer};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep},
};

const BOUND: Duration = seconds(10);

fn gate() -> Gate {
    let timeout = IoTimeoutLayer::new()
        .with_read_timeout(BOUND)
        .with_write_timeout(BOUND);
    Gate {
        timeout,
        ..Gate::new()
    }
}

/// A millisecond, the grain of tokio's timers.
const GRAIN: Duration = Duration::from_millis(1);

#[test]
fn a_client_that_says_nothing_is_cut_at_the_read_bound_and_not_before() {
    paused_scenario(async {
        let scene = gate().serve_in_memory(act);
        scene.good().await;
        let begun = Instant::now();
        let mut silent = scene.connect().await;
        let late = scene.connect().await;
        sleep(BOUND - GRAIN).await;
        scene.good().await;
        assert_eq!(scene.handle.status().active, 2);
        scene.good_over(late).await;
        assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
        let took = begun.elapsed();
        assert!((BOUND..=BOUND + GRAIN).contains(&took), "{took:?}");
        scene.good().await;
        let timed_out = Outcome::TimedOut(TimeoutPhase::READ);
        scene.finish([(timed_out, 1)]).await;
    });
}

#[test]
fn a_client_that_falls_silent_later_is_cut_as_long_after_its_last_byte() {
    paused_scenario(async {
        let scene = gate().serve_in_memory(act);
        let mut client = scene.connect().await;
        client.write_all(&[ECHO]).await.unwrap();
        for _ in 0..3 {
            sleep(BOUND / 2).await;
            assert!(echoed(&mut client, b"x").await.unwrap());
        }
        let begun = Instant::now();
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        let took = begun.elapsed();
        assert!((BOUND..=BOUND + GRAIN).contains(&took), "{took:?}");
        let timed_out = Outcome::TimedOut(TimeoutPhase::READ);
        scene.finish([(timed_out, 1)]).await;
    });
}

#[test]
fn a_client_that_never_reads_is_cut_at_the_write_bound() {
    paused_scenario(async {
        let scene = gate().serve_in_memory(act);
        let begun = Instant::now();
        let mut client = scene.connect().await;
        client.write_all(&[ANSWER]).await.unwrap();
        sleep(BOUND - GRAIN).await;
        scene.good().await;
        assert_eq!(scene.handle.status().active, 1);
        idle(&scene.handle).await;
        let took = begun.elapsed();
        // `idle` looks every 2 ms.
        assert!((BOUND..=BOUND + 5 * GRAIN).contains(&took), "{took:?}");
        drop(client);
        let timed_out = Outcome::TimedOut(TimeoutPhase::WRITE);
        scene.finish([(timed_out, 1)]).await;
    });
}

#[test]
fn a_client_that_sends_a_byte_a_second_is_served() {
    paused_scenario(async {
        let scene = gate().serve_in_memory(act);
        let begun = Instant::now();
        let mut client = scene.connect().await;
        client.write_all(&[ECHO]).await.unwrap();
        for byte in 0..60 {
            sleep(seconds(1)).await;
            assert!(echoed(&mut client, &[byte]).await.unwrap());
        }
        assert!(begun.elapsed() > 5 * BOUND);
        client.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        scene.finish([(Outcome::Completed, 1)]).await;
    });
}
