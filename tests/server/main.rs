//! The server as its clients and its handle see it: accepting, closing connections, shutting down.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(
    clippy::print_stdout,
    reason = "measured values, visible with --nocapture"
)]

mod accept_errors;
mod acceptor;
mod backpressure;
mod bad_clients;
mod closing;
mod deadline;
// Other systems have only 127.0.0.1.
#[cfg(target_os = "linux")]
mod guards;
mod hand_over;
mod handle;
mod incoming;
mod lifecycle;
mod listeners;
#[cfg(all(
    feature = "aws-lc-rs",
    feature = "http",
    feature = "proxy-protocol",
    feature = "testing"
))]
mod recommended;
mod reload;
mod shutdown;
mod shutdown_under_load;
#[path = "../support/mod.rs"]
mod support;
mod timeouts;
mod upstream;
mod workers;
