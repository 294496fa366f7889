//! What is counted, and how it is written down.

use crate::histogram::Histogram;
use crate::tally::Reasons;
use serde_json::{Value, json};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Counters of one phase.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections that have got their first job.
    pub ready: usize,
    /// Why connections failed.
    pub failed: Reasons,
    /// Microseconds from connecting to the first job.
    pub first_job: Histogram,
    /// Shares acknowledged.
    pub accepted: u64,
    /// Why shares were refused.
    pub refused: Reasons,
    /// Microseconds from a share to its answer.
    pub answer: Histogram,
    /// Shares that were due when no connection could send one.
    pub held_back: u64,
}

impl Counts {
    /// What there is to say of shares.
    pub fn shares(&self, seconds: f64, waiting: usize) -> Value {
        json!({
            "seconds": seconds,
            "accepted": self.accepted,
            "per_second": self.accepted as f64 / seconds,
            "refused": self.refused.0,
            "unanswered": waiting,
            "held_back": self.held_back,
            "answer_us": summary(&self.answer),
        })
    }

    /// What there is to say of connecting.
    pub fn connects(&self, wanted: usize, seconds: f64) -> Value {
        json!({
            "wanted": wanted,
            "ready": self.ready,
            "failed": self.failed.0,
            "seconds": seconds,
            "first_job_us": summary(&self.first_job),
        })
    }
}

fn summary(histogram: &Histogram) -> Value {
    let [p50, p99] = [50, 99].map(|percent| histogram.percentile(percent));
    json!({ "count": histogram.total(), "p50": p50, "p99": p99, "max": histogram.max() })
}

/// A new tip on its way to the connections.
#[derive(Debug)]
pub struct Tip {
    /// Which.
    pub tip: u64,
    /// At the first connection, for programs whose clock began at another time.
    first_unix_us: u64,
    first: Instant,
    /// At the others, in order, after the first.
    later_us: Vec<u64>,
}

impl Tip {
    /// It has come to the first connection.
    pub fn first(tip: u64, now: Instant) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let first_unix_us = u64::try_from(since_epoch.as_micros()).unwrap_or(0);
        Self { tip, first_unix_us, first: now, later_us: vec![0] }
    }

    /// It has come to another one.
    pub fn another(&mut self, now: Instant) {
        self.later_us.push(u64::try_from((now - self.first).as_micros()).unwrap_or(u64::MAX));
    }

    /// How many connections have it.
    pub fn connections(&self) -> usize {
        self.later_us.len()
    }

    /// What there is to say.
    pub fn to_json(&self) -> Value {
        let at = |percent: usize| self.later_us[(self.later_us.len() * percent).div_ceil(100).max(1) - 1];
        json!({
            "connections": self.connections(),
            "first_unix_us": self.first_unix_us,
            "p50_us": at(50),
            "p99_us": at(99),
            "last_us": at(100),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_tip_says_when_half_of_them_and_when_all_had_it() {
        let now = Instant::now();
        let mut tip = Tip::first(7, now);
        (1..100).for_each(|ms| tip.another(now + Duration::from_millis(ms)));
        let json = tip.to_json();
        assert_eq!((&json["connections"], &json["p50_us"]), (&100.into(), &49_000.into()));
        assert_eq!((&json["p99_us"], &json["last_us"]), (&98_000.into(), &99_000.into()));
    }
}
