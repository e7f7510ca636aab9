//! Counts the bytes that connections move, in each direction.
//!
//! A count is taken at the layer's place in the stack: outside of TLS it counts ciphertext, inside
//! plaintext. What the socket itself moved is counted for each connection without this layer
//! ([`ConnectionInfo::bytes_read`](crate::ConnectionInfo::bytes_read)); the layer adds a total of
//! all connections, and counts at other places.
//!
//! The total is live: [`ByteCounter`] tells it at any time, while connections run and after. The
//! count of one connection is kept in its [`CountedIo`], and gone with it. Nothing is buffered, and
//! no failure is added.
//!
//! Each completed operation costs one relaxed atomic addition: about a nanosecond on a cache line
//! that no other core writes at the time, ten to twenty where two cores do nothing but count. Either
//! is little beside a system call. The two directions have a line each. A connection costs one clone
//! of an `Arc`, and no allocation.
//!
//! ```
//! use portcullis_middleware::{Connection, observe::{CountBytesLayer, CountedIo}};
//! use tokio::io::AsyncWriteExt;
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let (layer, counter) = CountBytesLayer::pair();
//! let mut stack = ServiceBuilder::new()
//!     .layer(layer)
//!     .service_fn(|mut connection: Connection<CountedIo<_>>| async move {
//!         connection.write_all(b"hello").await?;
//!         assert_eq!(connection.get_ref().bytes_written(), 5);
//!         connection.close().await
//!     });
//!
//! for _ in 0..2 {
//!     let (ours, mut theirs) = tokio::io::duplex(64);
//!     theirs.write_all(b"hi").await?;
//!     theirs.shutdown().await?;
//!     stack.call(Connection::accept(ours)).await?;
//! }
//!
//! assert_eq!((counter.bytes_read(), counter.bytes_written()), (4, 10));
//! # Ok(())
//! # }
//! ```

mod counter;
mod io;
mod layer;
#[cfg(test)]
mod tests;

pub use self::{
    counter::ByteCounter,
    io::CountedIo,
    layer::{CountBytes, CountBytesLayer},
};
