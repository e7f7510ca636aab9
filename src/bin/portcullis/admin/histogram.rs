//! Histograms of durations with fixed buckets, which many threads record into by two atomic additions.

use super::registry::braced;
use metrics::HistogramFn;
use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
};

/// The upper bounds of the buckets of handshakes and connects, in seconds. One more bucket has no bound.
pub(super) const BOUNDS: [f64; 16] = [
    0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0,
];

/// How many durations were in each bucket of [`BOUNDS`].
pub(super) type Counts = [u64; BOUNDS.len() + 1];

#[derive(Debug)]
pub(super) struct Buckets {
    bounds: &'static [f64],
    /// One more than there are bounds.
    counts: Box<[AtomicU64]>,
    /// The bits of an `f64`, in seconds.
    sum: AtomicU64,
}

impl Buckets {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Since the start.
    pub(super) fn counts(&self) -> impl Iterator<Item = u64> {
        let counts = self.counts.iter();
        counts.map(|count| count.load(Ordering::Relaxed))
    }

    /// Adds its lines to the text for Prometheus.
    pub(super) fn write(&self, text: &mut String, name: &str, labels: &str) -> std::fmt::Result {
        let comma = if labels.is_empty() { "" } else { "," };
        // With a decimal point: OpenMetrics accepts no `1` there, and both formats name the same series.
        let bounds = self.bounds.iter().map(|bound| format!("{bound:?}"));
        let bounds = bounds.chain(["+Inf".to_owned()]);
        let mut up_to = 0;
        for (bound, count) in bounds.zip(self.counts()) {
            up_to += count;
            writeln!(
                text,
                "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {up_to}"
            )?;
        }
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed));
        let labels = braced(labels);
        writeln!(
            text,
            "{name}_sum{labels} {sum}\n{name}_count{labels} {up_to}"
        )
    }
}

impl HistogramFn for Buckets {
    fn record(&self, seconds: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let add = |sum| Some((f64::from_bits(sum) + seconds).to_bits());
        let relaxed = Ordering::Relaxed;
        // It always adds.
        let _ = self.sum.fetch_update(relaxed, relaxed, add);
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
        let buckets = Buckets::new(&BOUNDS);
        for seconds in [0.0, 0.0001, 0.00011, 3.0, 10.0, 11.0] {
            buckets.record(seconds);
        }
        let counts: Vec<_> = buckets.counts().collect();
        assert_eq!(
            (counts[0], counts[1], counts[14], counts[15], counts[16]),
            (2, 1, 1, 1, 1)
        );
    }

    #[test]
    fn the_text_has_cumulative_buckets_and_the_sum() {
        let buckets = Buckets::new(&[0.5, 2.0]);
        for seconds in [0.25, 0.5, 1.0, 1.5, 4.0] {
            buckets.record(seconds);
        }
        let mut text = String::new();
        let labels = "listener=\"a\"";
        buckets
            .write(&mut text, "a_seconds", labels)
            .expect("it is a String");
        let expected = format!(
            "a_seconds_bucket{{{labels},le=\"0.5\"}} 2\n\
             a_seconds_bucket{{{labels},le=\"2.0\"}} 4\n\
             a_seconds_bucket{{{labels},le=\"+Inf\"}} 5\n\
             a_seconds_sum{{{labels}}} 7.25\na_seconds_count{{{labels}}} 5\n"
        );
        assert_eq!(text, expected);
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
