//! What is checked when, without any I/O.

use super::layer::{ConnectionLimits, Throughput};
use crate::{
    ConnectionInfo,
    drain::{DrainStage, DrainTrigger},
    error::{Elapsed, TimeoutPhase},
    guard::Observer,
};
use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::time::Instant;

/// The limits of one connection, and what was seen at the last checks.
#[derive(Debug)]
pub(super) struct ConnectionChecks {
    info: ConnectionInfo,
    first_byte: Option<Deadline>,
    lifetime: Option<LifetimeCheck>,
    idle: Option<IdleCheck>,
    /// A list, because few connections have any.
    throughput: Vec<ThroughputCheck>,
    /// `None` if the limits apply.
    observer: Option<Arc<Observer>>,
    observes_throughput_alone: bool,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    limit: Duration,
    at: Instant,
}

#[derive(Debug)]
struct LifetimeCheck {
    limit: Duration,
    next: Instant,
    grace: Option<Grace>,
}

/// The time between the end of the lifetime and the end of the connection.
#[derive(Debug)]
struct Grace {
    half: Duration,
    trigger: DrainTrigger,
    stage: DrainStage,
}

#[derive(Debug)]
struct IdleCheck {
    limit: Duration,
    /// The number of bytes since `since`, at the latest.
    bytes: u64,
    since: Instant,
    next: Instant,
}

#[derive(Debug)]
struct ThroughputCheck {
    limit: Throughput,
    bytes: u64,
    next: Instant,
}

impl ConnectionChecks {
    /// `None` without any limit.
    pub(super) fn new(
        limits: &ConnectionLimits,
        observer: Option<Arc<Observer>>,
        info: &ConnectionInfo,
    ) -> Option<Self> {
        if limits.is_empty() {
            return None;
        }
        let (accepted, now) = (info.accepted_at(), Instant::now());
        let first_byte = |limit| {
            let at = accepted.checked_add(limit)?;
            Some(Deadline { limit, at })
        };
        let lifetime = |limit: Duration| {
            let jitter = part_of(limits.jitter, info);
            let next = accepted.checked_add(limit.checked_add(jitter)?)?;
            let has_grace =
                !limits.grace.is_zero() && (observer.is_none() || limits.observes_throughput_alone);
            let trigger = has_grace.then(|| info.drain_alone()).flatten();
            let grace = trigger.map(|trigger| Grace {
                half: limits.grace / 2,
                trigger,
                stage: DrainStage::Serving,
            });
            Some(LifetimeCheck { limit, next, grace })
        };
        let idle = |limit: Duration| {
            Some(IdleCheck {
                limit,
                bytes: moved(info),
                since: now,
                next: now.checked_add(limit / QUARTERS)?,
            })
        };
        let throughput = |limit: &Throughput| {
            Some(ThroughputCheck {
                limit: *limit,
                bytes: (limit.count)(info),
                next: now.checked_add(limit.window)?,
            })
        };
        let throughputs = limits.throughput.iter().flatten();
        Some(Self {
            info: info.clone(),
            first_byte: limits.first_byte.and_then(first_byte),
            lifetime: limits.lifetime.and_then(lifetime),
            idle: limits.idle.and_then(idle),
            throughput: throughputs.filter_map(throughput).collect(),
            observer,
            observes_throughput_alone: limits.observes_throughput_alone,
        })
    }

    /// The connection.
    pub(super) const fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// Checks what is due at `now`. If the layer only observes, exceeded limits are noted and dropped.
    pub(super) fn check(&mut self, now: Instant) -> Result<(), Elapsed> {
        loop {
            let Err(elapsed) = self.check_all(now) else {
                return Ok(());
            };
            let is_observed =
                !self.observes_throughput_alone || elapsed.phase() == TimeoutPhase::THROUGHPUT;
            match &self.observer {
                Some(observer) if is_observed => {
                    observer.observe(&self.info, elapsed.phase().as_str(), elapsed);
                }
                _ => return Err(elapsed),
            }
        }
    }

    /// Drops a limit that is exceeded.
    fn check_all(&mut self, now: Instant) -> Result<(), Elapsed> {
        if let Some(lifetime) = &mut self.lifetime
            && let Err(elapsed) = lifetime.check(now)
        {
            self.lifetime = None;
            return Err(elapsed);
        }
        if let Some(Deadline { limit, at }) = self.first_byte {
            if self.info.bytes_read() > 0 {
                self.first_byte = None;
            } else if at <= now {
                self.first_byte = None;
                return Err(Elapsed::new(TimeoutPhase::FIRST_BYTE, limit));
            }
        }
        if let Some(idle) = &mut self.idle
            && let Err(elapsed) = idle.check(&self.info, now)
        {
            self.idle = None;
            return Err(elapsed);
        }
        for index in 0..self.throughput.len() {
            if let Err(elapsed) = self.throughput[index].check(&self.info, now) {
                self.throughput.remove(index);
                return Err(elapsed);
            }
        }
        Ok(())
    }

    /// When to check next, which is never before the last check.
    pub(super) fn next(&self) -> Option<Instant> {
        let times = [
            self.first_byte.map(|deadline| deadline.at),
            self.lifetime.as_ref().map(|lifetime| lifetime.next),
            self.idle.as_ref().map(|idle| idle.next),
        ];
        let throughput = self.throughput.iter().map(|check| check.next);
        times.into_iter().flatten().chain(throughput).min()
    }
}

impl LifetimeCheck {
    fn check(&mut self, now: Instant) -> Result<(), Elapsed> {
        while self.next <= now {
            match &mut self.grace {
                Some(grace) if grace.stage < DrainStage::Closing => {
                    self.next = grace.advance(self.next);
                }
                _ => return Err(Elapsed::new(TimeoutPhase::LIFETIME, self.limit)),
            }
        }
        Ok(())
    }
}

impl Grace {
    /// Asks the service to end the connection, and returns when to look again.
    fn advance(&mut self, at: Instant) -> Instant {
        match self.stage {
            DrainStage::Serving => {
                self.trigger.notify();
                self.stage = DrainStage::Notified;
            }
            DrainStage::Notified | DrainStage::Closing => {
                self.trigger.close();
                self.stage = DrainStage::Closing;
            }
        }
        // A grace period that is too long for the clock does not end.
        at.checked_add(self.half).unwrap_or(at + DISTANT)
    }
}

impl IdleCheck {
    fn check(&mut self, info: &ConnectionInfo, now: Instant) -> Result<(), Elapsed> {
        if now < self.next {
            return Ok(());
        }
        let bytes = moved(info);
        if bytes != self.bytes {
            (self.bytes, self.since) = (bytes, now);
        } else if now.duration_since(self.since) >= self.limit {
            return Err(Elapsed::new(TimeoutPhase::IDLE, self.limit));
        }
        // A limit of no time would fire without end.
        self.next = now + (self.limit / QUARTERS).max(SHORTEST);
        Ok(())
    }
}

impl ThroughputCheck {
    fn check(&mut self, info: &ConnectionInfo, now: Instant) -> Result<(), Elapsed> {
        if now < self.next {
            return Ok(());
        }
        let bytes = (self.limit.count)(info);
        if bytes - self.bytes < self.limit.bytes {
            return Err(Elapsed::new(TimeoutPhase::THROUGHPUT, self.limit.window));
        }
        self.bytes = bytes;
        // From now, so that a task that is late is not expected to have moved the bytes of two windows in one.
        self.next = now + self.limit.window;
        Ok(())
    }
}

/// The bytes moved in both directions.
pub(super) fn moved(info: &ConnectionInfo) -> u64 {
    info.bytes_read() + info.bytes_written()
}

/// A part of `jitter`, at random for each connection.
fn part_of(jitter: Duration, info: &ConnectionInfo) -> Duration {
    static RANDOM: OnceLock<RandomState> = OnceLock::new();
    if jitter.is_zero() {
        return jitter;
    }
    let random = RANDOM.get_or_init(RandomState::new).hash_one(info.id());
    jitter.mul_f64(random as f64 / u64::MAX as f64)
}

/// Checks per idle timeout.
pub(super) const QUARTERS: u32 = 4;

/// Longer than any connection lasts.
const DISTANT: Duration = Duration::from_secs(30 * 365 * 86_400);

/// Timers of the runtime have this resolution.
const SHORTEST: Duration = Duration::from_millis(1);
