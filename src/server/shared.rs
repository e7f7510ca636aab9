//! State shared by a server's listeners, handle and drain.

use super::{
    Config, Report, clock::Clock, lifecycle::Lifecycle, listeners::Listeners, registry::Registry,
};
use portcullis_middleware::limit::LimitHandle;
use std::sync::{Arc, OnceLock};

/// State of one server.
#[derive(Debug)]
pub(crate) struct SharedState {
    pub(super) lifecycle: Lifecycle,
    pub(super) listeners: Listeners,
    pub(crate) registry: Arc<Registry>,
    pub(super) clock: Clock,
    pub(super) report: OnceLock<Report>,
    pub(super) config: OnceLock<Config>,
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
            limit: OnceLock::new(),
        }
    }
}
