//! Timeouts for single operations and for phases of a connection.

pub mod half_closed;
pub mod io_timeout;

pub use self::{
    half_closed::{
        HalfClosedTimeout, HalfClosedTimeoutFuture, HalfClosedTimeoutIo, HalfClosedTimeoutLayer,
    },
    io_timeout::{IoTimeout, IoTimeoutFuture, IoTimeoutLayer, TimeoutIo},
};
