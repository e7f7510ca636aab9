//! Controls and observes a running server.

use super::{
    Config, Report,
    shared::SharedState,
    status::{State, Status},
};
use portcullis_middleware::{ConnectionInfo, connection::ConnectionId, limit::LimitHandle};
use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};
use tokio::time::timeout;

/// Controls and observes a server. Clones refer to the same server.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<SharedState>,
}

impl Handle {
    pub(super) fn new() -> Self {
        Self {
            shared: Arc::new(SharedState::new()),
        }
    }

    pub(crate) const fn shared(&self) -> &Arc<SharedState> {
        &self.shared
    }

    /// The handle of the server that accepted a connection. `None` without a server, or after it was dropped.
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
        // Weak, because the server's report holds connection infos.
        let shared = info.server::<Weak<SharedState>>()?.upgrade()?;
        Some(Self { shared })
    }

    /// The settings that the server started with. `None` before its start.
    pub fn config(&self) -> Option<&Config> {
        self.shared.config.get()
    }

    /// A snapshot of state, counters and limit.
    pub fn status(&self) -> Status {
        let SharedState {
            recorder, registry, ..
        } = &*self.shared;
        Status {
            state: self.state(),
            accepted: recorder.counters.accepted.load(Ordering::Relaxed),
            waiting: recorder.counters.waiting.load(Ordering::Relaxed),
            active: registry.active(),
            refused: recorder.counters.refused(),
            limit: self.limit().map(LimitHandle::limit),
            outcomes: recorder.counters.outcomes(),
            accept_errors: recorder.accept_errors.by_kind(),
        }
    }

    /// The state of the server.
    pub fn state(&self) -> State {
        self.shared.lifecycle.state()
    }

    /// Leaves new connections in the kernel's queue, while accepted ones go on.
    ///
    /// False if the server is paused already or shuts down. A server that is stopped while it is paused accepts no
    /// connections during its notice period, and can no longer be resumed. After that it serves the clients that
    /// wait in the queue.
    pub fn pause(&self) -> bool {
        self.shared.lifecycle.pause()
    }

    /// Accepts again. False if the server is not paused.
    pub fn resume(&self) -> bool {
        self.shared.lifecycle.resume()
    }

    /// The limit given to [`Server::limit`](super::Server::limit), if any.
    pub fn limit(&self) -> Option<&LimitHandle> {
        self.shared.limit.get()
    }

    /// Changes the limit given to [`Server::limit`](super::Server::limit). False without one.
    ///
    /// See [`LimitHandle::set_limit`].
    pub fn set_limit(&self, limit: usize) -> bool {
        self.limit()
            .inspect(|handle| handle.set_limit(limit))
            .is_some()
    }

    /// The connections that are alive, including upgraded and handed-off ones.
    ///
    /// Walks the whole table, so call it rarely.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.shared.registry.connections()
    }

    /// Closes the connection with this number. False if there is none.
    ///
    /// A pending operation and the next one fail, and [`ConnectionInfo::closed`] resolves, which layers with a
    /// queue await. A service that computes or awaits something else notices it at its next read or write.
    ///
    /// See [`ConnectionInfo::force_close`].
    pub fn close(&self, id: ConnectionId) -> bool {
        self.shared
            .registry
            .find(id)
            .inspect(ConnectionInfo::force_close)
            .is_some()
    }

    /// Resets the connection with this number. False if there is none.
    ///
    /// See [`ConnectionInfo::force_reset`].
    pub fn reset(&self, id: ConnectionId) -> bool {
        self.shared
            .registry
            .find(id)
            .inspect(ConnectionInfo::force_reset)
            .is_some()
    }

    /// Starts a graceful shutdown and returns immediately; see [`wait`](Self::wait).
    ///
    /// A server that has not started yet shuts down when it starts.
    pub fn stop(&self) {
        self.shared.lifecycle.stop();
    }

    /// Shuts the server down without waiting for its connections, and returns immediately.
    pub fn stop_at_once(&self) {
        self.shared.lifecycle.stop_now();
    }

    /// Whether the server has stopped.
    pub fn is_stopped(&self) -> bool {
        self.state() == State::Stopped
    }

    /// Waits until the server has stopped and all `on_stop` hooks have run.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time. The server goes on.
    pub async fn wait(&self) -> Report {
        self.shared.lifecycle.stopped().await;
        // The report is stored before the state changes.
        self.shared.report.get().cloned().unwrap_or_default()
    }

    /// Waits until the server has stopped, for up to `limit`.
    ///
    /// Returns `None` after that, and the server goes on.
    pub async fn wait_for(&self, limit: Duration) -> Option<Report> {
        timeout(limit, self.wait()).await.ok()
    }
}
