//! The rate of `RateLimitLayer` beside that of governor.

use super::rate::{Arrival, Gcra, Rate};
use governor::{Quota, RateLimiter, clock::FakeRelativeClock};
use std::{num::NonZeroU32, time::Duration};

pub(crate) fn check() {
    let mut dice = 1_u64;
    let mut roll = |sides: u64| {
        // Knuth's MMIX generator.
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % sides
    };
    let (mut admitted, mut rejected) = (0, 0);
    for _ in 0..5_000 {
        let count = 1 + roll(50) as u32;
        let per = Duration::from_nanos(1_000_000 + roll(10_000_000_000));
        let burst = 1 + roll(20) as u32;
        let gcra = Gcra::from(Rate::new(count, per).with_burst(burst));
        let interval = per / count;
        let quota = Quota::with_period(interval)
            .unwrap()
            .allow_burst(NonZeroU32::new(burst).unwrap());
        let clock = FakeRelativeClock::default();
        let oracle = RateLimiter::direct_with_clock(quota, clock.clone());
        let (mut now, mut arrival) = (0, Arrival::NEW);
        for _ in 0..200 {
            let expected = oracle.check().is_ok();
            let decided = arrival.admit(now, gcra);
            assert_eq!(
                decided, expected,
                "{count} per {per:?}, burst {burst}, after {now} ns"
            );
            *(if expected {
                &mut admitted
            } else {
                &mut rejected
            }) += 1;
            // Often at the very bound, and one nanosecond beside it.
            let interval = interval.as_nanos() as u64;
            let pause = [
                0,
                interval,
                interval - 1,
                interval + 1,
                roll(2 * interval),
                0,
            ][roll(6) as usize];
            now += pause;
            clock.advance(Duration::from_nanos(pause));
        }
    }
    assert!(admitted > 100_000 && rejected > 100_000);
    println!("governor decides alike: {admitted} admitted, {rejected} rejected");
}
