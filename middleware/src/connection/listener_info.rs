//! Information that all connections of one listener share.

use crate::drain::DrainSignal;
use std::{any::Any, fmt, sync::Arc};

/// Information that all connections of one listener share.
#[derive(Clone, Default)]
pub struct ListenerInfo {
    name: Option<String>,
    drain: Option<DrainSignal>,
    server: Option<Arc<dyn Any + Send + Sync>>,
}

impl ListenerInfo {
    /// Without a name, a drain signal or a server.
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

    /// The listener's name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Notifies the connections of a graceful shutdown through `drain`.
    #[must_use]
    pub fn with_drain(mut self, drain: DrainSignal) -> Self {
        self.drain = Some(drain);
        self
    }

    /// Gives handlers access to the server that the listener belongs to, of any type.
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
