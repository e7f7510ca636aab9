//! What the tests of this project use, for the tests of yours.
//!
//! | To test | there is |
//! |---|---|
//! | an IO wrapper that changes no bytes | [`assert_transparent`] |
//! | a layer | [`assert_contract`], [`assert_contract_with`] |
//! | either, against a peer that is slow, rude or gone | [`Peer`] |
//! | a service or a stream, with a client that the test drives | [`in_memory`], [`over_tcp`] |
//! | a whole stack under a server, good and bad clients together | [`Harness`] |
//! | an accept loop or a server of one's own setup, without sockets | [`MemoryListener`] |
//!
//! All but the last two are in `portcullis_middleware::testing` as well. The chapter
//! [Write a layer in twenty lines](crate::middleware::guide) shows them at work.
//!
//! # Time
//!
//! Timeouts are tested in paused time: it stands still while anything can run and leaps when all wait,
//! so a minute of silence takes no time and ends at an exact instant. The test brings the runtime,
//! with `#[tokio::test(start_paused = true)]`, and tokio's feature `test-util` among its own
//! `dev-dependencies`. The feature `testing` does not turn that on: cargo unifies features, and then
//! a program that is built along with it would ask at each look at the clock whether time is paused.
//! Everything here works in real time too, at its pace.

mod harness;
mod io;
#[cfg(test)]
mod tests;

pub use self::{
    harness::{End, Harness},
    io::TestIo,
};
pub use crate::listener::{MemoryConnector, MemoryListener};
pub use portcullis_middleware::testing::*;
