//! Header hashes seen, by the previous-block hash they build on.

use super::Reject;
use crate::hasher::SecretState;
use bitcoin::BlockHash;
use std::collections::{HashSet, VecDeque};

/// Previous-block hashes for which shares are remembered.
pub(super) const TIPS_REMEMBERED: usize = 4;
/// Older ones that are known to have been left: should one come back, nobody could tell its replays apart.
pub(super) const TIPS_LEFT_MAX: usize = 1_024;
/// Newest blocks that are known again on any tip, also on one whose shares are forgotten. The oldest would be taken for a
/// new one by who has solved so many on tips that left within the two minutes for which his job lives.
pub(super) const BLOCKS_MAX: usize = 1_024;
/// A tip's shares lie on so many shelves. Each grows for itself, so that no share waits until millions have moved: of
/// ten million one shelf has 39,000. The slowest share of ten million took 1 to 4 ms so, and 260 in one set.
const SHELVES: usize = 256;

/// Half of a header hash: the low-order half, which no proof of work makes predictable. Two distinct headers share it
/// once in 2^128 tries.
type Key = [u8; 16];

/// Header hashes seen, by the previous-block hash they build on.
///
/// Keyed by value, so a tip that comes back after a reorganisation finds its shares again. One that comes back
/// after [`TIPS_REMEMBERED`] others takes no shares: its work is many blocks behind, and its old shares could be
/// sent again through new jobs, for the same coinbase may come again.
#[derive(Debug)]
pub(super) struct DuplicateSet {
    /// Newest last.
    pub(super) tips: VecDeque<Tip>,
    /// Shares remembered per tip.
    max: usize,
    blocks: Blocks,
    secret: SecretState,
}

/// The newest shares that solve a block, whatever they build on.
#[derive(Debug)]
struct Blocks {
    /// Newest last.
    order: VecDeque<Key>,
    known: HashSet<Key, SecretState>,
}

#[derive(Debug)]
pub(super) struct Tip {
    hash: BlockHash,
    /// `None` once its shares are forgotten.
    pub(super) seen: Option<Seen>,
}

/// The shares of a tip: 17 bytes each, and as much again right after a shelf has grown.
#[derive(Debug)]
pub(super) struct Seen {
    shelves: Box<[HashSet<Key, SecretState>]>,
    count: usize,
}

impl DuplicateSet {
    pub(super) fn new(max: usize) -> Self {
        let secret = SecretState::default();
        let blocks = Blocks { order: VecDeque::new(), known: HashSet::with_hasher(secret) };
        Self { tips: VecDeque::new(), max, blocks, secret }
    }

    /// Makes room for a tip. Of the tips with shares the newest [`TIPS_REMEMBERED`] keep them; an old one without
    /// has nothing to be remembered for, and a node that catches up tells of many.
    pub(super) fn remember(&mut self, hash: BlockHash) {
        let known = self.tips.iter().position(|tip| tip.hash == hash);
        let known = known.and_then(|at| self.tips.remove(at));
        let new = || Tip { hash, seen: Some(Seen::new(self.secret)) };
        self.tips.push_back(known.unwrap_or_else(new));
        let is_empty = |tip: &Tip| tip.seen.as_ref().is_some_and(|seen| seen.count == 0);
        let mut newer = self.tips.len();
        self.tips.retain(|tip| {
            newer -= 1;
            newer < TIPS_REMEMBERED || !is_empty(tip)
        });
        // The newest will have shares.
        let older = self.tips.iter_mut().rev().skip(1).filter(|tip| tip.seen.is_some() && !is_empty(tip));
        older.skip(TIPS_REMEMBERED - 1).for_each(|tip| tip.seen = None);
        if self.tips.len() > TIPS_REMEMBERED + TIPS_LEFT_MAX {
            self.tips.pop_front();
        }
    }

    fn seen(&self, tip: BlockHash) -> Option<&Seen> {
        self.tips.iter().rev().find(|known| known.hash == tip)?.seen.as_ref()
    }

    fn seen_mut(&mut self, tip: BlockHash) -> Option<&mut Seen> {
        self.tips.iter_mut().rev().find(|known| known.hash == tip)?.seen.as_mut()
    }

    pub(super) fn contains(&self, tip: BlockHash, digest: &[u8; 32]) -> bool {
        self.seen(tip).is_some_and(|seen| seen.shelves[shelf(digest)].contains(&key(digest)))
            || self.blocks.known.contains(&key(digest))
    }

    pub(super) fn insert(&mut self, tip: BlockHash, digest: &[u8; 32]) -> Result<(), Reject> {
        // A tip that was never announced, or whose shares are forgotten, cannot be told apart from a replay.
        let max = self.max;
        let seen = self.seen_mut(tip).ok_or(Reject::Stale)?;
        if seen.count >= max {
            return Err(Reject::DuplicateSetFull);
        }
        seen.insert(digest);
        Ok(())
    }

    /// Takes a share that solves a block, whatever it builds on and however full the set is: each has cost the network's
    /// work, which is what bounds them.
    pub(super) fn insert_block(&mut self, tip: BlockHash, digest: &[u8; 32]) {
        if let Some(seen) = self.seen_mut(tip) {
            seen.insert(digest);
        }
        let Blocks { order, known } = &mut self.blocks;
        if known.insert(key(digest)) {
            order.push_back(key(digest));
        }
        if order.len() > BLOCKS_MAX
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
    }

    /// Takes back one that solves no block.
    pub(super) fn remove(&mut self, tip: BlockHash, digest: &[u8; 32]) {
        if let Some(seen) = self.seen_mut(tip) {
            seen.count -= usize::from(seen.shelves[shelf(digest)].remove(&key(digest)));
        }
    }
}

impl Seen {
    fn new(secret: SecretState) -> Self {
        Self { shelves: vec![HashSet::with_hasher(secret); SHELVES].into(), count: 0 }
    }

    fn insert(&mut self, digest: &[u8; 32]) {
        self.count += usize::from(self.shelves[shelf(digest)].insert(key(digest)));
    }
}

fn key(digest: &[u8; 32]) -> Key {
    digest[..16].try_into().expect("half of 32 bytes")
}

/// By a byte that is in no key: a shelf is no less evenly filled than the whole.
fn shelf(digest: &[u8; 32]) -> usize {
    digest[16].into()
}
