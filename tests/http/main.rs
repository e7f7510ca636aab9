//! HTTP at the end of a stack: its bounds in time, what healthy slowness may do, its end, and clients
//! that misbehave.

#![cfg(feature = "http")]
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test that cannot go on has failed"
)]

mod app;
mod bad;
mod bodies;
mod clients;
mod drain;
#[cfg(feature = "axum")]
mod facts;
mod h2_frames;
mod healthy;
mod linger;
mod load;
mod peer;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod polite;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod protocol;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod server;
#[cfg(feature = "testing")]
mod side_by_side;
mod slow_readers;
mod time;
mod tunnels;
mod upgrades;

#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

/// A millisecond, the grain of tokio's timers.
const GRAIN: Duration = Duration::from_millis(1);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
