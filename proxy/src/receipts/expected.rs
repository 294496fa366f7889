//! Shares that a pool has acknowledged, until they are found in its log. Pure.

use bitcoin::BlockHash;
use share_accounting::publish::journal::Rolled;
use std::collections::HashMap;
use std::time::Duration;

/// Shares of one payee that are waited for; the oldest beyond are not watched any more.
pub const EXPECTED_MAX: usize = 65_536;
/// A share that is not in the log so long after its acknowledgement is missing. An acknowledgement means that it is
/// durable, and heads are signed within seconds of that unless the pool has trouble with its disk.
pub const MISSING_AFTER: Duration = Duration::from_secs(300);

/// What a pool owes the log, of one payee.
#[derive(Debug, Default)]
pub struct Expected {
    /// The share's hash, and when it was acknowledged, Unix milliseconds.
    shares: HashMap<Rolled, (BlockHash, u64)>,
}

impl Expected {
    /// The pool has acknowledged a share; whether it is watched.
    pub fn accepted(&mut self, rolled: Rolled, hash: BlockHash, unix_ms: u64) -> bool {
        let has_room = self.shares.len() < EXPECTED_MAX;
        if has_room {
            self.shares.insert(rolled, (hash, unix_ms));
        }
        has_room
    }

    /// A share is in the log; its hash, if it was waited for.
    pub fn found(&mut self, rolled: &Rolled) -> Option<BlockHash> {
        self.shares.remove(rolled).map(|(hash, _)| hash)
    }

    /// Everything under a signed head has been looked through, which was asked for at this time, Unix milliseconds: what
    /// is missing. It is not waited for any longer.
    pub fn missing(&mut self, asked_unix_ms: u64) -> Vec<BlockHash> {
        let due = asked_unix_ms.saturating_sub(MISSING_AFTER.as_millis() as u64); // minutes
        self.forget(|at| at <= due)
    }

    /// Those that were acknowledged before this time are not waited for any longer.
    pub fn forget_before(&mut self, unix_ms: u64) -> Vec<BlockHash> {
        self.forget(|at| at < unix_ms)
    }

    fn forget(&mut self, which: impl Fn(u64) -> bool) -> Vec<BlockHash> {
        let gone = self.shares.extract_if(|_, (_, at)| which(*at));
        let mut gone: Vec<_> = gone.map(|(_, (hash, at))| (at, hash)).collect();
        gone.sort_unstable();
        gone.into_iter().map(|(_, hash)| hash).collect()
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
    use share_accounting::entry::Extranonce;

    fn rolled(nonce: u32) -> Rolled {
        Rolled { extranonce: Extranonce::new(&[1; 12]).unwrap(), ntime: 7, nonce, version: 8 }
    }

    fn hash(n: u8) -> BlockHash {
        BlockHash::from_byte_array([n; 32])
    }

    #[test]
    fn what_is_not_found_in_time_is_missing_once() {
        let wait = MISSING_AFTER.as_millis() as u64;
        let mut expected = Expected::default();
        for n in 0..4 {
            assert!(expected.accepted(rolled(n.into()), hash(n), 1_000 + u64::from(n)));
        }
        assert_eq!(expected.found(&rolled(1)), Some(hash(1)));
        assert_eq!(expected.found(&rolled(1)), None);
        assert_eq!(expected.missing(999 + wait), []);
        assert_eq!(expected.missing(1_002 + wait), [hash(0), hash(2)]);
        assert_eq!((expected.missing(1_002 + wait), expected.len()), (vec![], 1));
        assert_eq!(expected.forget_before(2_000), [hash(3)]);
        assert!(expected.is_empty());
    }

    #[test]
    fn no_more_are_watched_than_there_is_room_for() {
        let mut expected = Expected::default();
        for n in 0..=EXPECTED_MAX as u32 {
            assert_eq!(expected.accepted(rolled(n), hash(0), 0), n < EXPECTED_MAX as u32);
        }
        assert_eq!(expected.len(), EXPECTED_MAX);
    }
}
