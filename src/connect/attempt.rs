//! A failed connection attempt.

use std::{io, net::SocketAddr};

/// An address that was tried, and why it failed.
///
/// See [`ConnectError::attempts`](super::ConnectError::attempts).
#[derive(Debug)]
pub struct Attempt {
    address: SocketAddr,
    error: io::Error,
}

impl Attempt {
    pub(super) const fn new(address: SocketAddr, error: io::Error) -> Self {
        Self { address, error }
    }

    /// The address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Why the attempt failed; [`TimedOut`](io::ErrorKind::TimedOut) if it was still running when
    /// the timeout expired.
    pub const fn error(&self) -> &io::Error {
        &self.error
    }
}
