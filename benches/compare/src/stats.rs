//! Medians, ranges and ratios.

/// What the middle of some samples is, and how far they spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` without samples. Of an even number the median is the mean of the two in the middle.
    pub(crate) fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
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

/// What a quarter, half and three quarters of some samples are below; `None` without samples.
///
/// Each is one of the samples: nothing lies between those of one more than a multiple of four.
pub(crate) fn quartiles(samples: impl IntoIterator<Item = f64>) -> Option<[f64; 3]> {
    let mut sorted: Vec<f64> = samples.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    Some([1, 2, 3].map(|quarter| sorted[last * quarter / 4]))
}

/// Ratios of samples of the same round; rounds that miss one of the two are left out.
///
/// Paired, because the machine is slower in some rounds than in others, and then for both.
pub(crate) fn paired_ratios(ours: &[Option<f64>], reference: &[Option<f64>]) -> Vec<f64> {
    let pairs = ours.iter().zip(reference);
    let valid = pairs.filter_map(|(ours, reference)| Some(((*ours)?, (*reference)?)));
    let ratios = valid.map(|(ours, reference)| ours / reference);
    ratios.filter(|ratio| ratio.is_finite()).collect()
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
}
