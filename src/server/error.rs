//! Why a server could not start or go on.

use super::BrokenListener;
use std::{error::Error, fmt, io, sync::Arc};

/// A server could not start, or no listener of it works any more.
#[derive(Debug)]
pub struct ServeError {
    kind: Kind,
    source: Option<Arc<io::Error>>,
}

#[derive(Debug)]
enum Kind {
    NoListener,
    Workers,
    Signals,
    Shard(String),
    Listener(String),
}

impl ServeError {
    pub(super) const fn no_listener() -> Self {
        Self {
            kind: Kind::NoListener,
            source: None,
        }
    }

    pub(super) fn workers(source: io::Error) -> Self {
        Self::with(Kind::Workers, Arc::new(source))
    }

    pub(super) fn signals(source: io::Error) -> Self {
        Self::with(Kind::Signals, Arc::new(source))
    }

    pub(super) fn shard(listener: &str, source: io::Error) -> Self {
        Self::with(Kind::Shard(listener.to_owned()), Arc::new(source))
    }

    pub(super) fn listener(BrokenListener { name, error }: &BrokenListener) -> Self {
        Self::with(Kind::Listener(name.clone()), error.clone())
    }

    const fn with(kind: Kind, source: Arc<io::Error>) -> Self {
        Self {
            kind,
            source: Some(source),
        }
    }

    /// Whether the server had no listener to begin with.
    pub const fn is_no_listener(&self) -> bool {
        matches!(self.kind, Kind::NoListener)
    }

    /// Whether the server ran, and ended because accept failed for good on every listener.
    pub const fn is_broken_listener(&self) -> bool {
        matches!(self.kind, Kind::Listener(_))
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::NoListener => f.write_str("server has no listener: add one with `listen`"),
            Kind::Workers => f.write_str("worker threads could not be started"),
            Kind::Signals => f.write_str("signal handlers could not be installed"),
            Kind::Shard(name) => write!(f, "listener {name} could not be shared between workers"),
            Kind::Listener(name) => write!(f, "listener {name} is broken, and no other works"),
        }
    }
}

impl Error for ServeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
