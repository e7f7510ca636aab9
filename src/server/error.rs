//! The error of a server that cannot start or go on.

use super::BrokenListener;
use std::{error::Error, fmt, io, sync::Arc};

/// A server could not start, a listener could not be added, or all listeners are broken.
#[derive(Debug)]
pub struct ServeError {
    kind: ServeErrorKind,
    source: Option<Arc<io::Error>>,
}

#[derive(Debug)]
enum ServeErrorKind {
    NoListener,
    Workers,
    Signals,
    Shard(String),
    Listener(String),
    NameTaken(String),
    NotRunning,
}

impl ServeError {
    pub(super) const fn no_listener() -> Self {
        Self::of(ServeErrorKind::NoListener)
    }

    pub(super) fn name_taken(name: &str) -> Self {
        Self::of(ServeErrorKind::NameTaken(name.to_owned()))
    }

    pub(super) const fn not_running() -> Self {
        Self::of(ServeErrorKind::NotRunning)
    }

    pub(super) fn workers(source: io::Error) -> Self {
        Self::with(ServeErrorKind::Workers, Arc::new(source))
    }

    pub(super) fn signals(source: io::Error) -> Self {
        Self::with(ServeErrorKind::Signals, Arc::new(source))
    }

    pub(super) fn shard(listener: &str, source: io::Error) -> Self {
        Self::with(ServeErrorKind::Shard(listener.to_owned()), Arc::new(source))
    }

    pub(super) fn listener(BrokenListener { name, error }: &BrokenListener) -> Self {
        Self::with(ServeErrorKind::Listener(name.clone()), error.clone())
    }

    const fn of(kind: ServeErrorKind) -> Self {
        Self { kind, source: None }
    }

    const fn with(kind: ServeErrorKind, source: Arc<io::Error>) -> Self {
        Self {
            kind,
            source: Some(source),
        }
    }

    /// Whether the server had no listener when it started.
    pub const fn is_no_listener(&self) -> bool {
        matches!(self.kind, ServeErrorKind::NoListener)
    }

    /// Whether another open listener of the server has this name.
    pub const fn is_name_taken(&self) -> bool {
        matches!(self.kind, ServeErrorKind::NameTaken(_))
    }

    /// Whether a listener was to be added to a server that has not started, shuts down or has stopped.
    pub const fn is_not_running(&self) -> bool {
        matches!(self.kind, ServeErrorKind::NotRunning)
    }

    /// Whether the server ran, and stopped because its last open listener had a fatal accept error.
    pub const fn is_broken_listener(&self) -> bool {
        matches!(self.kind, ServeErrorKind::Listener(_))
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ServeErrorKind::NoListener => {
                f.write_str("server has no listener: add one with `listen`")
            }
            ServeErrorKind::NameTaken(name) => write!(
                f,
                "listener name {name} is taken: choose another, or close that listener first"
            ),
            ServeErrorKind::NotRunning => f.write_str(
                "server is not running: add listeners to the `Server` before it starts, or to its \
                 handle until it stops",
            ),
            ServeErrorKind::Workers => f.write_str("worker threads could not be started"),
            ServeErrorKind::Signals => f.write_str("signal handlers could not be installed"),
            ServeErrorKind::Shard(name) => {
                write!(f, "listener {name} could not be shared between workers")
            }
            ServeErrorKind::Listener(name) => {
                write!(f, "listener {name} is broken, and no other works")
            }
        }
    }
}

impl Error for ServeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
