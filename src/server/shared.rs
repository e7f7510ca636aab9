//! State shared by a server's listeners, handle and drain.

use super::{
    Config, Drain, Report, clock::Clock, drain::Schedule, lifecycle::Lifecycle,
    listeners::Listeners, registry::Registry,
};
use portcullis_middleware::limit::LimitHandle;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// State of one server.
#[derive(Debug)]
pub(crate) struct SharedState {
    pub(super) lifecycle: Lifecycle,
    pub(super) listeners: Listeners,
    pub(crate) registry: Arc<Registry>,
    pub(super) clock: Clock,
    pub(super) report: OnceLock<Report>,
    pub(super) config: OnceLock<Config>,
    /// Replaces the drain that the server was built with.
    drain: Mutex<Option<Drain>>,
    /// That of the shutdown, once it has begun.
    pub(super) schedule: OnceLock<Schedule>,
    /// The limit that the handle shows and changes.
    pub(super) limit: OnceLock<LimitHandle>,
}

impl SharedState {
    pub(super) fn new() -> Self {
        Self {
            lifecycle: Lifecycle::new(),
            listeners: Listeners::default(),
            registry: Arc::new(Registry::default()),
            clock: Clock::default(),
            report: OnceLock::new(),
            config: OnceLock::new(),
            drain: Mutex::default(),
            schedule: OnceLock::new(),
            limit: OnceLock::new(),
        }
    }

    /// The drain that replaces that of the builder.
    pub(super) fn drain(&self) -> Option<Drain> {
        let drain = self.drain.lock().unwrap_or_else(PoisonError::into_inner);
        drain.clone()
    }

    pub(super) fn set_drain(&self, drain: Drain) {
        *self.drain.lock().unwrap_or_else(PoisonError::into_inner) = Some(drain);
    }
}
