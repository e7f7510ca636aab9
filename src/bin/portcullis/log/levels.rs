//! Which messages are written, changeable at run time.

use super::access;
use portcullis::middleware::telemetry;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use tracing::{
    Level, Metadata, Subscriber, callsite::rebuild_interest_cache, level_filters::LevelFilter,
    subscriber::Interest,
};
use tracing_subscriber::{Layer, layer::Context};

/// A filter, whose clones are the same one.
#[derive(Clone)]
pub(super) struct Levels(Arc<State>);

struct State {
    /// A position in [`LEVELS`].
    level: AtomicUsize,
    /// Whether access lines are written.
    access: AtomicBool,
}

const LEVELS: [Level; 5] = [
    Level::ERROR,
    Level::WARN,
    Level::INFO,
    Level::DEBUG,
    Level::TRACE,
];

impl Levels {
    pub(super) fn new(level: Level) -> Self {
        Self(Arc::new(State {
            level: AtomicUsize::new(position(level)),
            access: AtomicBool::new(false),
        }))
    }

    pub(super) fn level(&self) -> Level {
        LEVELS[self.0.level.load(Ordering::Relaxed)]
    }

    pub(super) fn set_level(&self, level: Level) {
        self.0.level.store(position(level), Ordering::Relaxed);
        rebuild_interest_cache();
    }

    pub(super) fn set_access(&self, access: bool) {
        self.0.access.store(access, Ordering::Relaxed);
        rebuild_interest_cache();
    }

    fn admits(&self, metadata: &Metadata<'_>) -> bool {
        let level = self.level();
        match metadata.target() {
            access::TARGET => self.0.access.load(Ordering::Relaxed),
            // The access line has the same facts.
            telemetry::TARGET if level <= Level::INFO => *metadata.level() <= Level::WARN,
            _ => *metadata.level() <= level,
        }
    }
}

fn position(level: Level) -> usize {
    let position = LEVELS.iter().position(|known| *known == level);
    position.expect("there are five levels")
}

/// The decision about a call site is cached until [`rebuild_interest_cache`], so that most cost nothing.
impl<S: Subscriber> Layer<S> for Levels {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.admits(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.admits(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // Access lines have the level INFO.
        Some(LevelFilter::from_level(self.level().max(Level::INFO)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io,
        sync::{Mutex, PoisonError},
    };
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn a_level_that_is_changed_applies_to_call_sites_that_were_used_before() {
        let text = Arc::new(Mutex::new(Vec::new()));
        let levels = Levels::new(Level::INFO);
        let output = text.clone();
        let writer = move || -> Box<dyn io::Write> { Box::new(Shared(output.clone())) };
        let format = tracing_subscriber::fmt::layer().with_writer(writer);
        let registry = tracing_subscriber::registry().with(levels.clone());
        tracing::subscriber::with_default(registry.with(format), || {
            let log = || {
                tracing::debug!("a detail");
                tracing::error!("a failure");
                tracing::info!(target: access::TARGET, "a connection");
                tracing::info!(target: telemetry::TARGET, "an event");
            };
            let lines = || {
                let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
                let written = String::from_utf8(std::mem::take(&mut *text)).expect("UTF-8");
                ["detail", "failure", "connection", "event"].map(|it| written.contains(it))
            };
            log();
            assert_eq!(lines(), [false, true, false, false]);
            levels.set_access(true);
            log();
            assert_eq!(lines(), [false, true, true, false]);
            levels.set_level(Level::DEBUG);
            log();
            assert_eq!(lines(), [true; 4]);
            levels.set_level(Level::ERROR);
            log();
            assert_eq!(lines(), [false, true, true, false]);
            assert_eq!(levels.level(), Level::ERROR);
        });
    }

    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            text.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
