//! Exports metrics of connections through the facade [`metrics`](https://docs.rs/metrics).
//!
//! [`MetricsLayer`] counts the connections that reach it, and how they end. Other layers count what only they see, whether
//! there is a `MetricsLayer` or not. The program installs a recorder, such as `metrics-exporter-prometheus`, before it
//! creates the layers, and this package depends on the facade alone.
//!
//! | metric | kind | labels | value |
//! |---|---|---|---|
//! | `portcullis_connections_accepted_total` | counter | `listener` | connections that reached [`MetricsLayer`] |
//! | `portcullis_connections_active` | gauge | `listener` | connections alive, including upgraded and handed-off ones |
//! | `portcullis_connections_refused_total` | counter | `listener`, `by`, `reason` | connections that a layer inside rejected |
//! | `portcullis_connections_closed_total` | counter | `listener`, `outcome` | ended connections, by [`Outcome::as_str`](crate::outcome::Outcome::as_str) |
//! | `portcullis_connections_duration_seconds` | histogram | `listener` | time from the accept to the end of the service |
//! | `portcullis_connections_bytes_total` | counter | `listener`, `direction` | bytes of the socket `in` and `out` (under TLS, ciphertext), added at the end of the service |
//! | `portcullis_alarms_total` | counter | `listener`, `alarm` | times that an [alarm](crate::observe::AlarmKind) was raised |
//! | `portcullis_observed_total` | counter | `guard` | connections that a [guard](crate::guard) let through only because it observes |
//! | `portcullis_table_entries` | gauge | `table` | keys in the tables of `keyed_limit` and `rate_limit` |
//! | `portcullis_table_full_total` | counter | `table` | connections whose key did not fit into such a table |
//! | `portcullis_backend_servers` | gauge | `backend`, `server` | 1 while a server belongs to its pool, so that one that was removed differs from one that is not up |
//! | `portcullis_backend_up` | gauge | `backend`, `server` | 1 while a server of a pool is up: its health checks pass, and it is neither drained nor taken down |
//! | `portcullis_backend_connections` | gauge | `backend`, `server` | its open connections, and those that are being made |
//! | `portcullis_backend_ejected` | gauge | `backend`, `server` | 1 while it is out of use after failed connects |
//! | `portcullis_backend_certificate_not_after_seconds` | gauge | `backend`, `server` | end of the validity of the certificate that it presented last, in Unix time, in a full handshake of a connection or of a health check that passed; of a host name, the first end; 0 once it has no TLS any more |
//! | `portcullis_backend_connect_duration_seconds` | histogram | `backend`, `server` | time of connects that succeeded, with PROXY header and TLS handshake |
//! | `portcullis_backend_connect_failures_total` | counter | `backend`, `server` | connects that failed, health checks not included |
//! | `portcullis_handshakes_total` | counter | `result` | ended TLS handshakes: `completed`, `failed`, `timed_out`, `refused`, `cancelled` |
//! | `portcullis_handshake_duration_seconds` | histogram | `kind` | time of completed TLS handshakes: `full`, `resumed` |
//! | `portcullis_certificate_not_after_seconds` | gauge | `name` | end of the validity of each certificate of a `CertStore`, in Unix time; the first end if several have the name, and 0 when none has it |
//! | `portcullis_reloads_total` | counter | `of`, `result` | reloads of `certificates`, those of a `CertStore`: `completed`, `failed` |
//!
//! The number of series is bounded. The value of `listener` is the name given to [`MetricsLayer::new`] or `AlarmLayer::new`,
//! and `name` is the first host name of a certificate, or else its subject. `by` and `reason` are string literals of the layer that
//! [rejects](crate::error::Refused), `guard` and `table` are names of layers, and the other labels have a fixed set of
//! values. Addresses and names that a peer chose are never labels.
//!
//! `backend` is the name of the pool, and `server` that of the server in the configuration. A host name has one series for all
//! its addresses, so that a name whose addresses change has no more series over time: `up`, `ejected` and `connections` are
//! sums, as is `servers`. Servers with other names have series of their own, so a registry that names each of its servers
//! anew adds series for as long as the process runs. The gauges return to 0 once a server is removed or its pool is dropped, as does the end of its
//! certificate.
//!
//! # Position in the stack
//!
//! Right inside of [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer) and outside of the others, next to
//! [`TraceLayer`](crate::observe::TraceLayer), because it counts only what it encloses. Connections that wait in
//! `poll_ready` for a limit inside are not counted yet.
//!
//! ## Without the layer
//!
//! A stack whose [`TraceLayer`](crate::observe::TraceLayer) has callbacks anyway can count in them, which saves a future
//! around the service. A connection is then active until its service ends, also if it was handed off.
//!
//! ```
//! use portcullis_middleware::observe::{MetricsLayer, TraceLayer};
//!
//! let closed = MetricsLayer::new("web");
//! let opened = closed.clone();
//! let trace = TraceLayer::new()
//!     .on_open(move |_| opened.count_opened())
//!     .on_close(move |end| {
//!         closed.count_closed(end.info(), end.duration(), end.outcome(), end.error());
//!     });
//! ```
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
//! All handles but those of refusals and of certificates are registered once, when the layer is created, so a connection
//! looks nothing up. It takes some atomic additions at its begin and end, and shares the allocation of limits. Reads and
//! writes are not affected. A refusal takes a short lock.
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
pub(crate) mod tests;

pub use self::{
    future::MetricsFuture,
    layer::{Metrics, MetricsLayer},
};
