//! Token buckets, without I/O. The token is a byte.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// A number of bytes per second, and a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    per_second: u64,
    burst: u64,
}

impl Bandwidth {
    /// `bytes` per second, with a burst of as many bytes.
    ///
    /// # Panics
    ///
    /// Panics if `bytes` is zero.
    pub const fn per_second(bytes: u64) -> Self {
        assert!(bytes > 0, "a bandwidth of zero");
        Self {
            per_second: bytes,
            burst: bytes,
        }
    }

    /// Sets the largest number of bytes that pass without a wait after a silence.
    ///
    /// Timers have a resolution of a millisecond, so a burst of less than some ten milliseconds' bytes lowers the rate.
    ///
    /// # Panics
    ///
    /// Panics if `bytes` is zero.
    #[must_use]
    pub const fn with_burst(self, bytes: u64) -> Self {
        assert!(bytes > 0, "a burst of zero");
        Self {
            per_second: self.per_second,
            burst: bytes,
        }
    }

    /// The time in which `bytes` come in.
    fn time_of(self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * NANOS / u128::from(self.per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The bytes that come in within `time`.
    fn bytes_in(self, time: Duration) -> u64 {
        let bytes = time.as_nanos().saturating_mul(u128::from(self.per_second)) / NANOS;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// What a wait is for, so that a slow connection does not wake up for each byte.
    fn portion(self) -> u64 {
        (self.per_second / PORTIONS).min(self.burst / 2).max(1)
    }
}

/// A bandwidth that several connections share. Clones share it, too.
#[derive(Clone, Debug)]
pub struct SharedBandwidth(Arc<Mutex<TokenBucket>>);

impl SharedBandwidth {
    /// Shares `bandwidth` between all connections that get a clone of this.
    pub fn new(bandwidth: Bandwidth) -> Self {
        Self(Arc::new(Mutex::new(TokenBucket::new(bandwidth))))
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut TokenBucket) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Says how many bytes may pass now.
///
/// It stores a single time, as the generic cell rate algorithm does (ITU-T I.371).
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenBucket {
    bandwidth: Bandwidth,
    /// When the bucket will be full; `None` if it is.
    full_at: Option<Instant>,
}

impl TokenBucket {
    pub(super) const fn new(bandwidth: Bandwidth) -> Self {
        Self {
            bandwidth,
            full_at: None,
        }
    }

    /// How many bytes may pass at `now`, or else when a portion of them may.
    pub(super) fn available(&self, now: Instant) -> Result<u64, Instant> {
        let Bandwidth { burst, .. } = self.bandwidth;
        let Some(full_at) = self.full_at.filter(|full_at| *full_at > now) else {
            return Ok(burst);
        };
        let missing = self.bandwidth.bytes_in(full_at - now);
        // Rounded down, as a part of a byte is missing, too.
        match burst.saturating_sub(missing.saturating_add(1)) {
            0 => {
                let rest = self.bandwidth.time_of(burst - self.bandwidth.portion());
                let portion_at = full_at.checked_sub(rest).unwrap_or(now);
                Err(portion_at.max(now) + RESOLUTION)
            }
            bytes => Ok(bytes),
        }
    }

    /// Takes `bytes`, which have passed.
    pub(super) fn take(&mut self, bytes: u64, now: Instant) {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now));
        self.full_at = full_at.checked_add(self.bandwidth.time_of(bytes));
    }
}

const NANOS: u128 = 1_000_000_000;

/// Portions per second.
const PORTIONS: u64 = 20;

/// Timers of the runtime have this resolution.
const RESOLUTION: Duration = Duration::from_millis(1);
