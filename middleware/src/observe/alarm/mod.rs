//! Raises alarms when there are too many connections, refusals or failures, and rejects nothing.
//!
//! Each [`AlarmKind`] has a threshold, or none. An alarm is raised when its count reaches the threshold:
//!
//! | alarm | counts |
//! |---|---|
//! | [`Active`](AlarmKind::Active) | connections alive, including upgraded and handed-off ones |
//! | [`Opened`](AlarmKind::Opened) | connections that reached the layer in the current interval |
//! | [`Refused`](AlarmKind::Refused) | connections that a layer inside rejected in the current interval |
//! | [`Failed`](AlarmKind::Failed) | connections that timed out or failed in the current interval |
//!
//! It is cleared when the count of active connections, or the count of a whole interval, is at least 10 % below the
//! threshold (the hysteresis). The same alarm is raised again after a minute at the earliest (the cool-down). Each
//! change is logged, once, and passed to callbacks. With the feature `metrics`, the counter
//! `portcullis_alarms_total` has the number of alarms by `listener` and `alarm`.
//!
//! # Position in the stack
//!
//! Next to [`TraceLayer`](crate::observe::TraceLayer), right inside of
//! [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer), because it counts only what it encloses.
//!
//! # Errors and outcomes
//!
//! The layer never fails on its own. Refusals and failures are judged by the
//! [outcome](crate::outcome::Outcome::of) of the service inside. Disconnects, forced closes and cancelled services
//! are no failures.
//!
//! # Cancellation and drop
//!
//! Dropping the future drops the inner future first and then counts the end. A connection that another task owns
//! stays active until it is dropped.
//!
//! # Limitations
//!
//! Intervals are fixed and begin with the first connection after the previous one. A burst of up to twice the
//! threshold may pass unnoticed across the end of an interval. The layer has no timer, so the end of an alarm of an
//! interval is reported with the first connection after it. The [handle](AlarmHandle) shows it immediately. Callbacks of
//! different threads may run concurrently and in any order.
//!
//! # Performance
//!
//! A short lock when a connection begins and when it ends, a second one when it is dropped, and two readings of the
//! clock. Reads and writes are not affected.
//!
//! # Example
//!
//! ```
//! use portcullis_middleware::{
//!     BoxError, Connection,
//!     observe::{Alarm, AlarmKind, AlarmLayer},
//!     peer_addr::PeerAddrLayer,
//! };
//! use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let pages = Arc::new(AtomicU64::new(0));
//! let page = pages.clone();
//! let alarms = AlarmLayer::new("web")
//!     .with_threshold(AlarmKind::Active, 9_000)
//!     .with_threshold(AlarmKind::Failed, 3)
//!     .on_alarm(move |alarm: &Alarm<'_>| {
//!         if alarm.is_raised() {
//!             page.fetch_add(1, Ordering::Relaxed);
//!         }
//!     });
//! let handle = alarms.handle();
//! let mut stack = ServiceBuilder::new()
//!     .layer(PeerAddrLayer::new())
//!     .layer(alarms)
//!     .service_fn(|_: Connection<_>| async { Err::<(), BoxError>("broken".into()) });
//!
//! for _ in 0..5 {
//!     let (ours, _theirs) = tokio::io::duplex(64);
//!     assert!(stack.call(ours).await.is_err());
//! }
//!
//! assert!(handle.is_raised(AlarmKind::Failed));
//! assert_eq!(pages.load(Ordering::Relaxed), 1);
//! # }
//! ```

mod counts;
mod kind;
mod layer;
mod policy;
#[cfg(test)]
mod tests;

pub use self::{
    kind::{Alarm, AlarmKind},
    layer::{AlarmFuture, AlarmLayer, AlarmWatch},
    policy::AlarmHandle,
};
