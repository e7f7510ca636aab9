//! Peers that follow a script, and checks for custom layers and IO wrappers.
//!
//! | To test | there is |
//! |---|---|
//! | an IO wrapper that changes no bytes | [`assert_transparent`] |
//! | a layer | [`assert_contract`], [`assert_contract_with`] |
//! | either, against a peer that is slow, rude or gone | [`Peer`] |
//! | a service or a stream, with a client that the test drives | [`in_memory`], [`over_tcp`] |
//!
//! The chapter [Write a layer in twenty lines](crate::guide) shows them at work. The package
//! `portcullis` adds a harness for a whole stack under a server.
//!
//! # Time
//!
//! A script with pauses and the check of a contract run by tokio's clock. A test pauses it with
//! `#[tokio::test(start_paused = true)]`, for which it turns on tokio's feature `test-util` among its
//! own `dev-dependencies`: this feature does not, since cargo would turn it on for the program too.
//!
//! # Transparency
//!
//! [`assert_transparent`] holds an IO wrapper that changes no bytes (a timeout, a count, a box) to
//! what it promises: vectored writes, flush and shutdown reach the IO inside, and nothing is lost,
//! added or delayed. It drives a bare [`ScriptedIo`] and a wrapped one through the same operations
//! and compares the answers and the calls that arrive. It is no check for wrappers that do change
//! bytes (TLS, buffers), and it tells nothing about time.
//!
//! A wrapper that forgets to forward one method compiles all the same, because `AsyncWrite` has
//! defaults:
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

pub use self::{
    connections::{connection, in_memory, info, over_tcp},
    contract::{Probe, ProbeFuture, assert_contract, assert_contract_with},
    peer::{Peer, PeerIo, Seen},
    scripted_io::{Call, Calls, ScriptedIo},
    transparent::assert_transparent,
};
