//! Limits on concurrent connections.
//!
//! | layer | when to use it |
//! |---|---|
//! | [`ConnectionLimitLayer`] | in every server, so that a flood of clients cannot exhaust memory and file descriptors |
//!
//! Timeouts are in [`timeout`](crate::timeout). The accept loop of the package `portcullis` has further limits,
//! such as the number of concurrent TLS handshakes.

pub mod connection_limit;

pub use self::connection_limit::{
    ConnectionLimit, ConnectionLimitFuture, ConnectionLimitLayer, LimitHandle, Refusal,
};
