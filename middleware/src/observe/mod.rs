//! Layers that report what connections do and leave them unchanged.

pub mod count_bytes;
pub mod trace;

pub use self::{
    count_bytes::{ByteCounter, CountBytes, CountBytesLayer, CountedIo},
    trace::{Closed, Trace, TraceFuture, TraceLayer},
};
