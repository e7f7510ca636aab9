//! Layers that report what connections do and leave them unchanged.
//!
//! | layer | when to use it |
//! |---|---|
//! | [`TraceLayer`] | for logs, access logs and metrics of whole connections |
//! | `MetricsLayer` (feature `metrics`) | for metrics of whole connections, in Prometheus for example |
//! | [`CountBytesLayer`] | for live byte counts of all connections, at any position in the stack |
//!
//! The names of spans, events and fields are listed in [`telemetry`](crate::telemetry).

pub mod count_bytes;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod trace;

#[cfg(feature = "metrics")]
pub use self::metrics::{Metrics, MetricsFuture, MetricsLayer};
pub use self::{
    count_bytes::{ByteCounter, CountBytes, CountBytesLayer, CountedIo},
    trace::{Closed, Trace, TraceFuture, TraceLayer},
};
