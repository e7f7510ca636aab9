//! Tests of the forwarder.

mod bytes;
mod connecting;
mod drain;
mod endings;
mod late;
mod moved;
#[cfg(all(unix, any(feature = "aws-lc-rs", feature = "ring")))]
mod pairs;
mod support;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod tls;
