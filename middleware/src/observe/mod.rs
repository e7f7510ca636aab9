//! Layers that report what connections do and leave them unchanged.
//!
//! | layer | when to use it |
//! |---|---|
//! | [`TraceLayer`] | for logs, access logs and metrics of whole connections |
//! | `MetricsLayer` (feature `metrics`) | for metrics of whole connections, in Prometheus for example |
//! | [`AlarmLayer`] | to be notified when there are too many connections, refusals or failures |
//! | [`CountBytesLayer`] | for live byte counts of all connections, at any position in the stack |
//!
//! The names of spans, events and fields are listed in [`telemetry`](crate::telemetry).

pub mod alarm;
pub mod count_bytes;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod trace;
mod until_end;

#[cfg(feature = "metrics")]
pub use self::metrics::{Metrics, MetricsFuture, MetricsLayer};
pub use self::{
    alarm::{Alarm, AlarmFuture, AlarmHandle, AlarmKind, AlarmLayer, AlarmWatch},
    count_bytes::{ByteCounter, CountBytes, CountBytesLayer, CountedIo},
    trace::{Closed, Trace, TraceFuture, TraceLayer},
};
