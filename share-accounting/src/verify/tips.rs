//! Which block was the newest one when: work on any other earns nothing.

use bitcoin::BlockHash;
use std::collections::VecDeque;

/// Tips that are remembered.
const TIPS_MAX: usize = 64;
/// A server's parts hear of a new tip, and the log notes it, within so much of each other.
const HEARING_MS: u64 = 5_000;

/// Newest last.
#[derive(Debug, Default)]
pub(super) struct Tips(VecDeque<Tip>);

#[derive(Debug)]
struct Tip {
    hash: BlockHash,
    replaced_unix_ms: Option<u64>,
}

impl Tips {
    pub fn new_tip(&mut self, hash: BlockHash, unix_ms: u64) {
        if let Some(before) = self.0.back_mut() {
            before.replaced_unix_ms = Some(unix_ms);
        }
        self.0.push_back(Tip { hash, replaced_unix_ms: None });
        if self.0.len() > TIPS_MAX {
            self.0.pop_front();
        }
    }

    /// How long ago, in ms, a block was replaced for the last time, if that is longer than a share on it may earn.
    /// Nothing is said of blocks that the log never named: an event may be missing if the disk was slow.
    pub fn stale_for(&self, block: BlockHash, unix_ms: u64, stale_credit_ms: u64) -> Option<u64> {
        let last = self.0.iter().rev().find(|tip| tip.hash == block)?;
        let since = unix_ms.saturating_sub(last.replaced_unix_ms?);
        (since > stale_credit_ms + HEARING_MS).then_some(since)
    }
}
