//! The layer and its settings.

use super::{Closed, Trace};
use crate::{connection::ConnectionInfo, log_limit::LogLimit};
use std::{fmt, sync::Arc, time::Duration};
use tower::Layer;
use tracing::Level;

/// Layer for [`Trace`]; see the [module docs](super).
#[derive(Clone, Debug, Default)]
pub struct TraceLayer {
    settings: TraceSettings,
}

impl TraceLayer {
    /// Traces at level INFO, without a name or callbacks.
    pub const fn new() -> Self {
        Self {
            settings: TraceSettings::new(),
        }
    }

    /// Sets the name that messages begin with; by default the name of the listener, if any.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = Some(name.into());
        self
    }

    /// Sets the level of the span and of both events; by default INFO.
    #[must_use]
    pub const fn with_level(mut self, level: Level) -> Self {
        self.settings.level = level;
        self
    }

    /// Logs at most `connections_per_second` connections; by default all.
    ///
    /// Both events of a connection are logged or both are suppressed, whatever its outcome. The first event
    /// after a gap has the field `suppressed`, the number of connections without events before it. Clones of
    /// the layer share the limit. It does not apply to spans and callbacks.
    ///
    /// ```
    /// use portcullis_middleware::observe::TraceLayer;
    ///
    /// let trace = TraceLayer::new().with_rate_limit(100);
    /// ```
    #[must_use]
    pub fn with_rate_limit(mut self, connections_per_second: u32) -> Self {
        let limit = LogLimit::new(connections_per_second, Duration::from_secs(1));
        self.settings.limit = Some(Arc::new(limit));
        self
    }

    /// Calls `on_open` for each connection, before the inner service is called with it.
    ///
    /// It runs in the span of the connection. Several callbacks run in the order in which they were added.
    ///
    /// # Panics
    ///
    /// A panic of `on_open` propagates through `call` and omits the callbacks after it. The connection is dropped
    /// and reported closed as [`Panicked`](crate::outcome::Outcome::Panicked).
    #[must_use]
    pub fn on_open(mut self, on_open: impl Fn(&ConnectionInfo) + Send + Sync + 'static) -> Self {
        self.settings.on_open.push(Arc::new(on_open));
        self
    }

    /// Calls `on_close` exactly once for each opened connection, after its end.
    ///
    /// It runs in the span of the connection, before the closing event. Several callbacks run in the order in
    /// which they were added.
    ///
    /// # Panics
    ///
    /// A panic of `on_close` propagates through the future of the service, or out of its drop, and omits the
    /// callbacks after it and the closing event. During another panic it is caught, because a second panic would abort the process.
    #[must_use]
    pub fn on_close(mut self, on_close: impl Fn(&Closed<'_>) + Send + Sync + 'static) -> Self {
        self.settings.on_close.push(Arc::new(on_close));
        self
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Trace<S> {
        Trace::new(inner, Arc::new(self.settings.clone()))
    }
}

/// Settings shared by all connections of a layer.
#[derive(Clone)]
pub(super) struct TraceSettings {
    pub(super) name: Option<String>,
    pub(super) level: Level,
    pub(super) limit: Option<Arc<LogLimit>>,
    pub(super) on_open: Vec<Arc<OnOpen>>,
    pub(super) on_close: Vec<Arc<OnClose>>,
}

type OnOpen = dyn Fn(&ConnectionInfo) + Send + Sync;
type OnClose = dyn Fn(&Closed<'_>) + Send + Sync;

impl TraceSettings {
    const fn new() -> Self {
        Self {
            name: None,
            level: Level::INFO,
            limit: None,
            on_open: Vec::new(),
            on_close: Vec::new(),
        }
    }

    pub(super) const fn has_callback(&self) -> bool {
        !self.on_open.is_empty() || !self.on_close.is_empty()
    }
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TraceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceSettings")
            .field("name", &self.name)
            .field("level", &self.level)
            .field("limit", &self.limit)
            .field("on_open", &self.on_open.len())
            .field("on_close", &self.on_close.len())
            .finish()
    }
}
