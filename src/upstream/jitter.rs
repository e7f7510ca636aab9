//! Intervals that differ a little, so that many gates do not act together.

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

/// `interval`, longer or shorter by up to a tenth.
pub(super) fn around(interval: Duration) -> Duration {
    let share = (random() >> 32) as f64 / f64::from(u32::MAX); // from 0 to 1
    interval.mul_f64(0.9 + share / 5.0)
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
    std::thread_local!(static RANDOM: std::cell::Cell<u64> = const { std::cell::Cell::new(0) });
    mix(RANDOM.replace(RANDOM.get() + 1))
}

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
    }
}
