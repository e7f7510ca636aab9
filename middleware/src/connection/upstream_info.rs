//! The backend to which a connection is forwarded, and which side ended it.

use super::Address;
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// The backend to which a connection is forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpstreamInfo {
    /// The name of the pool that chose the server, if a pool did.
    pub pool: Option<Arc<str>>,
    /// The name of the server.
    pub server: Arc<str>,
    /// The address of the server; the peer address of the connection to it.
    pub address: Address,
    /// The time from the call of the connector to the established connection, including failed attempts.
    pub connect_time: Duration,
    /// The time at which the connection to it was established.
    pub connected_at: Option<Instant>,
}

impl UpstreamInfo {
    /// The server `server` at `address`, outside of a pool. The connect time is zero.
    pub fn new(server: impl Into<Arc<str>>, address: Address) -> Self {
        Self {
            pool: None,
            server: server.into(),
            address,
            connect_time: Duration::ZERO,
            connected_at: None,
        }
    }

    /// Sets the name of the pool that chose the server.
    #[must_use]
    pub fn with_pool(mut self, pool: impl Into<Arc<str>>) -> Self {
        self.pool = Some(pool.into());
        self
    }

    /// Sets how long it took to connect.
    #[must_use]
    pub const fn with_connect_time(mut self, connect_time: Duration) -> Self {
        self.connect_time = connect_time;
        self
    }

    /// Sets when the connection was established.
    #[must_use]
    pub const fn with_connected_at(mut self, connected_at: Instant) -> Self {
        self.connected_at = Some(connected_at);
        self
    }
}

/// The side that ended a forwarded connection, by the first end of a stream, reset or error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndedBy {
    /// The client.
    Client,
    /// The backend.
    Backend,
    /// This process, by a timeout, a forced close or a drain for example.
    Gate,
}

impl EndedBy {
    /// The name for metrics and log fields, in snake case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
            Self::Gate => "gate",
        }
    }
}

impl fmt::Display for EndedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
