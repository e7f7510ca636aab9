//! The shared counts, and what happens when an alarm changes.

use super::{
    counts::AlarmCounts,
    kind::{Alarm, AlarmChange, AlarmKind},
};
use crate::{
    connection::{ConnectionInfo, Slot, Slots},
    meter::Counter,
    observe::until_end::OnEnd,
    outcome::Outcome,
};
use std::{
    error::Error,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::time::Instant;

/// Settings of a layer. Clones share the counts and their rules.
#[derive(Clone)]
pub(super) struct AlarmPolicy {
    pub(super) listener: Arc<str>,
    pub(super) callbacks: Vec<Arc<OnAlarm>>,
    pub(super) counters: [Counter; AlarmKind::ALL.len()],
    pub(super) counts: Arc<Mutex<AlarmCounts>>,
}

type OnAlarm = dyn Fn(&Alarm<'_>) + Send + Sync;

impl AlarmPolicy {
    /// Counts a connection as opened, and as active while it has the slot.
    pub(super) fn opened(self: &Arc<Self>) -> Slot {
        let now = Instant::now();
        let changes = self.with(|counts| {
            let [_, active] = counts.add(AlarmKind::Active, now);
            let [cleared, opened] = counts.add(AlarmKind::Opened, now);
            [active, cleared, opened]
        });
        let slot = Slot::new(self.clone(), 0);
        self.report(changes);
        slot
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut AlarmCounts) -> T) -> T {
        change(&mut lock(&self.counts))
    }

    /// Logs and counts changes and calls the callbacks, without the lock.
    fn report(&self, changes: impl IntoIterator<Item = Option<AlarmChange>>) {
        for change in changes.into_iter().flatten() {
            self.log(change);
            if change.raised {
                self.counters[change.kind as usize].increment();
            }
            let alarm = Alarm {
                listener: &self.listener,
                change,
            };
            for callback in &self.callbacks {
                // A change may be found in a drop, during another panic.
                let _panicked = catch_unwind(AssertUnwindSafe(|| callback(&alarm)));
            }
        }
    }

    fn log(&self, change: AlarmChange) {
        let AlarmChange {
            kind,
            raised,
            count,
            threshold,
        } = change;
        let (listener, alarm) = (&*self.listener, kind.as_str());
        if raised {
            tracing::warn!(
                listener,
                alarm,
                count,
                threshold,
                "{listener}: alarm, {count} connections {alarm}, threshold {threshold}"
            );
        } else {
            tracing::info!(
                listener,
                alarm,
                count,
                threshold,
                "{listener}: alarm cleared, {count} connections {alarm}, threshold {threshold}"
            );
        }
    }
}

/// Counts the end of a connection.
impl OnEnd for Arc<AlarmPolicy> {
    fn ended(&self, _: &ConnectionInfo, outcome: Outcome, _: Option<&(dyn Error + 'static)>) {
        if let Some(kind) = AlarmKind::of(outcome) {
            let now = Instant::now();
            self.report(self.with(|counts| counts.add(kind, now)));
        }
    }
}

/// The slot of a connection counts it as active.
impl Slots for AlarmPolicy {
    fn release(&self, _key: usize) {
        self.report([self.with(|counts| counts.remove_active())]);
    }
}

impl fmt::Debug for AlarmPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlarmPolicy")
            .field("listener", &self.listener)
            .field("counts", &self.counts)
            .field("callbacks", &self.callbacks.len())
            .finish_non_exhaustive()
    }
}

/// Reads the counts and alarms of a layer, and changes neither; clones read the same.
#[derive(Clone, Debug)]
pub struct AlarmHandle(pub(super) Arc<Mutex<AlarmCounts>>);

impl AlarmHandle {
    /// The current count: of active connections, or of the current interval.
    pub fn count(&self, kind: AlarmKind) -> u64 {
        lock(&self.0).read(kind, Instant::now()).0
    }

    /// Whether the alarm is raised. One of an interval counts as cleared when the interval is over, even though this
    /// is reported only with the next connection.
    pub fn is_raised(&self, kind: AlarmKind) -> bool {
        lock(&self.0).read(kind, Instant::now()).1
    }
}

fn lock(counts: &Mutex<AlarmCounts>) -> MutexGuard<'_, AlarmCounts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}
