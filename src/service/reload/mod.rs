//! Replaces a stack while it serves.
//!
//! [`Reload`] is a service that passes each connection to the stack that is current when the connection is admitted.
//! Its [`ReloadHandle`] replaces that stack, for example after a configuration file has changed. Connections that are
//! already admitted keep the stack that they have, and none is lost: the listener stays open, and no second process
//! is needed.
//!
//! The old and the new stack have the same type. If their layers differ, box them with
//! [`BoxCloneSyncService`](tower::util::BoxCloneSyncService). What should outlast a reload, such as the count of a
//! [`ConnectionLimitLayer`](portcullis_middleware::limit::ConnectionLimitLayer) or a `TlsLayer`, is created once and
//! put into both stacks by a clone.
//!
//! # Position in the stack
//!
//! Around the whole stack, right at the listener, or around a part of it, such as the services inside of TLS. Each
//! acceptor waits for readiness with one connection, and takes the new stack if one arrives meanwhile. So an old
//! limit that is full does not hold up a larger new one.
//!
//! # Errors and outcomes
//!
//! Those of the current stack. This service adds none.
//!
//! # Cancellation and drop
//!
//! A service that waits and is dropped leaves the list of waiting ones. The old stack is dropped by
//! [`swap`](ReloadHandle::swap), or with the last connection that it has admitted. Without any handle, the stack
//! stays as it is.
//!
//! # Limitations
//!
//! A stack that is ready and not yet called is used, even if a new one has arrived in between.
//!
//! # Performance
//!
//! One lock for each connection, held while the stack is cloned. Reads and writes are not affected.
//!
//! # Example
//!
//! ```
//! use portcullis::{
//!     Connection, Server, ServiceBuilderExt, connection::Socket, listener::MemoryListener, server::Stack,
//!     service::Reload,
//! };
//! use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
//! use tower::{ServiceBuilder, util::BoxCloneSyncService};
//!
//! /// A stack that was built from a configuration.
//! fn stack(greeting: &'static str) -> impl Stack<DuplexStream> {
//!     ServiceBuilder::new()
//!         .peer_addr()
//!         .service_fn(move |mut connection: Connection<Socket<DuplexStream>>| async move {
//!             connection.write_all(greeting.as_bytes()).await
//!         })
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis::BoxError> {
//! let (reload, current) = Reload::pair(stack("hello"));
//! let (listener, connector) = MemoryListener::pair();
//! let server = Server::new().listen(listener, reload).spawn()?;
//!
//! let mut received = String::new();
//! connector.connect()?.read_to_string(&mut received).await?;
//! current.swap(stack("good day"));
//! connector.connect()?.read_to_string(&mut received).await?;
//! assert_eq!(received, "hellogood day");
//! # server.stop();
//! # server.wait().await;
//! # Ok(())
//! # }
//! ```

mod service;
#[cfg(test)]
mod tests;

pub use self::service::{Reload, ReloadHandle};

mod sync {
    pub(super) use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
}
