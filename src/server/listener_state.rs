//! State shared by a listener's acceptors, connections, handle and drain.

use super::{
    Report, Status,
    lifecycle::Lifecycle,
    recorder::Recorder,
    registry::{ListenerKey, Registry},
};
#[cfg(unix)]
use crate::listener::WeakSocket;
use portcullis_middleware::limit::LimitHandle;
use std::sync::{Arc, OnceLock, atomic::Ordering};

/// State of one listener.
///
/// It does not refer to its server, which refers to it.
#[derive(Debug)]
pub(crate) struct ListenerState {
    pub(super) name: String,
    pub(super) lifecycle: Lifecycle,
    pub(super) recorder: Recorder,
    pub(super) registry: Arc<Registry>,
    pub(super) key: ListenerKey,
    pub(super) report: OnceLock<Report>,
    /// How many connections had ended when the server's own drain began, if it has.
    pub(super) gone_at_server_drain: OnceLock<u64>,
    /// The limit that the handle shows and changes.
    pub(super) limit: OnceLock<LimitHandle>,
    /// The sockets that can be handed over to another process.
    #[cfg(unix)]
    pub(super) sockets: OnceLock<Vec<WeakSocket>>,
}

impl ListenerState {
    pub(super) fn new(name: String, registry: Arc<Registry>) -> Self {
        Self {
            name,
            lifecycle: Lifecycle::new(),
            recorder: Recorder::default(),
            key: registry.add_listener(),
            registry,
            report: OnceLock::new(),
            gone_at_server_drain: OnceLock::new(),
            limit: OnceLock::new(),
            #[cfg(unix)]
            sockets: OnceLock::new(),
        }
    }

    /// How many accepted connections have ended.
    pub(super) fn gone(&self) -> u64 {
        let unserved = self.recorder.counters.unserved.load(Ordering::Relaxed);
        self.registry.gone(self.key) + unserved
    }

    pub(super) fn status(&self) -> Status {
        Status::new(
            self.lifecycle.state(),
            &self.recorder.counters,
            self.registry.active_of(self.key),
            self.limit.get(),
        )
    }
}
