//! Limits on concurrent connections.
//!
//! | layer | when to use it |
//! |---|---|
//! | [`ConnectionLimitLayer`] | in every server, so that a flood of clients cannot exhaust memory and file descriptors |
//!
//! Timeouts are in [`timeout`](crate::timeout). `TlsLayer` has its own limit on concurrent handshakes.

pub mod connection_limit;

pub use self::connection_limit::{
    ConnectionLimit, ConnectionLimitFuture, ConnectionLimitLayer, LimitHandle, Refusal,
};
