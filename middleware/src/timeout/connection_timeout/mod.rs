//! Limits how long a whole connection may be silent, slow, or open.
//!
//! Four kinds of limits, each off by default:
//!
//! * **First byte**: the client must send something within a time from the accept.
//! * **Idle**: no bytes in either direction for a time. It is checked at each quarter, so an idle connection ends after
//!   the timeout and at most a quarter more.
//! * **Lifetime**: the time from the accept, however busy the connection is. With a jitter, connections that were
//!   opened together do not all reconnect together. With a [grace
//!   period](ConnectionTimeoutLayer::with_lifetime_grace), `HttpService` and other services that follow
//!   [`drain`](crate::ConnectionInfo::drain) end the connection gracefully before it times out.
//! * **Throughput**: at least so many bytes per window, in one direction or in both together. It ends clients that send or
//!   take one byte now and then to stay below all other timeouts. An idle connection fails it too.
//!
//! With [`with_observe`](ConnectionTimeoutLayer::with_observe), connections that exceed a limit are only counted, logged
//! and [noted](crate::ConnectionInfo::notes).
//!
//! The layer compares the byte counts of the socket, which count ciphertext under TLS.
//!
//! # Position in the stack
//!
//! Inside of [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer), outside of all layers whose time counts, such as
//! TLS. The order relative to [`IoTimeoutLayer`](crate::timeout::IoTimeoutLayer) does not matter. It needs a tokio
//! runtime with time enabled.
//!
//! # Errors and outcomes
//!
//! The call fails with [`Elapsed`](crate::error::Elapsed) of the phase
//! [`FIRST_BYTE`](crate::error::TimeoutPhase::FIRST_BYTE), [`IDLE`](crate::error::TimeoutPhase::IDLE),
//! [`LIFETIME`](crate::error::TimeoutPhase::LIFETIME) or
//! [`THROUGHPUT`](crate::error::TimeoutPhase::THROUGHPUT). The outcome is
//! [`TimedOut`](crate::outcome::Outcome::TimedOut). A call that completes at the time of a timeout has completed.
//!
//! The limits also apply to connections that another task owns after the call, such as upgraded and handed-off ones.
//! Those are [force-closed](crate::ConnectionInfo::force_close), so their operations fail with
//! [`ForcedClose`](crate::connection::ForcedClose), and the limit is logged at DEBUG.
//!
//! # Cancellation and drop
//!
//! When a limit is exceeded, the layer drops the service's future and the connection in it, without closing it
//! gracefully. Dropping the layer's future takes its next check back, and the connection is not limited from then on if
//! another task owns it.
//!
//! # Limitations
//!
//! A [detached](crate::Connection::detach) stream is no longer limited. With [`OnErrorLayer`](crate::handler::OnErrorLayer)
//! outside of this layer, the answer to an error is not limited. A PROXY header counts as the first byte, so behind a load balancer set an idle timeout as well.
//!
//! # Performance
//!
//! Reads and writes are untouched. The checks take place four times per idle timeout, once per window, and once for
//! the first byte and the lifetime. Under a server on several threads, its clock wakes the call for them if they are
//! at least a second apart, and a poll of the call that is pending costs two comparisons. Otherwise a timer of the
//! runtime wakes the call, which each such poll also polls. A connection that outlives its call has a task with a
//! timer of its own. Without a limit, the layer does nothing.
//!
//! # Example
//!
//! ```
//! use portcullis_middleware::{
//!     BoxError, Connection,
//!     error::{Elapsed, TimeoutPhase, find},
//!     peer_addr::PeerAddrLayer,
//!     timeout::ConnectionTimeoutLayer,
//! };
//! use std::time::Duration;
//! use tokio::io::{AsyncReadExt, duplex};
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let timeouts = ConnectionTimeoutLayer::new()
//!     .with_first_byte_timeout(Duration::from_secs(10))
//!     .with_idle_timeout(Duration::from_secs(300))
//!     .with_max_lifetime(Duration::from_secs(3600));
//! let mut stack = ServiceBuilder::new()
//!     .layer(PeerAddrLayer::new())
//!     .layer(timeouts)
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         let mut line = [0; 80];
//!         connection.read(&mut line).await?;
//!         Ok::<_, BoxError>(())
//!     });
//!
//! let (ours, _silent_client) = duplex(64);
//! let error = stack.call(ours).await.unwrap_err();
//!
//! let elapsed = find::<Elapsed>(&*error).expect("it timed out");
//! assert_eq!(elapsed.phase(), TimeoutPhase::FIRST_BYTE);
//! # }
//! ```

mod checks;
mod future;
mod handed_off;
mod layer;
#[cfg(test)]
mod tests;
mod timer;

pub use self::{
    future::ConnectionTimeoutFuture,
    layer::{ConnectionTimeout, ConnectionTimeoutLayer},
};
