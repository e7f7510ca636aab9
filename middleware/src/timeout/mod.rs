//! Timeouts for single operations and for half-closed connections.
//!
//! | layer | when to use it |
//! |---|---|
//! | [`IoTimeoutLayer`] | in every server; under HTTP and forwarding with the write timeout only |
//! | [`HalfClosedTimeoutLayer`] | for forwarding, where one side may end and the other stay silent |
//!
//! The service itself limits the lifetime of whole connections, for example with `tokio::time::timeout`.

pub mod half_closed;
pub mod io_timeout;

pub use self::{
    half_closed::{
        HalfClosedTimeout, HalfClosedTimeoutFuture, HalfClosedTimeoutIo, HalfClosedTimeoutLayer,
    },
    io_timeout::{IoTimeout, IoTimeoutFuture, IoTimeoutLayer, TimeoutIo},
};
