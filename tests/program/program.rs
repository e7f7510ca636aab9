//! The program `portcullis`, started as a process.

#![cfg(unix)]
#![allow(
    unexpected_cfgs,
    reason = "`support` is shared with the tests of the library, which has features"
)]

mod admin;
mod backend_tls;
mod check;
mod configurations;
mod default_certificate;
mod demo;
mod descriptors;
mod explain;
mod forwarding;
mod gate;
mod handshakes;
mod health_tls;
mod kept;
mod keys;
mod log;
mod moved;
mod names;
mod output;
mod plan;
mod predecessor;
mod recheck;
mod reload;
mod servers;
mod shutdown;
mod small;
#[path = "../support/mod.rs"]
mod support;
mod systemd;
mod terminal;
mod tls;
mod upgrade;
mod watch;
