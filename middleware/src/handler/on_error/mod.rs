//! Hands failed connections, still open, to a handler.
//!
//! The exception handler of a stack: when the inner service fails or panics, the handler gets the
//! error and the connection, so that it can say something to the client. What the handler answers
//! is the outcome. Where the inner service succeeds, the handler is not called.
//!
//! The IO is lent to the inner service, as [`Connection<Lent<IO>>`](Lent). It comes back when the
//! inner service drops it: by return, error or panic, however it was wrapped. The handler gets
//! `None` for the connection when it did not come back:
//!
//! - it was handed to another task and is still alive there (it is not waited for),
//! - it was [detached](crate::Connection::detach) or taken out of [`Lent`],
//! - it was [aborted](crate::Connection::abort) or closed from outside.
//!
//! What it gets is the connection as the layer was called with it: the same info, the extensions as
//! they were, and the guards (permits, registry entries). Guards are released when the
//! connection is really over, be it in the handler, in the inner service, or in another task long
//! after. Bytes that a wrapper inside had read or not yet written are gone with the wrapper.
//!
//! # Place in the stack
//!
//! Inside [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer), outside of what may fail. It sees the
//! bytes as they are at its place. Outside of a TLS layer the handler can only close or abort:
//! plaintext after a TLS alert is useless, so put a handler that answers inside. Several may be
//! nested; each gets what the one within returns as an error.
//!
//! # What it does not
//!
//! - It does not end the connection politely: a handler that answers ends with
//!   [`close`](crate::Connection::close), or the client may lose the answer.
//! - It bounds no time: neither that of the inner service nor that of the handler.
//! - It catches no panic of the handler.
//! - It cannot tell that the inner service is done with the IO and only tidies up: a connection
//!   that is dropped early closes when the inner future ends. `close` and `abort` act at once.
//!
//! Dropping the future drops the connection, wherever it is, except in another task.
//!
//! The cost: two small allocations and two uncontended locks per connection, none per operation.
//!
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
//!             return Err(error); // another task has it
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
//!
//! A handler may also go on: call the inner service again on the same connection; see
//! [`OnErrorLayer::with_retry`].

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
