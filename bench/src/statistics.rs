//! What is told of several rounds: the middle, and how far they were apart.

/// The middle one and the outermost of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Summary {
    /// Of any number of values; what is no number is left out, and of none there is nothing to tell.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self { median: f64::midpoint(low, high), least, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case(&[3.0, 1.0, 2.0], Some((2.0, 1.0, 3.0)))]
    #[case(&[4.0, 1.0], Some((2.5, 1.0, 4.0)))]
    #[case(&[f64::NAN, 1.0, f64::INFINITY], Some((1.0, 1.0, 1.0)))]
    #[case(&[], None)]
    fn summaries(#[case] values: &[f64], #[case] told: Option<(f64, f64, f64)>) {
        let summary = Summary::of(values.iter().copied());
        assert_eq!(summary.map(|summary| (summary.median, summary.least, summary.most)), told);
    }
}
