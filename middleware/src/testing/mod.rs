//! Scripted peers, and checks for custom layers and stream wrappers.
//!
//! | to test | use |
//! |---|---|
//! | a stream wrapper that leaves the bytes unchanged | [`assert_transparent`] |
//! | a layer | [`assert_contract`], [`assert_contract_with`] |
//! | either, against a slow, misbehaving or vanished peer | [`Peer`] |
//! | a service or a stream, with a client that the test drives | [`in_memory`], [`over_tcp`] |
//!
//! The chapter [Write a layer in twenty lines](crate::guide) uses all of them. The package `portcullis` adds a
//! harness that runs a whole stack under a server.
//!
//! # Time
//!
//! Scripts with pauses and the contract check use tokio's clock. Pause it with
//! `#[tokio::test(start_paused = true)]`, which needs tokio's feature `test-util` in your `dev-dependencies`.
//! The feature `testing` does not enable it, because cargo would enable it for the program too.
//!
//! # Transparency
//!
//! [`assert_transparent`] checks stream wrappers that leave the bytes unchanged (a timeout, a counter, a box).
//! Vectored writes, flushes and shutdowns must reach the inner stream, and data must not be lost, added or
//! delayed. The check drives a bare [`ScriptedIo`] and a wrapped one through the same operations and compares
//! the results and the calls that arrive. It does not apply to wrappers that change bytes (TLS, buffers), and
//! it does not check timing.
//!
//! A wrapper that omits one method still compiles, because `AsyncWrite` has default implementations:
//!
//! ```should_panic
//! use portcullis_middleware::testing::{ScriptedIo, assert_transparent};
//! use std::{io, pin::Pin, task::{Context, Poll}};
//! use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
//!
//! struct Wrapped(ScriptedIo);
//!
//! impl AsyncRead for Wrapped {
//!     fn poll_read(
//!         mut self: Pin<&mut Self>,
//!         cx: &mut Context<'_>,
//!         buf: &mut ReadBuf<'_>,
//!     ) -> Poll<io::Result<()>> {
//!         Pin::new(&mut self.0).poll_read(cx, buf)
//!     }
//! }
//!
//! impl AsyncWrite for Wrapped {
//!     fn poll_write(
//!         mut self: Pin<&mut Self>,
//!         cx: &mut Context<'_>,
//!         buf: &[u8],
//!     ) -> Poll<io::Result<usize>> {
//!         Pin::new(&mut self.0).poll_write(cx, buf)
//!     }
//!
//!     fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
//!         Pin::new(&mut self.0).poll_flush(cx)
//!     }
//!
//!     fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
//!         Pin::new(&mut self.0).poll_shutdown(cx)
//!     }
//!
//!     // `poll_write_vectored` and `is_write_vectored` are missing.
//! }
//!
//! assert_transparent(Wrapped); // panics, with the first difference
//! ```

mod connections;
mod contract;
mod peer;
mod random;
mod scripted_io;
#[cfg(test)]
mod tests;
mod transparent;
mod woken;

pub use self::{
    connections::{connection, in_memory, info, over_tcp},
    contract::{Probe, ProbeFuture, assert_contract, assert_contract_with},
    peer::{Peer, PeerIo, Seen},
    scripted_io::{Call, Calls, ScriptedIo},
    transparent::assert_transparent,
};
