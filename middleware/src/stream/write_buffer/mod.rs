//! Buffers small writes and sends them together.
//!
//! A handler that writes a status line, five headers and a body makes one system call instead of seven. Written
//! data stays in a buffer of the connection until
//!
//! * the handler flushes or shuts down ([`Connection::close`](crate::Connection::close) does both),
//! * a write does not fit; a large write is then sent directly, behind the buffered data,
//! * **a read is pending.** Buffered output is flushed first, so a request/response handler that
//!   forgets to flush does not deadlock. The same holds if one task writes while another waits for
//!   input, because the waiting task is woken and sends the data.
//!
//! Reads are not buffered; use [`tokio::io::BufReader`] for that.
//!
//! # Position in the stack
//!
//! Inside of TLS, where it makes one record of many writes, and inside of
//! [`io_timeout`](crate::timeout::io_timeout), whose write timeout then also applies to data sent by a pending
//! read. HTTP servers buffer their output themselves and gain nothing.
//!
//! # Errors and outcomes
//!
//! A write succeeds as soon as its bytes are buffered. If sending fails later, the next write, flush, shutdown or
//! pending read returns the error. The buffered data is kept, and the next attempt continues where the last one
//! stopped.
//!
//! # Cancellation and drop
//!
//! **Dropping a connection loses the buffered data**, and so does
//! [detaching](crate::Connection::detach) and unwrapping it. Use [`close`](crate::Connection::close) at the end,
//! or flush. A handler that never reads, such as a ticker, has to flush too.
//!
//! # Performance
//!
//! The buffer is allocated on the first small write and released when a read is pending, so idle connections
//! hold none. A write that fits is copied once. A pending read compares two wakers. If two tasks wait for the
//! same output, such as the halves of [`split`](tokio::io::split), each wait allocates a combined waker.
//!
//! # Example
//! ```
//! use portcullis_middleware::{BoxError, Connection, stream::WriteBufferLayer, peer_addr::PeerAddrLayer};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let mut stack = ServiceBuilder::new()
//!     .layer(PeerAddrLayer::new())
//!     .layer(WriteBufferLayer::new(4096))
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         connection.write_all(b"your ").await?;
//!         connection.write_all(b"name? ").await?;
//!         let mut name = [0; 5];
//!         connection.read_exact(&mut name).await?; // pending, so the question is sent
//!         connection.write_all(b"hello ").await?;
//!         connection.write_all(&name).await?;
//!         connection.close().await?;
//!         Ok::<_, BoxError>(())
//!     });
//!
//! let (ours, mut theirs) = tokio::io::duplex(64);
//! let client = async {
//!     let mut received = [0; 64];
//!     let length = theirs.read(&mut received).await?;
//!     assert_eq!(&received[..length], b"your name? ");
//!     theirs.write_all(b"alice").await?;
//!     let length = theirs.read(&mut received).await?;
//!     assert_eq!(&received[..length], b"hello alice");
//!     drop(theirs);
//!     Ok::<_, BoxError>(())
//! };
//! tokio::try_join!(stack.call(ours), client)?;
//! # Ok(())
//! # }
//! ```

mod io;
mod layer;
mod output;
#[cfg(test)]
mod tests;
mod waiter;

#[cfg(feature = "transcode")]
pub(crate) use self::layer::DEFAULT_BYTES;
pub use self::{
    io::WriteBufferIo,
    layer::{WriteBuffer, WriteBufferLayer},
};
