//! Whether a log is the one that everybody is shown: what its pool has signed must soon be under a head that witnesses of
//! the owner's trust have cosigned. Pure.

use share_accounting::publish::cosign::WitnessVerifier;
use std::time::Duration;

/// A head that is under no cosigned one so long after it was seen is worth an alarm. A pool asks its witnesses every ten
/// seconds.
pub const COSIGNED_WITHIN: Duration = Duration::from_secs(600);

/// Witnesses that the owner trusts.
#[derive(Debug, Clone, Default)]
pub struct Witnesses {
    /// Their keys, each once.
    pub keys: Vec<WitnessVerifier>,
    /// So many of them must have cosigned a head; 0: nobody is asked.
    pub needed: usize,
}

/// How far witnesses have followed a log.
#[derive(Debug)]
pub struct Witnessed {
    witnesses: Witnesses,
    /// Entries under the largest head that enough have cosigned.
    cosigned: u64,
    /// The oldest head that is under none: its entries, and when it was seen, Unix milliseconds.
    waiting: Option<(u64, u64)>,
    /// Why there is no newer one.
    trouble: Option<String>,
}

impl Witnessed {
    /// Nothing has been seen yet.
    pub fn by(witnesses: Witnesses) -> Self {
        Self { witnesses, cosigned: 0, waiting: None, trouble: None }
    }

    /// Whether witnesses are to be heard at all.
    pub fn is_wanted(&self) -> bool {
        self.witnesses.needed > 0
    }

    /// How many of them have cosigned a head.
    pub fn count(&self, note: &[u8]) -> usize {
        self.witnesses.keys.iter().filter(|witness| witness.cosigned(note).is_some()).count()
    }

    /// Whether so many are enough.
    pub fn is_enough(&self, count: usize) -> bool {
        count >= self.witnesses.needed
    }

    /// The pool has signed a head over so many entries.
    pub fn signed(&mut self, entries: u64, unix_ms: u64) {
        if self.is_wanted() && entries > self.cosigned {
            self.waiting.get_or_insert((entries, unix_ms));
        }
    }

    /// Enough have cosigned a head over so many.
    pub fn cosigned(&mut self, entries: u64) {
        self.cosigned = self.cosigned.max(entries);
        self.waiting.take_if(|(entries, _)| *entries <= self.cosigned);
        self.trouble = None;
    }

    /// For so long nobody could be asked: that does not count.
    pub fn excuse(&mut self, ms: u64) {
        if let Some((_, since)) = &mut self.waiting {
            *since = since.saturating_add(ms);
        }
    }

    /// There is no such head.
    pub fn failed(&mut self, reason: String) {
        self.trouble = Some(reason);
    }

    /// For how long a head has waited to be cosigned.
    pub fn waits(&self, unix_ms: u64) -> Duration {
        Duration::from_millis(self.waiting.map_or(0, |(_, since)| unix_ms.saturating_sub(since)))
    }

    /// What waits has waited so much longer.
    #[cfg(test)]
    pub fn long_ago(&mut self, seconds: u64) {
        self.waiting.iter_mut().for_each(|(_, since)| *since -= 1_000 * seconds);
    }

    /// What is wrong, if one has waited for too long.
    pub fn alarm(&self, unix_ms: u64) -> Option<String> {
        let waits = self.waits(unix_ms);
        let (entries, _) = self.waiting.filter(|_| waits >= COSIGNED_WITHIN)?;
        let Witnesses { keys, needed } = &self.witnesses;
        let reason = self.trouble.as_deref().unwrap_or("the one that is cosigned does not grow");
        Some(format!(
            "the log's head of {entries} entries is {} s old, and under none that {needed} of {} witnesses have cosigned: work \
             may go by a log that nobody else is shown ({reason})",
            waits.as_secs(),
            keys.len()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use share_accounting::publish::cosign::WitnessKey;

    const WITHIN: u64 = COSIGNED_WITHIN.as_millis() as u64;

    fn witnessed(needed: usize) -> Witnessed {
        let key = |name: &str| WitnessKey::generate(name).0.verifier();
        Witnessed::by(Witnesses { keys: vec![key("a"), key("b")], needed })
    }

    #[test]
    fn a_head_that_nobody_cosigns_is_an_alarm_until_one_is_that_covers_it() {
        let mut seen = witnessed(1);
        seen.signed(10, 1_000);
        seen.signed(20, 2_000);
        assert_eq!(seen.alarm(1_000 + WITHIN - 1), None);
        seen.failed("404".to_owned());
        let told = seen.alarm(1_000 + WITHIN).unwrap();
        assert!(
            told.contains("head of 10 entries is 600 s old") && told.contains("1 of 2 witnesses"),
            "{told}"
        );
        assert!(told.ends_with("(404)"), "{told}");
        seen.cosigned(9);
        assert!(seen.alarm(1_000 + WITHIN).unwrap().contains("does not grow"));
        seen.cosigned(10);
        assert_eq!((seen.alarm(9 * WITHIN), seen.waits(9 * WITHIN)), (None, Duration::ZERO));
        // The next that is not under it waits from when it is seen again.
        seen.signed(20, 5_000);
        assert_eq!(seen.waits(6_000), Duration::from_secs(1));
        seen.excuse(WITHIN);
        assert_eq!(seen.alarm(5_000 + 2 * WITHIN - 1), None);
        assert!(seen.alarm(5_000 + 2 * WITHIN).is_some());
    }

    #[test]
    fn a_log_that_stands_still_under_a_cosigned_head_waits_for_nothing() {
        let mut seen = witnessed(2);
        seen.cosigned(10);
        seen.signed(10, 1_000);
        assert_eq!(seen.alarm(u64::MAX), None);
    }

    #[test]
    fn who_trusts_no_witness_hears_of_none() {
        let mut seen = Witnessed::by(Witnesses::default());
        seen.signed(10, 0);
        assert_eq!(seen.alarm(u64::MAX), None);
    }
}
