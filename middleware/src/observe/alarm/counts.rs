//! The counts and the rules by which they raise an alarm, without callbacks.

use super::kind::{AlarmChange, AlarmKind};
use std::time::Duration;
use tokio::time::Instant;

/// Settings of a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct AlarmRules {
    /// By kind.
    pub(super) thresholds: [Option<u64>; AlarmKind::ALL.len()],
    pub(super) interval: Duration,
    pub(super) cool_down: Duration,
    /// In percent of the threshold.
    pub(super) hysteresis: u64,
}

impl AlarmRules {
    fn threshold(&self, kind: AlarmKind) -> Option<u64> {
        self.thresholds[kind as usize]
    }

    /// The largest count that clears an alarm.
    fn clears_at(&self, threshold: u64) -> u64 {
        let percent = u128::from(100 - self.hysteresis);
        let level = (u128::from(threshold) * percent / 100) as u64;
        level.min(threshold - 1)
    }
}

/// The counts of a layer, with the rules, so that all clones and handles apply the same ones.
#[derive(Debug)]
pub(super) struct AlarmCounts {
    pub(super) rules: AlarmRules,
    /// By kind.
    counts: [Count; AlarmKind::ALL.len()],
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    count: u64,
    /// The begin of the current interval.
    begun: Option<Instant>,
    raised: bool,
    /// The end of the cool-down.
    quiet_until: Option<Instant>,
}

impl AlarmCounts {
    pub(super) fn new(rules: AlarmRules) -> Self {
        let counts = Default::default();
        Self { rules, counts }
    }

    /// The count at `now`, and whether the alarm is raised. It changes nothing, so that no alarm is lost.
    pub(super) fn read(&self, kind: AlarmKind, now: Instant) -> (u64, bool) {
        let mut read = self.counts[kind as usize];
        let _not_reported = read.end_interval(kind, &self.rules, now);
        (read.count, read.raised)
    }

    /// Counts one more. An interval that has ended may clear the alarm, and the new one raise it again.
    pub(super) fn add(&mut self, kind: AlarmKind, now: Instant) -> [Option<AlarmChange>; 2] {
        let Self { rules, counts } = self;
        let this = &mut counts[kind as usize];
        let cleared = this.end_interval(kind, rules, now);
        this.count += 1;
        if kind.is_of_intervals() {
            this.begun.get_or_insert(now);
        }
        [cleared, this.raise(kind, rules, now)]
    }

    /// Counts one connection less.
    pub(super) fn remove_active(&mut self) -> Option<AlarmChange> {
        let this = &mut self.counts[AlarmKind::Active as usize];
        this.count -= 1;
        this.clear(AlarmKind::Active, &self.rules, this.count)
    }
}

impl Count {
    /// Ends the current interval if it is over.
    fn end_interval(
        &mut self,
        kind: AlarmKind,
        rules: &AlarmRules,
        now: Instant,
    ) -> Option<AlarmChange> {
        let elapsed = now.duration_since(self.begun?);
        if elapsed < rules.interval {
            return None;
        }
        self.begun = None;
        let count = std::mem::take(&mut self.count);
        // After another whole interval without any, the last one had none.
        let last = if elapsed >= rules.interval.saturating_mul(2) {
            0
        } else {
            count
        };
        self.clear(kind, rules, last)
    }

    fn raise(&mut self, kind: AlarmKind, rules: &AlarmRules, now: Instant) -> Option<AlarmChange> {
        let threshold = rules.threshold(kind)?;
        let quiet = self.quiet_until.is_some_and(|until| now < until);
        if self.raised || quiet || self.count < threshold {
            return None;
        }
        self.raised = true;
        self.quiet_until = now.checked_add(rules.cool_down);
        Some(AlarmChange {
            kind,
            raised: true,
            count: self.count,
            threshold,
        })
    }

    fn clear(&mut self, kind: AlarmKind, rules: &AlarmRules, count: u64) -> Option<AlarmChange> {
        let threshold = rules.threshold(kind)?;
        if !self.raised || count > rules.clears_at(threshold) {
            return None;
        }
        self.raised = false;
        Some(AlarmChange {
            kind,
            raised: false,
            count,
            threshold,
        })
    }
}
