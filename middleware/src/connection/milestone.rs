//! When a connection reached the steps of its life.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// A step of a connection whose time is recorded; see [`ConnectionInfo::reached`](super::ConnectionInfo::reached).
///
/// The times of other steps are with what they found: [`TlsInfo::completed_at`](super::TlsInfo::completed_at) and
/// [`UpstreamInfo::connected_at`](super::UpstreamInfo::connected_at).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Milestone {
    /// The PROXY header of a trusted proxy was read.
    ProxyHeader,
    /// The protocol was detected by [`PeekLayer`](crate::peek::PeekLayer); under TLS, the ClientHello was read.
    Detected,
    /// The first byte of the client was read, to be forwarded. Under TLS that ends here it is the first byte inside.
    FirstByteOfClient,
    /// The first byte of the backend was read, to be forwarded.
    FirstByteOfBackend,
}

/// The times of all milestones, in seconds from the accept as an `f32`. NaN is not reached yet.
///
/// Within a minute of the accept they are exact to 4 µs, within a day to 8 ms, in half of the memory of exact times.
pub(super) struct Milestones([AtomicU32; 4]);

impl Default for Milestones {
    fn default() -> Self {
        Self([const { AtomicU32::new(f32::NAN.to_bits()) }; 4])
    }
}

impl Milestones {
    pub(super) fn get(&self, milestone: Milestone) -> Option<Duration> {
        let seconds = self.0[milestone as usize].load(Ordering::Relaxed);
        // NaN is no duration.
        Duration::try_from_secs_f32(f32::from_bits(seconds)).ok()
    }

    /// The first time stays.
    pub(super) fn set(&self, milestone: Milestone, after: Duration) {
        if self.get(milestone).is_none() {
            let seconds = after.as_secs_f32();
            self.0[milestone as usize].store(seconds.to_bits(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_stays_and_the_others_are_not_reached() {
        let milestones = Milestones::default();
        milestones.set(Milestone::Detected, Duration::ZERO);
        milestones.set(Milestone::Detected, Duration::from_secs(1));
        milestones.set(Milestone::FirstByteOfBackend, Duration::from_secs(59));
        assert_eq!(milestones.get(Milestone::Detected), Some(Duration::ZERO));
        assert_eq!(milestones.get(Milestone::ProxyHeader), None);
        assert_eq!(milestones.get(Milestone::FirstByteOfClient), None);
        let last = milestones.get(Milestone::FirstByteOfBackend);
        assert_eq!(last, Some(Duration::from_secs(59)));
    }

    #[test]
    fn times_are_exact_to_microseconds_in_the_first_minute_and_to_milliseconds_for_a_day() {
        for (after, exact_to) in [
            (Duration::from_micros(1_234), Duration::from_nanos(1)),
            (Duration::from_micros(59_123_457), Duration::from_micros(4)),
            (Duration::from_millis(86_399_123), Duration::from_millis(8)),
        ] {
            let milestones = Milestones::default();
            milestones.set(Milestone::ProxyHeader, after);
            let found = milestones.get(Milestone::ProxyHeader);
            let found = found.expect("it was set");
            assert!(found.abs_diff(after) <= exact_to, "{found:?} for {after:?}");
        }
    }
}
