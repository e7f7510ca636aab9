//! Limits on connections: how many, how many of each client, how often, and how fast.
//!
//! | layer | when to use it |
//! |---|---|
//! | [`ConnectionLimitLayer`] | in every server, so that a flood of clients cannot exhaust memory and file descriptors |
//! | [`KeyedLimitLayer`] | so that one client, or another key, cannot use up the connections of all |
//! | [`RateLimitLayer`] | so that one client, or another key, cannot connect too often |
//! | [`BandwidthLayer`] | so that bulk transfers leave bandwidth to others |
//!
//! Timeouts are in [`timeout`](crate::timeout). `TlsLayer` has its own limit on concurrent handshakes. Lists of
//! addresses are in [`access`](crate::access).

pub mod bandwidth;
pub mod connection_limit;
mod key;
pub mod keyed_limit;
pub mod rate_limit;
mod sync;
mod table;
mod table_full;

pub use self::{
    bandwidth::{Bandwidth, BandwidthIo, BandwidthLayer, BandwidthLimit, SharedBandwidth},
    connection_limit::{
        ConnectionLimit, ConnectionLimitFuture, ConnectionLimitLayer, LimitHandle, Refusal,
    },
    key::{ClientIp, Key, KeyBytes, ListenerName},
    keyed_limit::{KeyedLimit, KeyedLimitHandle, KeyedLimitLayer},
    rate_limit::{Rate, RateLimit, RateLimitHandle, RateLimitLayer},
    table_full::WhenTableFull,
};
