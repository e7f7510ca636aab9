//! Exports metrics of connections through the facade [`metrics`](https://docs.rs/metrics).
//!
//! [`MetricsLayer`] counts the connections that reach it, and how they end. The program installs a recorder, such as
//! `metrics-exporter-prometheus`, and this package depends on the facade alone.
//!
//! | metric | kind | labels besides `listener` | counts |
//! |---|---|---|---|
//! | `portcullis_connections_accepted_total` | counter | | connections that reached the layer |
//! | `portcullis_connections_active` | gauge | | connections alive, including upgraded and handed-off ones |
//! | `portcullis_connections_refused_total` | counter | `by`, `reason` | connections that a layer inside rejected |
//! | `portcullis_connections_closed_total` | counter | `outcome` | ended connections, by [`Outcome::as_str`](crate::outcome::Outcome::as_str) |
//! | `portcullis_connections_duration_seconds` | histogram | | time from the accept to the end of the service |
//! | `portcullis_connections_bytes_total` | counter | `direction` (`in`, `out`) | bytes of the socket (under TLS, ciphertext), added at the end of the service |
//!
//! The number of series is bounded. The value of `listener` is the name given to [`MetricsLayer::new`], `outcome` and
//! `direction` have a fixed set of values, and `by` and `reason` are string literals of the layer that
//! [rejects](crate::error::Refused). Addresses and names that a peer chose are never labels.
//!
//! # Position in the stack
//!
//! Right inside of [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer) and outside of the others, next to
//! [`TraceLayer`](crate::observe::TraceLayer), because it counts only what it encloses. Connections that wait in
//! `poll_ready` for a limit inside are not counted yet.
//!
//! # Errors and outcomes
//!
//! The layer never fails on its own. Each connection is counted as closed exactly once: when its service returns or
//! fails, when it panics, and when its future is dropped unfinished. The outcome is that of the service inside, as
//! in [`trace`](crate::observe::trace).
//!
//! # Cancellation and drop
//!
//! Dropping the future drops the inner future first and then counts the end. A connection that another task owns
//! stays active until it is dropped.
//!
//! # Limitations
//!
//! Bytes that an upgraded or handed-off connection moves after the end of its service are not counted, and neither
//! is its time from then on. Install the recorder before the layer is created; what is registered without one stays
//! silent.
//!
//! # Performance
//!
//! All handles but those of refusals are registered once, when the layer is created, so a connection looks nothing up.
//! It takes one allocation, and some atomic additions at its begin and end. Reads and writes are not affected. A
//! refusal takes a short lock.
//!
//! # Example
//!
//! ```
//! use portcullis_middleware::{Connection, observe::MetricsLayer, peer_addr::PeerAddrLayer};
//! use tokio::io::AsyncWriteExt;
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower::BoxError> {
//! // Install a recorder first.
//! let mut stack = ServiceBuilder::new()
//!     .layer(PeerAddrLayer::new())
//!     .layer(MetricsLayer::new("web"))
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         connection.write_all(b"hello").await
//!     });
//!
//! let (ours, _theirs) = tokio::io::duplex(64);
//! stack.call(ours).await?;
//! # Ok(())
//! # }
//! ```

mod future;
mod handles;
mod layer;
#[cfg(test)]
mod tests;

pub use self::{
    future::MetricsFuture,
    layer::{Metrics, MetricsLayer},
};
