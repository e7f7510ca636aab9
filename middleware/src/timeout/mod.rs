//! Timeouts for single operations, for half-closed connections, and for connections as a whole.
//!
//! | layer | when to use it |
//! |---|---|
//! | [`IoTimeoutLayer`] | in every server; under HTTP and forwarding with the write timeout only |
//! | [`HalfClosedTimeoutLayer`] | for forwarding, where one side may end and the other stay silent |
//! | [`ConnectionTimeoutLayer`] | to limit silence, lifetime and slowness of whole connections |
//!
//! TLS handshakes and PROXY headers have timeouts in their layers.

pub mod connection_timeout;
pub mod half_closed;
pub mod io_timeout;

pub use self::{
    connection_timeout::{ConnectionTimeout, ConnectionTimeoutFuture, ConnectionTimeoutLayer},
    half_closed::{
        HalfClosedTimeout, HalfClosedTimeoutFuture, HalfClosedTimeoutIo, HalfClosedTimeoutLayer,
    },
    io_timeout::{IoTimeout, IoTimeoutFuture, IoTimeoutLayer, TimeoutIo},
};

use std::time::Duration;

/// The clock of a server is usually late by up to 50 ms, which shorter timeouts would notice.
const SHORTEST_BY_CLOCK: Duration = Duration::from_secs(1);

/// Default of all timeouts in this family.
const DEFAULT: Duration = Duration::from_secs(60);
