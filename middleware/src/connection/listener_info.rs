//! What all connections of one listener have in common.

use crate::drain::DrainSignal;
use std::{any::Any, fmt, sync::Arc};

/// What all connections of one listener have in common.
#[derive(Clone, Default)]
pub struct ListenerInfo {
    name: Option<String>,
    drain: Option<DrainSignal>,
    server: Option<Arc<dyn Any + Send + Sync>>,
}

impl ListenerInfo {
    /// No name, no drain.
    pub const fn new() -> Self {
        Self {
            name: None,
            drain: None,
            server: None,
        }
    }

    /// Names the listener, for logs and handlers.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Name of the listener, where it has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Tells the connections of a coming end through `drain`.
    #[must_use]
    pub fn with_drain(mut self, drain: DrainSignal) -> Self {
        self.drain = Some(drain);
        self
    }

    /// Gives handlers a way to the server that the listener belongs to, whatever that is.
    #[must_use]
    pub fn with_server(mut self, server: impl Any + Send + Sync) -> Self {
        self.server = Some(Arc::new(server));
        self
    }

    pub(super) fn drain(&self) -> Option<&DrainSignal> {
        self.drain.as_ref()
    }

    pub(super) fn server<T: 'static>(&self) -> Option<&T> {
        self.server.as_ref()?.downcast_ref()
    }
}

impl fmt::Debug for ListenerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerInfo")
            .field("name", &self.name)
            .field("drain", &self.drain)
            .finish_non_exhaustive()
    }
}
