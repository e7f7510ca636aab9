//! The layer, and what can be set on it.

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
    /// Reports at level INFO, without a name and without callbacks.
    pub const fn new() -> Self {
        Self {
            settings: TraceSettings::new(),
        }
    }

    /// Names the server: the lines begin with it. Default: the name of the listener, if any.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = Some(name.into());
        self
    }

    /// Level of the span and of both lines. Default: INFO.
    #[must_use]
    pub const fn with_level(mut self, level: Level) -> Self {
        self.settings.level = level;
        self
    }

    /// Writes the lines of at most `connections_per_second` connections. Default: of all.
    ///
    /// A connection has both its lines or neither, whatever its outcome. The next first line after a gap
    /// has the field `left_out`, the number of connections without lines before it. Clones of the layer
    /// share the limit; spans and callbacks are not limited.
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
    /// It runs in the span of the connection, whether or not anybody listens to that. A second one
    /// takes the place of the first.
    ///
    /// # Panics
    ///
    /// A panic of `on_open` goes on through `call`; the connection is dropped, and reported closed
    /// as [`Panicked`](crate::outcome::Outcome::Panicked).
    #[must_use]
    pub fn on_open(mut self, on_open: impl Fn(&ConnectionInfo) + Send + Sync + 'static) -> Self {
        self.settings.on_open = Some(Arc::new(on_open));
        self
    }

    /// Calls `on_close` exactly once for each connection that was opened, when it ended.
    ///
    /// It runs in the span of the connection, before the last line is written. A second one takes
    /// the place of the first.
    ///
    /// # Panics
    ///
    /// A panic of `on_close` goes on through the future of the service, or out of its drop; the last
    /// line is lost then. While another panic unwinds it is caught, for two at a time would abort
    /// the process.
    #[must_use]
    pub fn on_close(mut self, on_close: impl Fn(&Closed<'_>) + Send + Sync + 'static) -> Self {
        self.settings.on_close = Some(Arc::new(on_close));
        self
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Trace<S> {
        Trace::new(inner, Arc::new(self.settings.clone()))
    }
}

/// What all connections of a layer have in common.
#[derive(Clone)]
pub(super) struct TraceSettings {
    pub(super) name: Option<String>,
    pub(super) level: Level,
    pub(super) limit: Option<Arc<LogLimit>>,
    pub(super) on_open: Option<Arc<OnOpen>>,
    pub(super) on_close: Option<Arc<OnClose>>,
}

type OnOpen = dyn Fn(&ConnectionInfo) + Send + Sync;
type OnClose = dyn Fn(&Closed<'_>) + Send + Sync;

impl TraceSettings {
    const fn new() -> Self {
        Self {
            name: None,
            level: Level::INFO,
            limit: None,
            on_open: None,
            on_close: None,
        }
    }

    pub(super) const fn has_callback(&self) -> bool {
        self.on_open.is_some() || self.on_close.is_some()
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
            .field("on_open", &self.on_open.is_some())
            .field("on_close", &self.on_close.is_some())
            .finish()
    }
}
