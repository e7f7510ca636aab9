//! Gathers small writes into large ones.
//!
//! A handler that writes a status line, five headers and a body does one system call where it did
//! seven. What is written stays in a buffer of the connection until
//!
//! * the handler flushes or shuts down ([`Connection::close`](crate::Connection::close) does both),
//! * a write does not fit any more; a large one then goes out uncopied, behind what was buffered,
//! * **a read is pending.** Buffered output is flushed first, so a request/response handler that
//!   forgets to flush does not deadlock. The same holds where a task
//!   writes while another one waits for input: the one that waits is woken and sends.
//!
//! Reads are not buffered; [`tokio::io::BufReader`] does that.
//!
//! # What is lost, and when
//!
//! **A connection that is dropped loses what is still buffered**, and so does one that is
//! [detached](crate::Connection::detach) and unwrapped. End it with
//! [`close`](crate::Connection::close), or flush. A handler that never reads, such as a ticker, has to
//! flush too.
//!
//! A write succeeds once its bytes are buffered. When sending them fails later, the next write,
//! flush, shutdown or waiting read tells. Nothing is thrown away by a failure: the next attempt sends
//! the same bytes again from where the last one stopped.
//!
//! # Its place
//!
//! Inside of TLS, where it makes one record of many writes, and inside of
//! [`io_timeout`](crate::timeout::io_timeout), whose write bound then holds also for what a waiting read sends.
//! HTTP servers gather their output themselves and gain nothing.
//!
//! # Cost
//!
//! The buffer, one allocation, comes with the first small write, and is given back when a read has
//! to wait: an idle connection has none. A write that fits is one copy. A read that waits compares
//! two wakers. Only where two tasks wait for the same output, the halves of
//! [`split`](tokio::io::split) for example, a waker for both is allocated each time they do.
//!
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
//!         connection.read_exact(&mut name).await?; // has to wait: the question goes out
//!         connection.write_all(b"hello ").await?;
//!         connection.write_all(&name).await?;
//!         connection.close().await?;
//!         Ok::<_, BoxError>(())
//!     });
//!
//! let (ours, mut theirs) = tokio::io::duplex(64);
//! let client = async {
//!     let mut said = [0; 64];
//!     let length = theirs.read(&mut said).await?;
//!     assert_eq!(&said[..length], b"your name? ");
//!     theirs.write_all(b"alice").await?;
//!     let length = theirs.read(&mut said).await?;
//!     assert_eq!(&said[..length], b"hello alice");
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

pub use self::{
    io::WriteBufferIo,
    layer::{WriteBuffer, WriteBufferLayer},
};
