//! Limits the bytes per second that connections read and write.
//!
//! Each direction of each connection has a rate, or none. A [`SharedBandwidth`] limits the sum of all connections that
//! have it, also across several layers. By default, a burst of one second's bytes passes without a wait; a connection that
//! was silent for a second has the whole burst again.
//!
//! With [`with_observe`](BandwidthLayer::with_observe) all bytes pass, and connections that would have waited are only
//! counted, logged and [noted](crate::ConnectionInfo::notes).
//!
//! Reading slowly makes the kernel's receive buffer fill up, so that TCP slows the client down. Writing slowly makes
//! the service wait.
//!
//! # Position in the stack
//!
//! Inside of [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer). Outside of TLS it counts the bytes on the wire,
//! inside those of the service. Inside of [`IoTimeoutLayer`](crate::timeout::IoTimeoutLayer), whose timeouts then
//! leave out the waits for bandwidth. It needs a tokio runtime with time enabled.
//!
//! # Errors and outcomes
//!
//! None of its own; operations wait.
//!
//! # Cancellation and drop
//!
//! An operation that waits may be dropped at any time, and no byte is lost or counted. A force-closed connection
//! that waits for bandwidth ends at the end of the wait, which is a second at most with the default burst.
//!
//! # Limitations
//!
//! Several connections with one [`SharedBandwidth`] take it in no particular order. The end of stream is
//! delayed like data. The kernel's buffers hide the first bytes of a slow reader.
//!
//! # Performance
//!
//! An operation reads the clock, and locks the shared limit if there is one. A direction that has ever waited has one timer.
//! Waits last for a twentieth of a second's bytes, so a limited connection wakes up at most 20 times per second and direction.
//! A layer without limits only forwards.
//!
//! # Example
//!
//! ```
//! use portcullis_middleware::{
//!     BoxError, Connection,
//!     limit::{Bandwidth, BandwidthLayer, SharedBandwidth},
//!     peer_addr::PeerAddrLayer,
//! };
//! use std::time::Duration;
//! use tokio::{
//!     io::{AsyncReadExt, AsyncWriteExt, duplex},
//!     time::Instant,
//! };
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! // 1 KiB/s to each client, and 1 MiB/s to all together.
//! let all = SharedBandwidth::new(Bandwidth::per_second(1 << 20));
//! let mut stack = ServiceBuilder::new()
//!     .layer(PeerAddrLayer::new())
//!     .layer(
//!         BandwidthLayer::new()
//!             .with_write(Bandwidth::per_second(1024))
//!             .with_shared_write(all),
//!     )
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         connection.write_all(&[0; 5 * 1024]).await?;
//!         Ok::<_, BoxError>(())
//!     });
//!
//! let (ours, mut client) = duplex(8192);
//! let begun = Instant::now();
//! stack.call(ours).await?;
//! client.read_exact(&mut [0; 5 * 1024]).await?;
//! // The first second's bytes are the burst.
//! assert!(begun.elapsed() >= Duration::from_secs(4));
//! # Ok(())
//! # }
//! ```

mod bucket;
mod io;
mod layer;
#[cfg(test)]
mod tests;

pub use self::{
    bucket::{Bandwidth, SharedBandwidth},
    io::BandwidthIo,
    layer::{BandwidthLayer, BandwidthLimit},
};
