//! What is checked when, without any I/O.

use super::layer::{ConnectionLimits, Throughput};
use crate::{
    ConnectionInfo,
    error::{Elapsed, TimeoutPhase},
};
use std::{collections::hash_map::RandomState, hash::BuildHasher, sync::OnceLock, time::Duration};
use tokio::time::Instant;

/// The limits of one connection, and what was seen at the last checks.
#[derive(Debug)]
pub(super) struct ConnectionChecks {
    info: ConnectionInfo,
    first_byte: Option<Deadline>,
    lifetime: Option<Deadline>,
    idle: Option<IdleCheck>,
    throughput: Option<ThroughputCheck>,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    limit: Duration,
    at: Instant,
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
    pub(super) fn new(limits: ConnectionLimits, info: &ConnectionInfo) -> Option<Self> {
        let ConnectionLimits {
            first_byte,
            idle,
            lifetime,
            jitter,
            throughput,
        } = limits;
        if first_byte.is_none() && idle.is_none() && lifetime.is_none() && throughput.is_none() {
            return None;
        }
        let (accepted, now) = (info.accepted_at(), Instant::now());
        let deadline = |limit: Duration, more| {
            let at = accepted.checked_add(limit.checked_add(more)?)?;
            Some(Deadline { limit, at })
        };
        let bytes = moved(info);
        Some(Self {
            info: info.clone(),
            first_byte: first_byte.and_then(|limit| deadline(limit, Duration::ZERO)),
            lifetime: lifetime.and_then(|limit| deadline(limit, part_of(jitter, info))),
            idle: idle.and_then(|limit| {
                let next = now.checked_add(limit / QUARTERS)?;
                let since = now;
                Some(IdleCheck {
                    limit,
                    bytes,
                    since,
                    next,
                })
            }),
            throughput: throughput.and_then(|limit| {
                let next = now.checked_add(limit.window)?;
                Some(ThroughputCheck { limit, bytes, next })
            }),
        })
    }

    /// The connection.
    pub(super) const fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// Checks what is due at `now`.
    pub(super) fn check(&mut self, now: Instant) -> Result<(), Elapsed> {
        if let Some(Deadline { limit, at }) = self.lifetime
            && at <= now
        {
            return Err(Elapsed::new(TimeoutPhase::LIFETIME, limit));
        }
        if let Some(Deadline { limit, at }) = self.first_byte {
            if self.info.bytes_read() > 0 {
                self.first_byte = None;
            } else if at <= now {
                return Err(Elapsed::new(TimeoutPhase::FIRST_BYTE, limit));
            }
        }
        let bytes = moved(&self.info);
        if let Some(idle) = &mut self.idle
            && idle.next <= now
        {
            idle.check(bytes, now)?;
        }
        if let Some(throughput) = &mut self.throughput
            && throughput.next <= now
        {
            throughput.check(bytes, now)?;
        }
        Ok(())
    }

    /// When to check next, which is never before the last check.
    pub(super) fn next(&self) -> Option<Instant> {
        let deadlines = [self.first_byte, self.lifetime];
        let deadlines = deadlines.into_iter().flatten().map(|deadline| deadline.at);
        let idle = self.idle.as_ref().map(|idle| idle.next);
        let throughput = self.throughput.as_ref().map(|throughput| throughput.next);
        deadlines.chain(idle).chain(throughput).min()
    }
}

impl IdleCheck {
    fn check(&mut self, bytes: u64, now: Instant) -> Result<(), Elapsed> {
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
    fn check(&mut self, bytes: u64, now: Instant) -> Result<(), Elapsed> {
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
fn moved(info: &ConnectionInfo) -> u64 {
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

/// Timers of the runtime have this resolution.
const SHORTEST: Duration = Duration::from_millis(1);
