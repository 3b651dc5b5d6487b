//! Latencies in buckets that grow with them: 1.6 % exact, the same size for any number of them.

use std::time::Duration;

/// Buckets of each doubling.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.ilog2();
const BUCKETS: usize = (64 - STEP_BITS as usize + 1) * STEPS as usize;

/// How often which latency was seen.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], count: 0 }
    }
}

impl Histogram {
    pub(super) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.count += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.count += other.count;
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The latency that this share of all stays within; zero when there is none.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        let rank = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let within = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        within.map_or(Duration::ZERO, |index| Duration::from_nanos(lowest(index)))
    }
}

/// Below `2 * STEPS` each value has a bucket; above, its leading bits choose.
fn bucket(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(STEP_BITS + 1);
    (u64::from(shift) * STEPS + (value >> shift)) as usize
}

/// The least value of a bucket.
fn lowest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / STEPS).saturating_sub(1);
    (bucket - shift * STEPS) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case(0)]
    #[case(63)]
    #[case(64)]
    #[case(127)]
    #[case(128)]
    #[case(1_000)]
    #[case(123_456_789)]
    #[case(u64::MAX)]
    fn a_value_is_in_a_bucket_close_below_it(#[case] value: u64) {
        let bucket = bucket(value);
        assert!(bucket < BUCKETS);
        let lowest = lowest(bucket);
        assert!(lowest <= value && value - lowest <= value / STEPS, "{lowest} for {value}");
    }

    #[test]
    fn quantiles_of_two_merged() {
        let (mut low, mut high) = (Histogram::default(), Histogram::default());
        (1..=50).for_each(|nanos| low.record(Duration::from_nanos(nanos)));
        (51..=100).for_each(|nanos| high.record(Duration::from_nanos(nanos)));
        low.merge(&high);
        assert_eq!(low.count(), 100);
        assert_eq!(low.quantile(0.5), Duration::from_nanos(50));
        assert_eq!(low.quantile(0.99), Duration::from_nanos(99));
        assert_eq!(Histogram::default().quantile(0.5), Duration::ZERO);
    }
}
