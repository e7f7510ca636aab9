//! The remote control of a server.

use super::{
    Config, Report,
    shared::Shared,
    status::{State, Status},
};
use portcullis_middleware::{ConnectionInfo, connection::ConnectionId, limit::LimitHandle};
use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};
use tokio::time::timeout;

/// The remote control of a server; clones control the same server.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    pub(super) fn new() -> Self {
        Self {
            shared: Arc::new(Shared::new()),
        }
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The handle of the server that accepted a connection; `None` without one, or when it is gone.
    ///
    /// ```
    /// use portcullis::{Connection, server::Handle};
    ///
    /// async fn stop_the_server<IO>(connection: Connection<IO>) {
    ///     if let Some(handle) = Handle::of(connection.info()) {
    ///         handle.stop();
    ///     }
    /// }
    /// ```
    pub fn of(info: &ConnectionInfo) -> Option<Self> {
        // Weak, because the report of a server's end holds infos of connections.
        let shared = info.server::<Weak<Shared>>()?.upgrade()?;
        Some(Self { shared })
    }

    /// The settings that the server started with; `None` before its start.
    pub fn config(&self) -> Option<&Config> {
        self.shared.config.get()
    }

    /// How the server is doing.
    pub fn status(&self) -> Status {
        let shared = &self.shared;
        Status {
            state: self.state(),
            accepted: shared.counters.accepted.load(Ordering::Relaxed),
            waiting: shared.counters.waiting.load(Ordering::Relaxed),
            active: shared.registry.active(),
            refused: shared.counters.refused(),
            limit: self.limit().map(LimitHandle::limit),
            outcomes: shared.counters.outcomes(),
            accept_errors: shared.accept_errors.by_kind(),
        }
    }

    /// Where the server is in its life.
    pub fn state(&self) -> State {
        *self.shared.state.borrow()
    }

    /// Leaves new connections in the kernel's queue; those that are there go on. False when the
    /// server is paused already or shuts down.
    ///
    /// A server that is stopped while it is paused accepts no connections during its announce time and can
    /// no longer be resumed. After that it serves the clients that wait in the queue.
    pub fn pause(&self) -> bool {
        self.shared.pause(true)
    }

    /// Accepts again. False when the server is not paused.
    pub fn resume(&self) -> bool {
        self.shared.pause(false)
    }

    /// The limit given to [`Server::limit`](super::Server::limit), if there is one.
    pub fn limit(&self) -> Option<&LimitHandle> {
        self.shared.limit.get()
    }

    /// Changes the limit given to [`Server::limit`](super::Server::limit); false without one.
    ///
    /// See [`LimitHandle::set_limit`].
    pub fn set_limit(&self, limit: usize) -> bool {
        self.limit()
            .inspect(|handle| handle.set_limit(limit))
            .is_some()
    }

    /// The connections that are alive, upgraded and handed-off ones included.
    ///
    /// Walks the table; meant for a look now and then.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.shared.registry.connections()
    }

    /// Closes one connection wherever it lives; false when there is none with that number.
    ///
    /// Its next operation fails, and one that waits wakes up; so does [`ConnectionInfo::closed`], which
    /// layers that have a connection wait in a queue look at. A service that waits for something else,
    /// or computes, learns of it at its next read or write.
    ///
    /// See [`ConnectionInfo::force_close`].
    pub fn close(&self, id: ConnectionId) -> bool {
        self.shared
            .registry
            .find(id)
            .inspect(ConnectionInfo::force_close)
            .is_some()
    }

    /// Resets one connection wherever it lives; false when there is none with that number.
    ///
    /// See [`ConnectionInfo::force_reset`].
    pub fn reset(&self, id: ConnectionId) -> bool {
        self.shared
            .registry
            .find(id)
            .inspect(ConnectionInfo::force_reset)
            .is_some()
    }

    /// Asks the server to end: it drains and stops. Returns at once; see [`wait`](Self::wait).
    ///
    /// On a server that has not started yet it holds from its start on.
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// Asks the server to end without waiting for its connections. Returns at once.
    pub fn stop_at_once(&self) {
        self.shared.stop_at_once();
    }

    /// Whether the server is over.
    pub fn is_stopped(&self) -> bool {
        self.state() == State::Stopped
    }

    /// Waits until the server is over, `on_stop` included.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping the future.
    pub async fn wait(&self) -> Report {
        let mut state = self.shared.state.subscribe();
        // Cannot fail: the sender lives as long as this handle.
        let _ = state.wait_for(|state| *state == State::Stopped).await;
        // The report is kept before the state says so.
        self.shared.report.get().cloned().unwrap_or_default()
    }

    /// Waits until the server is over, but no longer than `limit`.
    ///
    /// `None` when it is not over by then; it goes on.
    pub async fn wait_for(&self, limit: Duration) -> Option<Report> {
        timeout(limit, self.wait()).await.ok()
    }
}
