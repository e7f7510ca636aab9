//! State shared by a server's acceptors, connections, handle and drain.

use super::{
    Config, Report, clock::Clock, lifecycle::Lifecycle, recorder::Recorder, registry::Registry,
};
use portcullis_middleware::limit::LimitHandle;
use std::sync::{Arc, OnceLock};

/// State of one server.
#[derive(Debug)]
pub(crate) struct SharedState {
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) recorder: Recorder,
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
            lifecycle: Arc::new(Lifecycle::new()),
            recorder: Recorder::default(),
            registry: Arc::new(Registry::default()),
            clock: Clock::default(),
            report: OnceLock::new(),
            config: OnceLock::new(),
            limit: OnceLock::new(),
        }
    }
}
