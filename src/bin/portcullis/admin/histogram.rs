//! A histogram of durations with fixed buckets, which many threads record into.

use std::sync::atomic::{AtomicU64, Ordering};

/// The upper bounds of the buckets, in seconds. One more bucket has no bound.
pub(super) const BOUNDS: [f64; 16] = [
    0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0,
];

/// How many durations were in each bucket.
pub(super) type Counts = [u64; BOUNDS.len() + 1];

#[derive(Debug, Default)]
pub(crate) struct Buckets([AtomicU64; BOUNDS.len() + 1]);

impl Buckets {
    pub(super) fn record(&self, seconds: f64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.0[bucket].fetch_add(1, Ordering::Relaxed);
    }

    /// Since the start.
    pub(super) fn counts(&self) -> Counts {
        self.0.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

/// The duration that the share `quantile` of the counted ones does not exceed, as if each bucket were filled evenly.
///
/// `None` without any. In the last bucket it is the lower bound.
pub(super) fn quantile(counts: &Counts, quantile: f64) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let rank = quantile * total as f64;
    let mut before = 0;
    for (index, &count) in counts.iter().enumerate() {
        let up_to = before + count;
        if count > 0 && up_to as f64 >= rank {
            let low = index.checked_sub(1).map_or(0.0, |below| BOUNDS[below]);
            let high = BOUNDS.get(index).copied().unwrap_or(low);
            let share = (rank - before as f64) / count as f64;
            return Some(low + (high - low) * share);
        }
        before = up_to;
    }
    BOUNDS.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_bucket_whose_bound_it_reaches() {
        let buckets = Buckets::default();
        for seconds in [0.0, 0.0001, 0.00011, 3.0, 10.0, 11.0] {
            buckets.record(seconds);
        }
        let counts = buckets.counts();
        assert_eq!(
            (counts[0], counts[1], counts[14], counts[15], counts[16]),
            (2, 1, 1, 1, 1)
        );
    }

    #[test]
    fn quantiles_are_interpolated() {
        let mut counts = Counts::default();
        assert_eq!(quantile(&counts, 0.5), None);
        counts[3] = 100;
        let median = quantile(&counts, 0.5).expect("there are some");
        assert!((median - 0.00075).abs() < 1e-9, "{median}");
        counts[16] = 1;
        assert_eq!(quantile(&counts, 1.0), Some(10.0));
    }
}
