//! Latencies in a fixed number of buckets: 16 to each power of two, so a value is off by at most 1/16.

/// Counts of microseconds.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    total: u64,
    max: u64,
}

const PER_POWER: u64 = 16;
/// Values below 16 have a bucket each; every power of two above has 16.
const BUCKETS: usize = 16 + 60 * 16;

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]), total: 0, max: 0 }
    }
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, micros: u64) {
        self.counts[bucket(micros)] += 1;
        self.total += 1;
        self.max = self.max.max(micros);
    }

    /// The largest value recorded.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// How many values were recorded.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The value below or at which `percent` of the values lie: never less than the true one, and at
    /// most 1/16 more. 0 if nothing was recorded.
    pub fn percentile(&self, percent: u64) -> u64 {
        let rank = (self.total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return last_of(index).min(self.max);
            }
        }
        self.max
    }
}

fn bucket(value: u64) -> usize {
    if value < PER_POWER {
        return value as usize; // below 16
    }
    let power = u64::from(value.ilog2()); // 4…63
    let within = (value >> (power - 4)) - PER_POWER;
    ((power - 3) * PER_POWER + within) as usize // below BUCKETS
}

/// The largest value of a bucket.
fn last_of(index: usize) -> u64 {
    let index = index as u64; // widens or keeps
    if index < PER_POWER {
        return index;
    }
    let shift = index / PER_POWER - 1;
    let first = (index % PER_POWER + PER_POWER) << shift;
    first + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_recorded_is_zero_and_extremes_have_buckets() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.percentile(50), histogram.max(), histogram.total()), (0, 0, 0));
        for value in [0, 1, 15, 16, 17, u64::MAX] {
            histogram.record(value);
        }
        assert_eq!((histogram.percentile(0), histogram.percentile(100)), (0, u64::MAX));
        assert_eq!(histogram.percentile(50), 15);
    }

    proptest! {
        #[test]
        fn every_value_lies_in_its_bucket(value: u64) {
            let index = bucket(value);
            prop_assert!(value <= last_of(index));
            prop_assert!(index == 0 || value > last_of(index - 1));
        }

        #[test]
        fn percentiles_are_off_by_a_sixteenth_at_most(
            mut values in proptest::collection::vec(0_u64..10_000_000, 1..300), percent in 1_u64..=100
        ) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|value| histogram.record(*value));
            values.sort_unstable();
            let exact = values[(values.len() * percent as usize).div_ceil(100) - 1];
            let shown = histogram.percentile(percent);
            prop_assert!(exact <= shown && shown <= exact + exact / 16, "{shown} for {exact}");
        }
    }
}
