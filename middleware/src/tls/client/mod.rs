//! The client side of TLS.

mod connector;
mod error;
mod io;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod roots;
#[cfg(test)]
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod tests;

pub use self::{connector::TlsConnector, error::TlsConnectError, io::TlsClientIo};
