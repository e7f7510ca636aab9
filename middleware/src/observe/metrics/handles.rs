//! The registered metrics of one listener.

use crate::{
    connection::{ConnectionInfo, Slot, Slots},
    error::{Refused, find},
    observe::until_end::OnEnd,
    outcome::Outcome,
};
use ::metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub(super) struct Handles {
    listener: String,
    accepted: Counter,
    active: Gauge,
    /// By [`Outcome::index`].
    closed: [Counter; Outcome::COUNT],
    duration: Histogram,
    bytes_in: Counter,
    bytes_out: Counter,
    /// Registered at the first refusal of each kind. They are literals of the code, so there are few.
    refused: Mutex<Vec<RefusedCounter>>,
}

struct RefusedCounter {
    by: &'static str,
    reason: &'static str,
    counter: Counter,
}

impl Handles {
    pub(super) fn new(listener: String) -> Self {
        let name = || listener.clone();
        let bytes = |direction: &'static str| counter!("portcullis_connections_bytes_total", "listener" => name(), "direction" => direction);
        let closed = |outcome: Option<Outcome>| {
            // All timeouts share one name and one index.
            let outcome = outcome.map_or(TIMED_OUT, Outcome::as_str);
            counter!("portcullis_connections_closed_total", "listener" => name(), "outcome" => outcome)
        };
        Self {
            accepted: counter!("portcullis_connections_accepted_total", "listener" => name()),
            active: gauge!("portcullis_connections_active", "listener" => name()),
            closed: Outcome::EACH.map(closed),
            duration: histogram!("portcullis_connections_duration_seconds", "listener" => name()),
            bytes_in: bytes("in"),
            bytes_out: bytes("out"),
            refused: Mutex::default(),
            listener,
        }
    }

    /// Counts a connection as accepted, and as active until the slot is dropped.
    pub(super) fn open(self: &Arc<Self>) -> Slot {
        self.opened();
        Slot::new(self.clone(), 0)
    }

    /// Counts a connection as accepted and active.
    pub(super) fn opened(&self) {
        self.accepted.increment(1);
        self.active.increment(1.0);
    }

    /// Counts the end of the service of a connection.
    pub(super) fn ended_after(
        &self,
        duration: Duration,
        info: &ConnectionInfo,
        outcome: Outcome,
        error: Option<&(dyn Error + 'static)>,
    ) {
        self.closed[outcome.index()].increment(1);
        self.duration.record(duration.as_secs_f64());
        self.bytes_in.increment(info.bytes_read());
        self.bytes_out.increment(info.bytes_written());
        if outcome == Outcome::Refused
            && let Some(refused) = error.and_then(find::<Refused>)
        {
            self.refused(refused.by(), refused.reason()).increment(1);
        }
    }

    /// A connection is no longer active.
    pub(super) fn left(&self) {
        self.active.decrement(1.0);
    }

    pub(super) fn refused(&self, by: &'static str, reason: &'static str) -> Counter {
        let mut known = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.iter().find(|of| (of.by, of.reason) == (by, reason)) {
            return known.counter.clone();
        }
        let counter = counter!(
            "portcullis_connections_refused_total",
            "listener" => self.listener.clone(), "by" => by, "reason" => reason,
        );
        known.push(RefusedCounter {
            by,
            reason,
            counter: counter.clone(),
        });
        counter
    }
}

/// Counts the end of a connection.
impl OnEnd for Arc<Handles> {
    fn ended(
        &self,
        info: &ConnectionInfo,
        outcome: Outcome,
        error: Option<&(dyn Error + 'static)>,
    ) {
        self.ended_after(info.age(), info, outcome, error);
    }
}

/// A slot needs no allocation of its own, and neither do those of limits that follow.
impl Slots for Handles {
    fn release(&self, _: usize) {
        self.left();
    }
}

impl fmt::Debug for Handles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handles")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

const TIMED_OUT: &str = Outcome::TimedOut(crate::error::TimeoutPhase::READ).as_str();
