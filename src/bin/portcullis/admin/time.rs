//! Points in time, as the API has them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Unix time in milliseconds.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The same for a point in time of the monotonic clock.
pub(super) fn millis_of(instant: Instant) -> u64 {
    let (now, wall) = (Instant::now(), SystemTime::now());
    let ago = now.saturating_duration_since(instant);
    let ahead = instant.saturating_duration_since(now);
    millis(wall.checked_sub(ago).unwrap_or(UNIX_EPOCH) + ahead)
}

pub(super) fn now() -> u64 {
    millis(SystemTime::now())
}

/// That long ago.
pub(super) fn ago(time: Duration) -> u64 {
    let then = SystemTime::now().checked_sub(time);
    millis(then.unwrap_or(UNIX_EPOCH))
}
