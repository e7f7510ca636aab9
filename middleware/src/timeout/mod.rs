//! Timeouts for single operations and for half-closed connections.
//!
//! | layer | when to use it |
//! |---|---|
//! | [`IoTimeoutLayer`] | in every server; under HTTP and forwarding with the write timeout only |
//! | [`HalfClosedTimeoutLayer`] | for forwarding, where one side may end and the other stay silent |
//!
//! TLS handshakes and PROXY headers have timeouts in their layers. To limit the lifetime of whole connections, use
//! `tokio::time::timeout` in the service.

pub mod half_closed;
pub mod io_timeout;

pub use self::{
    half_closed::{
        HalfClosedTimeout, HalfClosedTimeoutFuture, HalfClosedTimeoutIo, HalfClosedTimeoutLayer,
    },
    io_timeout::{IoTimeout, IoTimeoutFuture, IoTimeoutLayer, TimeoutIo},
};

use std::time::Duration;

/// Default of all timeouts in this family.
const DEFAULT: Duration = Duration::from_secs(60);
