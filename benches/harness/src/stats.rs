//! Medians, ranges, ratios and differences.

/// The median of some samples, and their range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The sample in the middle.
    pub median: f64,
    /// The smallest sample.
    pub min: f64,
    /// The largest sample.
    pub max: f64,
}

impl Spread {
    /// `None` without samples. The median of an even number of samples is the mean of the two in the middle.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        };
        Some(Self { median, min, max })
    }
}

/// Quartiles of some samples; `None` without samples.
///
/// Each is one of the samples, without interpolation.
pub fn quartiles(samples: impl IntoIterator<Item = f64>) -> Option<[f64; 3]> {
    let mut sorted: Vec<f64> = samples.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    Some([1, 2, 3].map(|quarter| sorted[last * quarter / 4]))
}

/// Ratios of samples of the same round; rounds with only one of the two are skipped.
///
/// The samples are paired because a slow round of the machine affects both.
pub fn paired_ratios(ours: &[Option<f64>], reference: &[Option<f64>]) -> Vec<f64> {
    let pairs = ours.iter().zip(reference);
    let valid = pairs.filter_map(|(ours, reference)| Some(((*ours)?, (*reference)?)));
    let ratios = valid.map(|(ours, reference)| ours / reference);
    ratios.filter(|ratio| ratio.is_finite()).collect()
}

/// A count of the short and of the long run as the cost of one of `units`.
pub fn per_unit(short: f64, long: f64, units: usize) -> f64 {
    (long - short) / units as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_the_range_goes_round_it() {
        let odd = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 3.0));
        let even = Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!((even.median, even.min, even.max), (2.5, 1.0, 4.0));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn one_odd_value_does_not_move_the_median() {
        let spread = Spread::of([9000.0, 10.0, 11.0]);
        assert_eq!(spread.map(|spread| spread.median), Some(11.0));
    }

    #[test]
    fn quartiles_are_samples_in_order() {
        let samples = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(quartiles(samples), Some([2.0, 3.0, 4.0]));
        assert_eq!(quartiles([7.0]), Some([7.0; 3]));
        assert_eq!(quartiles([]), None);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let ours = [Some(2.0), None, Some(9.0), Some(8.0)];
        let reference = [Some(1.0), Some(5.0), None, Some(2.0)];
        assert_eq!(paired_ratios(&ours, &reference), [2.0, 4.0]);
    }

    #[test]
    fn a_reference_of_nothing_gives_no_ratio() {
        assert_eq!(paired_ratios(&[Some(1.0)], &[Some(0.0)]), [0.0; 0]);
    }

    #[test]
    fn what_is_done_once_is_not_in_the_difference() {
        let run = |units: f64| 5_000.0 + 42.0 * units;
        assert_eq!(per_unit(run(10.0), run(110.0), 100), 42.0);
    }
}
