//! The rate, and how it is measured.

use crate::limit::table::Value;
use std::time::Duration;

/// How many connections are admitted per time, and how many in a burst.
///
/// The rate is measured by the generic cell rate algorithm (GCRA, ITU-T I.371), a leaky bucket. A burst of
/// connections is admitted immediately; after that, a connection is admitted whenever `per / count` has passed.
/// A rate of 60 per minute with a burst of 10 therefore admits 10 connections at any time after a pause, and
/// one per second in the long run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    per: Duration,
    burst: u32,
}

impl Rate {
    /// Admits `count` connections per `per`, all of which may arrive in one burst.
    ///
    /// A count of zero admits nothing.
    pub const fn new(count: u32, per: Duration) -> Self {
        let burst = count;
        Self { count, per, burst }
    }

    /// Admits `count` connections per second, all of which may arrive in one burst.
    pub const fn per_second(count: u32) -> Self {
        Self::new(count, Duration::from_secs(1))
    }

    /// Admits `count` connections per minute, all of which may arrive in one burst.
    pub const fn per_minute(count: u32) -> Self {
        Self::new(count, Duration::from_secs(60))
    }

    /// Sets how many connections are admitted in one burst; a burst of zero admits nothing.
    #[must_use]
    pub const fn with_burst(self, burst: u32) -> Self {
        Self { burst, ..self }
    }

    /// Number of connections per [period](Self::per).
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The period.
    pub const fn per(&self) -> Duration {
        self.per
    }

    /// Number of connections that are admitted in one burst.
    pub const fn burst(&self) -> u32 {
        self.burst
    }
}

/// A rate in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gcra {
    /// The time of one connection.
    interval: u64,
    /// The time of one burst.
    tolerance: u64,
}

impl Gcra {
    /// Whether not even the first connection of a key fits.
    pub(super) const fn admits_nothing(self) -> bool {
        self.tolerance < self.interval
    }
}

impl From<Rate> for Gcra {
    fn from(Rate { count, per, burst }: Rate) -> Self {
        let per = u64::try_from(per.as_nanos()).map_or(LONGEST, |per| per.min(LONGEST));
        // A rate of more than one per nanosecond is as good as none.
        let interval = per.checked_div(count.into()).unwrap_or(u64::MAX).max(1);
        let burst = if count == 0 { 0 } else { burst };
        let tolerance = interval.saturating_mul(burst.into());
        Self {
            interval,
            tolerance,
        }
    }
}

/// The theoretical arrival time of a key, at which its burst is complete again, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival(u64);

impl Arrival {
    /// Of a key that is not in the table.
    pub(super) const NEW: Self = Self(0);

    /// Admits a connection at `now`, or leaves the time as it is.
    pub(super) fn admit(&mut self, now: u64, by: Gcra) -> bool {
        // A rate that has been raised since then also counts for what was admitted before.
        self.0 = self.0.min(now.saturating_add(by.tolerance));
        match self.0.max(now).checked_add(by.interval) {
            Some(next) if next - now <= by.tolerance => {
                self.0 = next;
                true
            }
            _ => false,
        }
    }
}

impl Value for Arrival {
    fn unused_at(&self) -> u64 {
        self.0
    }
}

/// About 146 years.
const LONGEST: u64 = u64::MAX / 4;
