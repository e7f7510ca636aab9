//! Limits on connections: how many are served at once.

pub mod connection_limit;

pub use self::connection_limit::{
    ConnectionLimit, ConnectionLimitFuture, ConnectionLimitLayer, LimitHandle, Refusal,
};
