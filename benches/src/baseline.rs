//! The stored counts that `--check` compares to.
//!
//! What is compared is the distance from the reference measured in the same run, so that another
//! compiler, allocator or version of tokio does not look like a regression of ours.

use super::{Costs, Variant, load::Workload};
use portcullis::BoxError;
use std::{collections::BTreeMap, fmt, fs, path::Path};

/// Where the baseline is, beside this package's Cargo.toml.
pub(crate) const FILE: &str = "baseline.toml";

/// Counts by variant and by name.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Baseline(BTreeMap<String, Counts>);

type Counts = BTreeMap<String, f64>;

/// A count that has grown by more than its tolerance.
#[derive(Debug)]
pub(crate) struct Regression {
    variant: String,
    reference: &'static str,
    count: String,
    before: f64,
    now: f64,
    kind: Kind,
}

/// How a count is compared to that of the reference, and how much it may grow.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Ratio {
        tolerance: f64,
    },
    /// A ratio that may grow by a part of the reference.
    Share {
        tolerance: f64,
    },
    Difference {
        tolerance: f64,
    },
}

impl Kind {
    fn of(count: &str) -> Self {
        match count.rsplit('.').next() {
            // How full a socket is varies with the congestion control of the machine: splices were 0.4 to 3.5 % of the
            // calls of the reference. Copies instead of splices are as many as it has.
            _ if count.starts_with("to-") => Self::Share { tolerance: 0.05 },
            Some("instructions") => Self::Ratio { tolerance: 0.05 },
            // Less than one call in twenty units is noise.
            Some("system-calls") => Self::Difference { tolerance: 0.05 },
            // The allocator rounds. One more small allocation exceeds this.
            Some("allocated-bytes") => Self::Difference { tolerance: 48.0 },
            _ => Self::Difference { tolerance: 0.5 },
        }
    }

    fn distance(self, value: f64, reference: f64) -> f64 {
        match self {
            Self::Ratio { .. } | Self::Share { .. } => value / reference,
            Self::Difference { .. } => value - reference,
        }
    }

    fn grew(self, before: f64, now: f64) -> bool {
        match self {
            Self::Ratio { tolerance } => now > before * (1.0 + tolerance),
            Self::Share { tolerance } | Self::Difference { tolerance } => now > before + tolerance,
        }
    }
}

impl Baseline {
    pub(crate) fn of(costs: &[Costs]) -> Self {
        let variants = costs
            .iter()
            .map(|costs| (costs.variant.name().to_owned(), counts(costs)));
        Self(variants.collect())
    }

    pub(crate) fn read() -> Result<Self, BoxError> {
        let text = fs::read_to_string(path())
            .map_err(|error| format!("{FILE}: {error}; --write makes it"))?;
        Ok(Self::parse(&text)?)
    }

    /// Replaces the counts of the variants in `now`.
    pub(crate) fn with(mut self, now: Self) -> Self {
        self.0.extend(now.0);
        self
    }

    pub(crate) fn write(&self) -> Result<(), BoxError> {
        Ok(fs::write(path(), self.to_string())?)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut variants = BTreeMap::new();
        let mut variant: &mut Counts = &mut Counts::new();
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[') {
                let name = name.trim_end_matches(']').trim_matches('"');
                variant = variants.entry(name.to_owned()).or_default();
            } else if let Some((name, value)) = line.split_once('=') {
                let value = value.trim().parse();
                let value = value.map_err(|_| format!("{FILE}: not a number: {line}"))?;
                variant.insert(name.trim().to_owned(), value);
            }
        }
        Ok(Self(variants))
    }

    /// What is worse in `now`. Counts that only one of the two has are not compared.
    pub(crate) fn regressions(&self, now: &Self) -> Vec<Regression> {
        let mut regressions = Vec::new();
        for (variant, counts) in &now.0 {
            let known = Variant::parse(variant);
            let reference = known.map_or(Variant::Bare, Variant::reference).name();
            for (count, value) in counts {
                let kind = Kind::of(count);
                let distances = (
                    self.get(variant, count).zip(self.get(reference, count)),
                    now.get(reference, count),
                );
                let (Some((before, before_bare)), Some(now_bare)) = distances else {
                    continue;
                };
                let before = kind.distance(before, before_bare);
                let now = kind.distance(*value, now_bare);
                if kind.grew(before, now) {
                    regressions.push(Regression {
                        variant: variant.clone(),
                        reference,
                        count: count.clone(),
                        before,
                        now,
                        kind,
                    });
                }
            }
        }
        regressions
    }

    fn get(&self, variant: &str, count: &str) -> Option<f64> {
        self.0.get(variant)?.get(count).copied()
    }
}

/// The variants of which some count has grown.
pub(crate) fn variants(regressions: &[Regression]) -> Vec<Variant> {
    let grown = |variant: &Variant| regressions.iter().any(|it| it.variant == variant.name());
    Variant::ALL.into_iter().filter(grown).collect()
}

/// The counts that are compared, without idle memory, which varies.
fn counts(costs: &Costs) -> Counts {
    let mut counts = Counts::new();
    for workload in Workload::ALL {
        let of = costs.of(workload);
        let values = [
            ("instructions", of.instructions),
            ("system-calls", of.connection_calls()),
            ("all-system-calls", of.all_calls()),
            ("allocations", of.heap.map(|heap| heap.allocations)),
            ("allocated-bytes", of.heap.map(|heap| heap.bytes)),
        ];
        for (name, value) in values {
            if let Some(value) = value {
                counts.insert(format!("{}.{name}", workload.name()), value);
            }
        }
    }
    counts
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Written by: cargo run --release -p portcullis-benches -- --write"
        )?;
        for (variant, counts) in &self.0 {
            writeln!(f, "\n[\"{variant}\"]")?;
            for (name, value) in counts {
                writeln!(f, "{name} = {value:.2}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Regression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            variant,
            reference,
            count,
            before,
            now,
            kind,
        } = self;
        match kind {
            Kind::Ratio { tolerance } => write!(
                f,
                "{variant}: {count} is x{now:.3} of {reference}, was x{before:.3} (may grow by {:.0} %)",
                tolerance * 100.0
            ),
            Kind::Share { tolerance } => write!(
                f,
                "{variant}: {count} is x{now:.3} of {reference}, was x{before:.3} (may grow by {tolerance})"
            ),
            Kind::Difference { tolerance } => write!(
                f,
                "{variant}: {count} is {reference} {now:+.2}, was {reference} {before:+.2} (may grow by {tolerance})"
            ),
        }
    }
}

fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(bare: [f64; 3], stack: [f64; 3]) -> Baseline {
        let counts = |[instructions, calls, allocations]: [f64; 3]| {
            Counts::from([
                ("echo.instructions".to_owned(), instructions),
                ("echo.system-calls".to_owned(), calls),
                ("echo.allocations".to_owned(), allocations),
            ])
        };
        let variants = [("bare", bare), ("portcullis-stack+", stack)];
        Baseline(
            variants
                .map(|(name, c)| (name.to_owned(), counts(c)))
                .into(),
        )
    }

    #[test]
    fn what_was_written_is_read_again() {
        let baseline = baseline([1000.0, 3.0, 4.0], [1100.25, 2.5, 9.0]);
        assert_eq!(Baseline::parse(&baseline.to_string()).unwrap(), baseline);
        assert!(Baseline::parse("[a]\nx = y").is_err());
    }

    #[test]
    fn each_count_may_grow_by_its_tolerance_and_no_more() {
        let before = baseline([1000.0, 3.0, 4.0], [1100.0, 3.0, 9.0]);
        let now = |stack| {
            before
                .regressions(&baseline([1000.0, 3.0, 4.0], stack))
                .len()
        };
        assert_eq!(now([1154.0, 3.04, 9.5]), 0);
        assert_eq!(now([1156.0, 3.04, 9.5]), 1);
        assert_eq!(now([1156.0, 3.10, 9.6]), 3);
    }

    #[test]
    fn the_calls_of_a_transfer_may_grow_by_a_twentieth_of_those_of_copies() {
        let kind = Kind::of("to-client.all-system-calls");
        let before = kind.distance(1.2, 280.0);
        assert!(!kind.grew(before, kind.distance(14.9, 280.0)));
        assert!(kind.grew(before, kind.distance(15.9, 280.0)));
    }

    #[test]
    fn what_the_reference_costs_more_is_not_our_regression() {
        let before = baseline([1000.0, 3.0, 4.0], [1100.0, 3.0, 9.0]);
        let now = baseline([2000.0, 5.0, 6.0], [2200.0, 5.0, 11.0]);
        assert!(before.regressions(&now).is_empty());
        let message =
            before.regressions(&baseline([1000.0, 3.0, 4.0], [1320.0, 3.0, 9.0]))[0].to_string();
        assert_eq!(
            message,
            "portcullis-stack+: echo.instructions is x1.320 of bare, was x1.100 (may grow by 5 %)"
        );
    }

    #[test]
    fn the_stored_baseline_can_be_read() {
        let stored = Baseline::read().unwrap();
        assert!(
            stored
                .get("portcullis-stack", "echo.instructions")
                .is_some()
        );
    }
}
