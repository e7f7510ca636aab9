//! Pools of servers that connections are forwarded to.
//!
//! A [`Pool`] chooses a [`Server`] for each connection and connects to it, or to the next one if that fails. It is a
//! [`tower::Service`] of the client's [`ConnectionInfo`](crate::ConnectionInfo) and returns the connection to the
//! server, so that [`ForwardService`](crate::service::ForwardService) takes it as its backend. The chapter [Put a gate
//! before a service](crate::docs::gate) introduces pools step by step.
//!
//! # Servers
//!
//! A server has an address (TCP or a Unix domain socket), a weight, and optionally a limit of connections, TLS, and a
//! PROXY header that names the client. A pool gets its servers from
//!
//! - a list ([`Pool::new`], [`PoolBuilder::build`]), which [`Pool::replace`] replaces at run time;
//! - host names in such a list, which are resolved every 30 s, each address as a server of its own. An answer that
//!   fails keeps the last one;
//! - SRV records (feature `dns`), as in `"srv:_postgresql._tcp.internal"`. They contain ports, weights and priorities; servers that
//!   have not the lowest priority are backups. With [DNS](PoolBuilder::with_dns), names and records are resolved when
//!   their time to live is over;
//! - a stream of [`tower::discover::Change`]s ([`PoolBuilder::follow`]), for example of a service registry.
//!
//! A server that vanishes gets no new connections and keeps those that it has, [five
//! minutes](PoolBuilder::with_drain_timeout) at most. [`Pool::reconfigure`] replaces the settings of a pool in use.
//!
//! # Choice
//!
//! [`Balance`] chooses among the servers that can be used and have capacity. The servers of a row are used while those
//! of the rows above cannot be:
//!
//! | servers | used |
//! |---|---|
//! | that are up | first |
//! | [backups](Server::with_backup) that are up | if all others have failed or cannot be used |
//! | that are [ejected](PoolBuilder::with_ejection) | because they are better than none |
//! | that are down | [on request](PoolBuilder::with_unhealthy_as_last_resort) |
//!
//! A server that has as many connections as [allowed](Server::with_max_connections) can still be used, but has no
//! capacity. If that is so for all servers of a row, connections [wait](PoolBuilder::with_queue) in the order of their
//! arrival.
//!
//! Once a connect has failed for a client, servers whose last connect failed come after the backups. The time
//! that is left thus goes to servers that work.
//!
//! # Limits
//!
//! | limit | default |
//! |---|---|
//! | [an attempt](PoolBuilder::with_attempt_timeout), with PROXY header and TLS handshake | 3 s |
//! | [servers tried for a connection](PoolBuilder::with_max_attempts) | 32, each once |
//! | [a connect in all](PoolBuilder::with_timeout), with waiting | 10 s |
//! | [waiting connections](PoolBuilder::with_queue) | 1024, 5 s each |
//! | [failures in a row before an ejection](PoolBuilder::with_ejection) | 5, then 10 s doubling up to 5 min, at most half of the servers |
//! | [health checks](HealthCheck) | off; every 5 s, 2 s each, down after 3, up after 2 |
//! | [slow start](PoolBuilder::with_slow_start) | 30 s |
//!
//! # Errors
//!
//! [`NoBackend`] contains each server that was tried with its error, and the state of the others. Failures of this
//! machine, such as exhausted file descriptors or local ports, are not counted against a server.
//!
//! # Cancellation and drop
//!
//! Dropping a connect drops its attempt or leaves the queue, and the server no longer counts it. An attempt that is
//! dropped counts neither as a success nor as a failure. The connection counts until it is dropped. Tasks that check
//! servers and resolve names end when the last clone of the pool is dropped.
//!
//! # Limitations
//!
//! - A connect fails when its time is over, also if the next server would have answered. With the defaults, three silent
//!   servers leave the fourth one second, while a refusal takes a moment.
//! - Only connects are repeated. Once a server is connected to, its failure ends the connection of the client.
//! - Under TLS 1.3 a server rejects a client certificate after the handshake. Its connects count as successes, so use a
//!   health check that waits for an answer.
//! - Connections are not reused, because a forwarder does not know where a request ends.
//! - The time to live of DNS answers is unknown to the resolver of the system, so the interval is fixed without the
//!   feature `dns`.
//!
//! # Metrics
//!
//! With the feature `metrics`, each server exports whether it is up and whether it is ejected, its connections and its
//! connects. The page of `observe::metrics` lists them. A host name has one series for all its addresses. Each other name
//! of a server has series of its own, which stay, so give the servers of a registry names from a limited set.
//!
//! # Performance
//!
//! A choice copies references to the list of servers and to the settings, each under a read lock, and reads a few
//! atomics of each server. Above 64 servers of equal weights, [`Balance::LeastConnections`] looks at two.
//! [`Balance::RoundRobin`] takes a lock. A connect takes the lock of its server twice to record the connection, and its
//! end once. The connection itself is not wrapped, so reads and writes cost nothing.
//!
//! # Panics
//!
//! A pool of servers with host names or health checks starts tasks, so making it panics outside of a tokio runtime.
//!
//! # Example
//!
//! ```
//! use portcullis::upstream::{Balance, HealthCheck, Pool, Server};
//! use std::time::Duration;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis::BoxError> {
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let address = listener.local_addr()?.to_string();
//! # tokio::spawn(async move {
//! #     while let Ok((mut stream, _)) = listener.accept().await {
//! #         tokio::io::AsyncWriteExt::write_all(&mut stream, b"+PONG\r\n").await.ok();
//! #     }
//! # });
//! # let peer: std::net::SocketAddr = "198.51.100.7:40000".parse()?;
//! # let client = portcullis::ConnectionInfo::new(peer, peer);
//! let first: Server = address.parse()?; // "10.0.2.1:6379"
//! let spare: Server = "spare.internal:6379".parse()?;
//! let pool = Pool::builder()
//!     .with_name("redis")
//!     .with_balance(Balance::First)
//!     .with_health_check(HealthCheck::exchange("PING\r\n", "+PONG"))
//!     .with_timeout(Duration::from_secs(5))
//!     .build([first.with_max_connections(1000), spare.with_backup(true)]);
//!
//! // `client` is the info of the connection that is forwarded.
//! let mut connection = pool.connect(&client).await?;
//! connection.write_all(b"PING\r\n").await?;
//! let mut reply = [0; 7];
//! connection.read_exact(&mut reply).await?;
//! assert_eq!(&reply, b"+PONG\r\n");
//! assert_eq!(pool.servers()[0].connections, 1);
//! # Ok(())
//! # }
//! ```

mod backend_io;
mod balance;
mod builder;
mod checker;
mod connect;
mod dial;
#[cfg(feature = "dns")]
mod dns;
mod ejection;
mod endpoints;
mod error;
mod events;
mod health;
mod jitter;
mod local;
mod member;
mod meters;
mod pool;
mod presented;
mod probe;
mod queue;
mod reconfigure;
mod resolve;
mod server;
mod skip_greeting;
mod standing;
mod status;
mod task;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
mod tls;

#[cfg(feature = "dns")]
pub use self::dns::{Dns, SrvName};
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
    skip_greeting::SkipGreeting,
    standing::ServerRequest,
    status::{ServerState, ServerStatus},
};
