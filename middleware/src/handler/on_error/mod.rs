//! Passes failed connections, still open, to an error handler.
//!
//! When the inner service fails or panics, the handler gets the error and the connection, so that it can answer
//! the client. The result of the handler is the result for the connection. The handler is called only after a
//! failure.
//!
//! The layer lends the stream to the inner service, as [`Connection<Lent<IO>>`](Lent). The stream returns when the
//! inner service drops it, on return, error or panic and through any wrapper. The handler gets `None` for the
//! connection if it did not return, because it was
//!
//! - moved to another task and is still alive there (the layer does not wait for it),
//! - [detached](crate::Connection::detach) or taken out of [`Lent`],
//! - [aborted](crate::Connection::abort) or closed from outside.
//!
//! The handler gets the connection as the layer was called with it, with the same info, the original extensions
//! and the guards (permits, registry entries). Guards are released when the connection ends, whether in the
//! handler, in the inner service or later in another task. Bytes that a wrapper inside has buffered, read or
//! unwritten, are dropped with the wrapper.
//!
//! A handler can also have the inner service called again on the same connection; see
//! [`OnErrorLayer::with_retry`].
//!
//! # Position in the stack
//!
//! Inside of [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer) and outside of what may fail. The handler reads
//! and writes the bytes at the layer's position. Outside of a TLS layer it can only close or abort, because plain
//! text after a TLS alert is useless; place a handler that answers inside. Several layers can be nested, and each
//! gets the errors of the next one inside.
//!
//! # Errors and outcomes
//!
//! A panic becomes [`Panicked`](crate::error::Panicked). An error returned by the handler is the error of the
//! layer, and `Ok` makes the connection a success. Panics of the handler propagate.
//!
//! # Cancellation and drop
//!
//! Dropping the future drops the connection, except in another task.
//!
//! # Limitations
//!
//! - A handler that answers must end with [`close`](crate::Connection::close), or the client may lose the answer.
//! - Neither the inner service nor the handler has a timeout.
//! - Dropping the connection inside the service does not close it immediately; it closes when the service's
//!   future completes. Use `close` or `abort` to close it earlier.
//!
//! # Performance
//!
//! Two small allocations and two uncontended locks per connection; operations add no cost.
//!
//! # Example
//! ```
//! use portcullis_middleware::{BoxError, Connection, error::Panicked, handler::OnErrorLayer};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let mut stack = ServiceBuilder::new()
//!     .layer(OnErrorLayer::new(|error, connection| async move {
//!         let Some(mut connection) = connection else {
//!             return Err(error); // it is in another task
//!         };
//!         let answer = if error.is::<Panicked>() { "500 oops\n" } else { "400 bad request\n" };
//!         connection.write_all(answer.as_bytes()).await?;
//!         connection.close().await?;
//!         Err(error) // still a failure, for the log; `Ok(())` would make it a success
//!     }))
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         let number = connection.read_u8().await?;
//!         assert_ne!(number, 13, "unlucky");
//!         connection.write_u8(number).await
//!     });
//!
//! let (ours, mut client) = tokio::io::duplex(64);
//! client.write_u8(13).await?;
//! let (outcome, answer) = tokio::join!(stack.call(Connection::accept(ours)), async {
//!     let mut answer = String::new();
//!     client.read_to_string(&mut answer).await?;
//!     client.shutdown().await.map(|()| answer)
//! });
//!
//! assert_eq!(answer?, "500 oops\n");
//! assert!(outcome.unwrap_err().is::<Panicked>());
//! # Ok(())
//! # }
//! ```

mod future;
mod io;
mod layer;
mod lend;
mod retry;
#[cfg(test)]
mod tests;

pub use self::{
    future::OnErrorFuture,
    io::Lent,
    layer::{OnError, OnErrorLayer},
    retry::Retry,
};
