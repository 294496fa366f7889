//! How much a peer may do at once and over time: a token bucket that keeps one instant.
//!
//! What was done takes time to be forgiven, `each` for one; no more than `at_once` may wait for that. It is the
//! generic cell rate algorithm (ITU-T I.371), in its form of virtual scheduling.

use std::time::{Duration, Instant};

/// A rate, and what may exceed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// What may be done at once by one who has done nothing before.
    pub at_once: u32,
    /// Until one of it is forgiven.
    pub each: Duration,
}

impl Allowance {
    fn room(&self) -> Duration {
        self.each.saturating_mul(self.at_once)
    }
}

/// What a peer has used of an allowance.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// When all of it is forgiven.
    until: Instant,
}

impl Used {
    /// Nothing, from `now` on.
    pub fn nothing(now: Instant) -> Self {
        Self { until: now }
    }

    /// Uses `count` of it; `false`, and nothing is used, if that is too much now.
    #[must_use]
    pub fn take(&mut self, count: u32, allowance: &Allowance, now: Instant) -> bool {
        let mut after = *self;
        after.charge(count, allowance, now);
        let within = after.until.saturating_duration_since(now) <= allowance.room();
        if within {
            *self = after;
        }
        within
    }

    /// Uses `count` of it, also when that is too much: [`Used::free_at`] says until when.
    pub fn charge(&mut self, count: u32, allowance: &Allowance, now: Instant) {
        self.until = self.until.max(now) + allowance.each.saturating_mul(count);
    }

    /// From when on no more is used than may be at once.
    pub fn free_at(&self, allowance: &Allowance) -> Instant {
        // Where no instant is that early, the clock has just begun: a moment longer does no harm.
        self.until.checked_sub(allowance.room()).unwrap_or(self.until)
    }

    /// Whether all is forgiven.
    pub fn is_nothing(&self, now: Instant) -> bool {
        self.until <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEN_PER_S: Allowance = Allowance { at_once: 20, each: Duration::from_millis(100) };

    #[test]
    fn what_may_be_done_at_once_comes_back_one_by_one() {
        let now = Instant::now();
        let mut used = Used::nothing(now);
        assert!(used.take(20, &TEN_PER_S, now) && !used.take(1, &TEN_PER_S, now));
        let later = now + Duration::from_millis(250);
        assert!(used.take(2, &TEN_PER_S, later) && !used.take(1, &TEN_PER_S, later));
        assert!(used.take(1, &TEN_PER_S, now + Duration::from_millis(300)));
        assert!(!used.is_nothing(later) && used.is_nothing(now + Duration::from_millis(2_300)));
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_twice() {
        let now = Instant::now() + Duration::from_secs(60);
        let mut used = Used::nothing(now);
        assert!(used.take(20, &TEN_PER_S, now));
        assert!(!used.take(1, &TEN_PER_S, now - Duration::from_secs(1)));
        assert!(!used.take(1, &TEN_PER_S, now));
    }

    #[test]
    fn a_charge_counts_beyond_the_allowance_and_is_waited_for() {
        let now = Instant::now() + Duration::from_secs(60);
        let mut used = Used::nothing(now);
        used.charge(50, &TEN_PER_S, now);
        assert_eq!(used.free_at(&TEN_PER_S), now + Duration::from_secs(3));
        assert!(!used.take(1, &TEN_PER_S, now + Duration::from_secs(3)));
        assert!(used.take(1, &TEN_PER_S, now + Duration::from_millis(3_100)));
    }

    proptest! {
        #[test]
        fn the_rate_is_never_exceeded_and_always_given(
            at_once in 1_u32..50, each_us in 1_u64..1_000_000, steps in prop::collection::vec((0_u64..2_000_000, 1_u32..4), 1..200)
        ) {
            let allowance = Allowance { at_once, each: Duration::from_micros(each_us) };
            let start = Instant::now();
            let (mut now, mut used, mut taken) = (start, Used::nothing(start), 0_u64);
            // The plain bucket, in microseconds' worth.
            let (full, mut left) = (u64::from(at_once) * each_us, u64::from(at_once) * each_us);
            for (pause_us, count) in steps {
                now += Duration::from_micros(pause_us);
                left = full.min(left + pause_us);
                let cost = u64::from(count) * each_us;
                let granted = used.take(count, &allowance, now);
                prop_assert_eq!(granted, cost <= left);
                if granted {
                    left -= cost;
                    taken += u64::from(count);
                }
            }
            let elapsed_us = now.duration_since(start).as_micros() as u64;
            prop_assert!(taken <= u64::from(at_once) + elapsed_us / each_us);
        }
    }
}
