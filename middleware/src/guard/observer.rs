//! What guards do that only observe.

use crate::{
    ConnectionInfo, connection::Note, log_limit::LogLimit, log_text::Escaped, meter::Counter,
};
use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

/// Counts, logs and notes what a guard would have done.
#[derive(Debug)]
pub(crate) struct Observer {
    by: &'static str,
    observed: AtomicU64,
    counter: Counter,
    log: LogLimit,
}

impl Observer {
    /// The observer of the guard `by`.
    pub(crate) fn new(by: &'static str) -> Self {
        Self {
            by,
            observed: AtomicU64::new(0),
            counter: Counter::observed(by),
            log: LogLimit::default(),
        }
    }

    /// Observes what the guard would have done to a connection, with `error` for the log.
    pub(crate) fn observe(
        &self,
        info: &ConnectionInfo,
        reason: &'static str,
        error: impl fmt::Display,
    ) {
        let by = self.by;
        info.add_note(Note::new(by, reason));
        self.observed.fetch_add(1, Ordering::Relaxed);
        self.counter.increment();
        self.log.write(|suppressed| {
            let error = Escaped(error);
            tracing::info!(
                connection.id = info.id().get(), peer = %info.peer(), by, %error, suppressed,
                "{by} observes only and let a connection pass: {error}"
            );
        });
    }

    /// Number of connections that were let through only because the guard observes.
    pub(crate) fn observed(&self) -> u64 {
        self.observed.load(Ordering::Relaxed)
    }
}
