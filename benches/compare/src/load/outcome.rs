//! The results of the clients.

use super::client::Stream;
use hdrhistogram::Histogram;
use std::time::Duration;

/// The result of all clients.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Completed operations.
    pub(crate) count: u64,
    /// Failed operations and wrong answers.
    pub(crate) errors: u64,
    /// The first failure.
    pub(crate) error: Option<String>,
    /// From the first operation to the end of the last.
    pub(crate) took: Duration,
    /// In nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// TLS sessions that were resumed.
    pub(crate) resumed: u64,
    /// Connections that stay open, because closing them is not measured.
    pub(crate) open: Vec<Stream>,
}

impl Outcome {
    pub(super) fn new() -> Self {
        Self {
            count: 0,
            errors: 0,
            error: None,
            took: Duration::ZERO,
            latency: Histogram::new_with_bounds(1, 120_000_000_000, 3)
                .expect("these bounds are valid"),
            resumed: 0,
            open: Vec::new(),
        }
    }

    /// A latency at a quantile, in microseconds.
    pub(crate) fn micros(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e3
    }

    pub(super) fn add(&mut self, part: Part) {
        self.count += part.latencies.len() as u64;
        self.resumed += part.resumed;
        self.open.extend(part.open);
        for latency in part.latencies {
            self.latency.saturating_record(latency);
        }
        if let Some(error) = part.error {
            self.errors += 1;
            self.error.get_or_insert(error);
        }
    }
}

/// The result of one client, which ends at its first failure.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) latencies: Vec<u64>,
    pub(super) resumed: u64,
    pub(super) error: Option<String>,
    pub(super) open: Option<Stream>,
}

/// Timeout of a load, beyond its configured time.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_microseconds_and_failures_are_counted() {
        let mut outcome = Outcome::new();
        outcome.add(Part {
            latencies: (1..=1000).map(|i| i * 1000).collect(),
            ..Part::default()
        });
        outcome.add(Part {
            error: Some("broken".to_owned()),
            ..Part::default()
        });
        assert_eq!((outcome.count, outcome.errors), (1000, 1));
        let (half, most) = (outcome.micros(0.5), outcome.micros(0.999));
        assert!((499.0..502.0).contains(&half), "{half}");
        assert!((998.0..1001.0).contains(&most), "{most}");
        assert_eq!(outcome.error.as_deref(), Some("broken"));
    }
}
