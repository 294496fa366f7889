//! A token bucket: caps a miner's hash rate.

use std::time::{Duration, Instant};

/// Grants `per_second` hashes a second, and at most a tenth of a second's worth at once.
#[derive(Debug)]
pub struct TokenBucket {
    per_second: u64,
    /// Hashes that may still be granted, in units of 1/10⁹ hash, so that no time is rounded away.
    nano_tokens: u128,
    since: Instant,
}

const NANO: u128 = 1_000_000_000;

impl TokenBucket {
    /// An empty bucket.
    pub fn new(per_second: u64, now: Instant) -> Self {
        Self { per_second, nano_tokens: 0, since: now }
    }

    /// Takes up to `wanted` hashes; 0 means: not yet.
    pub fn take(&mut self, wanted: u32, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(self.since).min(Duration::from_secs(1));
        self.since = self.since.max(now);
        let burst = (u128::from(self.per_second) * NANO / 10).max(NANO);
        self.nano_tokens = burst.min(self.nano_tokens + elapsed.as_nanos() * u128::from(self.per_second));
        let granted = u32::try_from(self.nano_tokens / NANO).unwrap_or(u32::MAX).min(wanted);
        self.nano_tokens -= u128::from(granted) * NANO;
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_long_pause_is_not_made_up_for() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(1_000, start);
        assert_eq!(bucket.take(10, start), 0);
        assert_eq!(bucket.take(u32::MAX, start + Duration::from_secs(3_600)), 100);
        assert_eq!(bucket.take(u32::MAX, start + Duration::from_secs(3_600)), 0);
    }

    #[test]
    fn a_clock_that_steps_back_grants_nothing_twice() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(1_000, start);
        assert_eq!(bucket.take(50, start + Duration::from_millis(50)), 50);
        assert_eq!(bucket.take(50, start), 0);
        assert_eq!(bucket.take(50, start + Duration::from_millis(50)), 0);
    }

    proptest! {
        #[test]
        fn the_rate_is_met_and_never_exceeded(
            rate in 100_u64..10_000_000, steps in proptest::collection::vec(1_u64..50_000, 100..300)
        ) {
            let start = Instant::now();
            let (mut now, mut granted) = (start, 0_u64);
            let mut bucket = TokenBucket::new(rate, start);
            for micros in steps {
                now += Duration::from_micros(micros);
                granted += u64::from(bucket.take(u32::MAX, now));
            }
            let exact = now.duration_since(start).as_nanos() * u128::from(rate) / NANO;
            // No step is longer than the burst, so all that is lost is the last fraction of a hash.
            prop_assert!(u128::from(granted) <= exact && u128::from(granted) + 1 >= exact, "{granted} of {exact}");
        }
    }
}
