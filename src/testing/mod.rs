//! Tools for testing layers, streams and stacks, which the tests of this project use too.
//!
//! | To test | use |
//! |---|---|
//! | a stream wrapper that leaves bytes unchanged | [`assert_transparent`] |
//! | a layer | [`assert_contract`], [`assert_contract_with`] |
//! | either, against a peer that is slow, misbehaving or vanished | [`Peer`] |
//! | a service or a stream, with a client that the test drives | [`in_memory`], [`over_tcp`] |
//! | a whole stack under a server, good and bad clients together | [`Harness`] |
//! | a custom accept loop or server, without sockets | [`MemoryListener`] |
//!
//! All but the last two are in `portcullis_middleware::testing` as well. The chapter [Write a layer in twenty
//! lines](crate::middleware::guide) uses them.
//!
//! # Time
//!
//! Test timeouts in paused time. The clock stops while anything can run and advances when everything
//! waits, so a minute of silence passes immediately and ends at an exact instant. The test provides the
//! runtime, with `#[tokio::test(start_paused = true)]`, and tokio's feature `test-util` in its own
//! `dev-dependencies`. The feature `testing` leaves that to the test, because cargo unifies features, and a
//! program built along with it would then check at each look at the clock whether time is paused. Everything
//! here also works in real time.

mod harness;
mod io;
#[cfg(test)]
mod tests;

pub use self::{
    harness::{Harness, HarnessOutcome},
    io::TestIo,
};
pub use crate::listener::{MemoryConnector, MemoryListener};
pub use portcullis_middleware::testing::*;
