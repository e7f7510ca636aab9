//! Intervals that differ a little, so that many gates do not act together, and times that do not overflow.

use super::balance::mix;
use std::time::Duration;
#[cfg(not(test))]
use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::time::Instant;

/// `interval`, longer or shorter by up to a tenth, but no busy loop.
pub(super) fn around(interval: Duration) -> Duration {
    let share = (random() >> 32) as f64 / f64::from(u32::MAX); // from 0 to 1
    let time = interval.as_secs_f64() * (0.9 + share / 5.0);
    Duration::try_from_secs_f64(time)
        .unwrap_or(Duration::MAX)
        .max(SHORTEST)
}

/// `time`, or longer by up to a fifth.
///
/// A resolver that has cached an answer would give the rest of the time to live to those that come sooner.
pub(super) fn no_sooner_than(time: Duration) -> Duration {
    around(time.saturating_add(time / 10)).max(time)
}

/// `time` after `begin`, or some decades after it.
pub(super) fn after(begin: Instant, time: Duration) -> Instant {
    begin.checked_add(time).unwrap_or_else(|| begin + LONGEST)
}

#[cfg(not(test))]
fn random() -> u64 {
    static RANDOM: LazyLock<AtomicU64> =
        LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(())));
    mix(RANDOM.fetch_add(1, Ordering::Relaxed))
}

/// The same numbers in each thread, so that tests can be repeated.
#[cfg(test)]
fn random() -> u64 {
    mix(RANDOM.replace(RANDOM.get() + 1))
}

/// Begins with the first number again.
#[cfg(test)]
pub(super) fn restart() {
    RANDOM.set(0);
}

#[cfg(test)]
std::thread_local!(static RANDOM: std::cell::Cell<u64> = const { std::cell::Cell::new(0) });

const SHORTEST: Duration = Duration::from_millis(10);
/// Longer times overflow the clocks of some systems.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_differ_by_a_tenth_at_most() {
        let all: Vec<_> = (0..1000)
            .map(|_| around(Duration::from_secs(10)).as_secs_f64())
            .collect();
        assert!(all.iter().all(|time| (8.999..11.001).contains(time)));
        let (least, most) = all
            .iter()
            .fold((11.0, 9.0), |(least, most): (f64, f64), time| {
                (least.min(*time), most.max(*time))
            });
        assert!(least < 9.1 && most > 10.9, "{least} to {most}");
        for interval in [Duration::ZERO, Duration::from_nanos(1), SHORTEST / 2] {
            assert_eq!(around(interval), SHORTEST);
        }
        assert!(around(Duration::MAX) > Duration::MAX / 2);
        for _ in 0..1000 {
            let time = no_sooner_than(Duration::from_secs(10)).as_secs_f64();
            assert!((10.0..12.2).contains(&time), "{time}");
        }
    }
}
