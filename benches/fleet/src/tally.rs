//! Everything that is counted.

use crate::histogram::Histogram;
use bitcoin::BlockHash;
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// Distinct reasons kept apart; further ones count as "other": their text is the server's.
const REASONS_MAX: usize = 32;
/// Tips whose spread over the connections is remembered.
const TIPS_MAX: usize = 16;

/// Counters of a run, over all connections.
#[derive(Debug, Default)]
pub struct Tally {
    /// Connections that are authorized now; with V2: that have all their channels.
    pub authorized: u64,
    /// The most there were at one time.
    pub authorized_max: u64,
    /// Handshakes completed, reconnections included.
    pub handshakes: u64,
    /// Microseconds from connecting to the answer to authorize; with V2: to the last channel.
    pub handshake: Histogram,
    /// Why connections ended or could not be made.
    pub disconnects: Reasons,
    /// Jobs received.
    pub jobs: u64,
    /// Shares sent.
    pub submitted: u64,
    /// Shares the server acknowledged.
    pub acknowledged: u64,
    /// Shares the server refused.
    pub refused: Reasons,
    /// Shares found for work that was void before they could be sent.
    pub outdated: u64,
    /// Shares whose connection ended before their answer.
    pub unanswered: u64,
    /// Acknowledged shares that meet the network target.
    pub blocks: u64,
    /// Acknowledged shares sent again and acknowledged again: must be 0.
    pub replays_acknowledged: u64,
    /// Acknowledged shares sent again and refused.
    pub replays_refused: Reasons,
    /// Microseconds from a share to its answer.
    pub latency: Histogram,
    /// How each tip spread over the connections, newest last.
    pub tips: VecDeque<Tip>,
}

/// Counts by reason.
#[derive(Debug, Default)]
pub struct Reasons(pub BTreeMap<String, u64>);

/// The arrival of a new parent block at the connections.
#[derive(Debug)]
pub struct Tip {
    /// The parent block.
    pub hash: BlockHash,
    /// First job that builds on it, on any connection.
    pub first: Instant,
    /// Newest arrival counted.
    pub last: Instant,
    /// Connections, or channels, that were told.
    pub connections: u64,
}

impl Tally {
    /// A connection, or a channel of one, was told of work on a parent that it has not worked on before.
    pub fn tip(&mut self, hash: BlockHash, now: Instant) {
        if let Some(tip) = self.tips.iter_mut().find(|tip| tip.hash == hash) {
            tip.last = now;
            tip.connections += 1;
            return;
        }
        if self.tips.len() == TIPS_MAX {
            self.tips.pop_front();
        }
        self.tips.push_back(Tip { hash, first: now, last: now, connections: 1 });
    }
}

impl Reasons {
    /// Counts a reason.
    pub fn count(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        let known = self.0.contains_key(&reason) || self.0.len() < REASONS_MAX;
        *self.0.entry(if known { reason } else { "other".to_owned() }).or_default() += 1;
    }

    /// Over all reasons.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;
    use std::time::Duration;

    #[test]
    fn reasons_are_bounded_and_none_is_lost() {
        let mut reasons = Reasons::default();
        for n in 0..1_000 {
            reasons.count(format!("reason {n}"));
        }
        assert_eq!((reasons.0.len(), reasons.total()), (REASONS_MAX + 1, 1_000));
    }

    #[test]
    fn tips_remember_first_and_last_arrival() {
        let (mut tally, now) = (Tally::default(), Instant::now());
        for n in 0..40_u8 {
            for ms in [0, 3, 9] {
                tally.tip(BlockHash::from_byte_array([n; 32]), now + Duration::from_millis(ms));
            }
        }
        let tip = tally.tips.back().unwrap();
        assert_eq!((tip.connections, tip.last - tip.first), (3, Duration::from_millis(9)));
        assert_eq!(tally.tips.len(), TIPS_MAX);
    }
}
