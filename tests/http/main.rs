//! HTTP, WebSockets and gRPC at the end of a stack, and HTTP clients on top of one.

#![cfg(feature = "http")]
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test that cannot go on has failed"
)]

mod app;
#[cfg(feature = "axum")]
mod axum;
mod bad_http2;
mod bad_requests;
mod bodies;
mod clients;
#[cfg(feature = "axum")]
mod connection_info;
mod h2_frames;
#[cfg(feature = "http-client")]
mod http_client;
mod linger;
mod outcomes;
mod peer;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod protocol;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod server;
mod shutdown;
mod shutdown_under_load;
#[cfg(feature = "testing")]
mod slow_clients;
mod slow_handlers;
mod slow_readers;
mod timeouts;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod tls_shutdown;
#[cfg(all(feature = "tonic", any(feature = "aws-lc-rs", feature = "ring")))]
mod tonic;
mod tunnels;
mod upgraded;
mod upgrades;
mod websocket;

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
