//! The client side of TLS.

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod certificate;
mod connector;
mod error;
mod io;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod roots;
#[cfg(test)]
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod tests;
#[cfg(test)]
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
#[path = "tests.rs"]
#[expect(
    clippy::duplicate_mod,
    reason = "the same tests for the other kind of session"
)]
mod unbuffered_tests;

pub use self::{connector::TlsConnector, error::TlsConnectError, io::TlsClientIo};
