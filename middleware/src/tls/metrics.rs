//! Counts and times the handshakes of a layer.

use crate::meter::{Counter, Histogram};
use tokio::time::Instant;

/// The metrics of a layer's handshakes.
#[derive(Debug)]
pub(super) struct HandshakeMetrics {
    /// By [`HandshakeResult`].
    results: [Counter; HandshakeResult::NAMES.len()],
    full: Histogram,
    resumed: Histogram,
}

/// How a handshake ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum HandshakeResult {
    Completed,
    Failed,
    TimedOut,
    Refused,
    /// Its future was dropped.
    Cancelled,
}

impl HandshakeResult {
    const NAMES: [&str; 5] = ["completed", "failed", "timed_out", "refused", "cancelled"];
}

impl HandshakeMetrics {
    pub(super) fn new() -> Self {
        Self {
            results: HandshakeResult::NAMES.map(Counter::handshakes),
            full: Histogram::handshake_duration("full"),
            resumed: Histogram::handshake_duration("resumed"),
        }
    }

    /// Begins to time a handshake.
    pub(super) fn begin(&self) -> HandshakeTimer<'_> {
        HandshakeTimer {
            metrics: self,
            begun: cfg!(feature = "metrics").then(Instant::now),
            result: HandshakeResult::Cancelled,
        }
    }
}

/// Counts a handshake when it is dropped.
#[derive(Debug)]
pub(super) struct HandshakeTimer<'a> {
    metrics: &'a HandshakeMetrics,
    begun: Option<Instant>,
    result: HandshakeResult,
}

impl HandshakeTimer<'_> {
    pub(super) fn complete(mut self, is_resumed: bool) {
        self.result = HandshakeResult::Completed;
        let metrics = self.metrics;
        let durations = if is_resumed {
            &metrics.resumed
        } else {
            &metrics.full
        };
        if let Some(begun) = self.begun {
            durations.record(begun.elapsed());
        }
    }

    pub(super) fn fail(&mut self, result: HandshakeResult) {
        self.result = result;
    }
}

impl Drop for HandshakeTimer<'_> {
    fn drop(&mut self) {
        self.metrics.results[self.result as usize].increment();
    }
}
