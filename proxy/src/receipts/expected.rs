//! Shares that a pool has acknowledged, until they are found in its log. Pure.
//!
//! A share may be found before its acknowledgement is here: the pool signs its log while the answer is still on the way. So
//! what is found is remembered for a while, too.

use bitcoin::BlockHash;
use std::collections::HashMap;
use std::time::Duration;

/// Shares of one payee that are waited for; further ones are not watched.
pub const EXPECTED_MAX: usize = 65_536;
/// Shares of one payee that are remembered as found; where there are more, nothing is called missing for a while.
const FOUND_MAX: usize = 4 * EXPECTED_MAX;
/// A share that is not in the log so long after its acknowledgement is missing. An acknowledgement means that it is
/// durable, and heads are signed within seconds of that unless the pool has trouble with its disk.
pub const MISSING_AFTER: Duration = Duration::from_secs(300);
/// For so long it is remembered what was found.
const REMEMBERED: Duration = Duration::from_secs(900);

/// What a pool owes the log, of one payee.
#[derive(Debug, Default)]
pub struct Expected {
    /// When they were acknowledged, Unix milliseconds, by the hash of their header.
    shares: HashMap<BlockHash, u64>,
    /// Whether they earn, and when they were found, Unix milliseconds.
    found: HashMap<BlockHash, (bool, u64)>,
    /// When something was found that could not be remembered.
    forgot_at: Option<u64>,
}

/// What is known of a share that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is waited for.
    Expected,
    /// It was found before.
    Found {
        /// Whether it earns.
        credited: bool,
    },
    /// There are too many.
    Unwatched,
}

/// What has not been found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NotFound {
    /// These should be there, and are not.
    pub missing: Vec<BlockHash>,
    /// Of so many nobody can tell.
    pub unwatched: usize,
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Expected {
    /// The pool has acknowledged a share.
    pub fn accepted(&mut self, hash: BlockHash, unix_ms: u64) -> Taken {
        if let Some((credited, _)) = self.found.remove(&hash) {
            return Taken::Found { credited };
        }
        if self.shares.len() >= EXPECTED_MAX {
            return Taken::Unwatched;
        }
        self.shares.insert(hash, unix_ms);
        Taken::Expected
    }

    /// A share is in the log; whether it was waited for.
    pub fn found(&mut self, hash: BlockHash, credited: bool, unix_ms: u64) -> bool {
        if self.shares.remove(&hash).is_some() {
            return true;
        }
        if self.found.len() < FOUND_MAX {
            self.found.insert(hash, (credited, unix_ms));
        } else {
            self.forgot_at = Some(unix_ms);
        }
        false
    }

    /// All entries have been looked through under a head that is there since `head_since`, Unix milliseconds: what should
    /// have been found. It is not waited for any longer.
    pub fn not_found(&mut self, head_since: u64, now: u64) -> NotFound {
        let remembered = ms(REMEMBERED);
        self.found.retain(|_, (_, at)| at.saturating_add(remembered) > now);
        let due = head_since.saturating_sub(ms(MISSING_AFTER));
        let gone = self.forget_until(due);
        let knows_all = self.forgot_at.is_none_or(|at| at.saturating_add(remembered) < now);
        match knows_all {
            true => NotFound { missing: gone, unwatched: 0 },
            false => NotFound { missing: Vec::new(), unwatched: gone.len() },
        }
    }

    /// Those that were acknowledged at this time or before are not waited for any longer; oldest first.
    pub fn forget_until(&mut self, unix_ms: u64) -> Vec<BlockHash> {
        let gone = self.shares.extract_if(|_, at| *at <= unix_ms);
        let mut gone: Vec<_> = gone.map(|(hash, at)| (at, hash)).collect();
        gone.sort_unstable();
        gone.into_iter().map(|(_, hash)| hash).collect()
    }

    /// When the oldest that is waited for was acknowledged.
    pub fn oldest(&self) -> Option<u64> {
        self.shares.values().copied().min()
    }

    /// How many are waited for.
    pub fn len(&self) -> usize {
        self.shares.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.shares.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;

    fn hash(n: u32) -> BlockHash {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        BlockHash::from_byte_array(bytes)
    }

    #[test]
    fn what_is_not_found_in_time_is_missing_once() {
        let wait = ms(MISSING_AFTER);
        let mut expected = Expected::default();
        for n in 0..4 {
            assert_eq!(expected.accepted(hash(n), 1_000 + u64::from(n)), Taken::Expected);
        }
        assert!(expected.found(hash(1), true, 1_000));
        let missing = |expected: &mut Expected, since| expected.not_found(since, since).missing;
        assert_eq!(missing(&mut expected, 999 + wait), []);
        assert_eq!(missing(&mut expected, 1_002 + wait), [hash(0), hash(2)]);
        assert_eq!((missing(&mut expected, 1_002 + wait), expected.len()), (vec![], 1));
        assert_eq!(expected.oldest(), Some(1_003));
        assert_eq!(expected.forget_until(2_000), [hash(3)]);
        assert!(expected.is_empty());
    }

    #[test]
    fn what_is_found_before_its_acknowledgement_is_here_is_not_waited_for() {
        let mut expected = Expected::default();
        for (n, credited) in [(1, true), (2, false), (3, true)] {
            assert!(!expected.found(hash(n), credited, 1_000));
        }
        assert_eq!(expected.accepted(hash(1), 2_000), Taken::Found { credited: true });
        assert_eq!(expected.accepted(hash(2), 2_000), Taken::Found { credited: false });
        // For a while.
        expected.not_found(0, 1_000 + ms(REMEMBERED));
        assert_eq!(expected.accepted(hash(3), 2_000), Taken::Expected);
    }

    #[test]
    fn no_more_are_watched_than_there_is_room_for_and_none_is_accused_for_want_of_it() {
        let mut expected = Expected::default();
        for n in 0..EXPECTED_MAX as u32 {
            assert_eq!(expected.accepted(hash(n), 0), Taken::Expected);
        }
        assert_eq!(expected.accepted(hash(u32::MAX), 0), Taken::Unwatched);
        for n in 0..=FOUND_MAX as u32 {
            expected.found(hash(1 << 24 | n), true, 5);
        }
        let late = ms(MISSING_AFTER) + 1;
        assert_eq!(expected.not_found(late, late), NotFound { missing: vec![], unwatched: EXPECTED_MAX });
    }
}
