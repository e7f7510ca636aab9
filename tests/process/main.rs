//! Tests that need processes of their own: limits on file descriptors, signals, the examples.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(
    clippy::print_stdout,
    reason = "measured values, visible with --nocapture"
)]

#[cfg(target_os = "linux")]
mod descriptors;
mod examples;
mod signals;
#[path = "../support/mod.rs"]
mod support;
