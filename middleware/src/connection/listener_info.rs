//! Information that all connections of one listener share.

use super::late_options::SetOptions;
use crate::drain::DrainSignal;
use std::{any::Any, fmt, sync::Arc};

/// Information that all connections of one listener share.
#[derive(Clone, Default)]
pub struct ListenerInfo {
    name: Option<String>,
    drain: Option<DrainSignal>,
    server: Option<Arc<dyn Any + Send + Sync>>,
    /// Of connections that a connector has made.
    late_options: Option<Arc<SetOptions>>,
}

impl ListenerInfo {
    /// Without a name, a drain signal or a server.
    pub const fn new() -> Self {
        Self {
            name: None,
            drain: None,
            server: None,
            late_options: None,
        }
    }

    /// What connections of one connector share.
    pub(super) fn of_connector(late_options: Arc<SetOptions>) -> Self {
        Self {
            late_options: Some(late_options),
            ..Self::new()
        }
    }

    pub(super) fn late_options(&self) -> Option<&SetOptions> {
        self.late_options.as_deref()
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
