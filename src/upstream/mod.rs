//! Pools of servers that connections are forwarded to.
//!
//! A [`Pool`] chooses a [`Server`] for each connection and connects to it, or to the next one if that fails. It is a
//! [`tower::Service`] of the client's [`ConnectionInfo`](crate::ConnectionInfo) and returns the connection to the
//! server, which counts as one of the server's until it is dropped.
//!
//! ```
//! use portcullis::upstream::{Pool, Server};
//! use tokio::io::AsyncReadExt;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis::BoxError> {
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let address = listener.local_addr()?.to_string();
//! # tokio::spawn(async move {
//! #     let (mut stream, _) = listener.accept().await?;
//! #     tokio::io::AsyncWriteExt::write_all(&mut stream, b"Hello!").await
//! # });
//! # let peer: std::net::SocketAddr = "198.51.100.7:40000".parse()?;
//! # let client = portcullis::ConnectionInfo::new(peer, peer);
//! let server: Server = address.parse()?; // "10.0.1.10:8080"
//! let pool = Pool::new([server]);
//!
//! // `client` is the info of the connection that is forwarded.
//! let mut connection = pool.connect(&client).await?;
//! let mut received = String::new();
//! connection.read_to_string(&mut received).await?;
//! assert_eq!(received, "Hello!");
//! # Ok(())
//! # }
//! ```

mod backend_io;
mod balance;
mod builder;
mod checker;
mod connect;
mod dial;
mod ejection;
mod endpoints;
mod error;
mod events;
mod health;
mod jitter;
mod member;
mod pool;
mod probe;
mod queue;
mod server;
mod standing;
mod status;
mod task;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
mod tls;

#[cfg(feature = "tls")]
pub use self::tls::{ServerPrelude, ServerTls};
pub use self::{
    backend_io::BackendIo,
    balance::Balance,
    builder::PoolBuilder,
    connect::ConnectFuture,
    error::{FailedConnect, NoBackend, NoBackendReason},
    health::{CheckReport, HealthCheck, OnDown},
    pool::Pool,
    server::{Server, ServerAddress, ServerKey},
    status::{ServerState, ServerStatus},
};
