//! The end of the node's best chain, followed through reorganisations.
//!
//! Keyed by hash, never by height or counter: a block that was left may come back (CH-02).

use bitcoin::BlockHash;
use std::collections::VecDeque;

/// Blocks remembered behind the tip: twice the depth at which a coinbase matures.
pub const DEPTH: usize = 200;

/// A block's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Height.
    pub height: u32,
    /// Its parent.
    pub parent: BlockHash,
}

/// The end of the best chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BestChain {
    /// Consecutive blocks, lowest first.
    blocks: VecDeque<BlockHash>,
    /// Height of the first.
    base: u32,
}

/// What is known of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In the best chain, with so many blocks from it to the tip, itself included.
    Confirmed(u32),
    /// Another block has its height.
    Orphaned,
    /// Deeper than we remember, or above the tip.
    Unknown,
}

impl BestChain {
    /// The tip and its height; `None` before the first.
    pub fn tip(&self) -> Option<(BlockHash, u32)> {
        let above_base = u32::try_from(self.blocks.len().checked_sub(1)?).ok()?;
        Some((*self.blocks.back()?, self.base + above_base))
    }

    /// The lowest block that is remembered; `None` before the first tip.
    pub fn oldest(&self) -> Option<BlockHash> {
        self.blocks.front().copied()
    }

    /// Height of the highest block that is in both chains; `None` if both remember none of them.
    pub fn shared_with(&self, other: &Self) -> Option<u32> {
        let heights = (self.base..).zip(&self.blocks);
        heights.filter(|(height, hash)| other.at(*height) == Some(**hash)).map(|(height, _)| height).last()
    }

    /// Makes `tip` the tip. `place` is asked for it and for each ancestor back to a block that is known,
    /// at most [`DEPTH`] times. Gives the blocks that have left the best chain, highest first.
    ///
    /// # Errors
    /// Those of `place`; nothing changes then.
    pub fn update<E>(
        &mut self,
        tip: BlockHash,
        mut place: impl FnMut(BlockHash) -> Result<Place, E>,
    ) -> Result<Vec<BlockHash>, E> {
        if self.tip().is_some_and(|(known, _)| known == tip) {
            return Ok(Vec::new());
        }
        let mut fresh = VecDeque::new();
        let mut next = place(tip)?;
        let mut hash = tip;
        let top = next.height;
        let mut lowest = top;
        loop {
            if self.at(next.height) == Some(hash) {
                break;
            }
            fresh.push_front(hash);
            lowest = next.height;
            if fresh.len() == DEPTH || next.height == 0 {
                break;
            }
            hash = next.parent;
            // A parent that we know needs no question.
            next = match self.at(lowest - 1) {
                Some(known) if known == hash => break,
                _ => place(hash)?,
            };
        }
        let keep = match fresh.is_empty() {
            true => top.saturating_add(1).saturating_sub(self.base),
            false => lowest.saturating_sub(self.base),
        };
        // A height is a u32 and fits a usize on every target that has a node.
        let keep = (keep as usize).min(self.blocks.len());
        let joined = keep > 0 && (fresh.is_empty() || self.base + keep as u32 == lowest); // ≤ DEPTH blocks
        let keep = if joined { keep } else { 0 };
        let left: Vec<BlockHash> = self.blocks.drain(keep..).rev().collect();
        if !joined {
            self.base = lowest;
        }
        self.blocks.extend(fresh);
        while self.blocks.len() > DEPTH {
            self.blocks.pop_front();
            self.base += 1;
        }
        Ok(left)
    }

    /// What is known of a block at a height.
    pub fn standing(&self, hash: BlockHash, height: u32) -> Standing {
        match (self.at(height), self.tip()) {
            (Some(known), Some((_, top))) if known == hash => Standing::Confirmed(top - height + 1),
            (Some(_), _) => Standing::Orphaned,
            (None, _) => Standing::Unknown,
        }
    }

    fn at(&self, height: u32) -> Option<BlockHash> {
        self.blocks.get(height.checked_sub(self.base)? as usize).copied() // a u32 fits a usize here
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::{Hash, sha256d};
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::convert::Infallible;

    /// All blocks there ever were, and the best chain as a plain list.
    struct Model {
        places: HashMap<BlockHash, Place>,
        best: Vec<BlockHash>,
        made: u32,
    }

    impl Model {
        fn new() -> Self {
            let mut model = Self { places: HashMap::new(), best: Vec::new(), made: 0 };
            model.mine(1);
            model
        }

        fn mine(&mut self, count: usize) {
            for _ in 0..count {
                let hash = BlockHash::from_raw_hash(sha256d::Hash::hash(&self.made.to_le_bytes()));
                self.made += 1;
                let parent = self.best.last().copied().unwrap_or(BlockHash::all_zeros());
                self.places.insert(hash, Place { height: self.best.len() as u32, parent });
                self.best.push(hash);
            }
        }
    }

    proptest! {
        #[test]
        fn ch_02_b05_random_reorganisations_match_a_plain_list(
            steps in proptest::collection::vec((0_usize..12, 0_usize..30, any::<bool>()), 1..60),
        ) {
            let mut model = Model::new();
            let mut chain = BestChain::default();
            let mut left_branch = Vec::new();
            for (back, forward, return_to_old) in steps {
                let (before, chain_before) = (model.best.clone(), chain.clone());
                if return_to_old && !left_branch.is_empty() {
                    model.best = std::mem::replace(&mut left_branch, before.clone());
                } else {
                    left_branch = before.clone();
                    model.best.truncate(before.len().saturating_sub(back).max(1));
                    model.mine(forward);
                }
                let tip = *model.best.last().unwrap();
                let left = chain.update(tip, |hash| Ok::<_, Infallible>(model.places[&hash])).unwrap();
                prop_assert_eq!(chain.tip(), Some((tip, model.best.len() as u32 - 1)));
                for hash in left {
                    prop_assert!(before.contains(&hash) && !model.best.contains(&hash));
                }
                let both = before.iter().zip(&model.best).take_while(|(one, other)| one == other).count();
                match chain.shared_with(&chain_before) {
                    Some(height) => prop_assert_eq!(height as usize, both - 1),
                    None => {
                        let seen_by_both = chain.base.max(chain_before.base) as usize;
                        prop_assert!(chain_before.tip().is_none() || both <= seen_by_both);
                    }
                }
                let oldest = model.best.len().saturating_sub(DEPTH);
                for (height, hash) in model.best.iter().enumerate() {
                    let confirmations = (model.best.len() - height) as u32;
                    match chain.standing(*hash, height as u32) {
                        Standing::Confirmed(n) => prop_assert_eq!(n, confirmations),
                        Standing::Unknown => prop_assert!(height < oldest || height < chain.base as usize),
                        Standing::Orphaned => prop_assert!(false, "a best block is not orphaned"),
                    }
                }
                for (height, hash) in before.iter().enumerate() {
                    if model.best.get(height) != Some(hash) {
                        prop_assert!(!matches!(chain.standing(*hash, height as u32), Standing::Confirmed(_)));
                    }
                }
            }
        }
    }

    #[test]
    fn a_failed_question_changes_nothing() {
        let mut model = Model::new();
        model.mine(5);
        let mut chain = BestChain::default();
        chain.update(model.best[2], |hash| Ok::<_, ()>(model.places[&hash])).unwrap();
        let before = chain.clone();
        let mut asked = 0;
        let result = chain.update(model.best[5], |hash| {
            asked += 1;
            if asked == 2 { Err("node is gone") } else { Ok(model.places[&hash]) }
        });
        assert_eq!(result, Err("node is gone"));
        assert_eq!(chain, before);
    }
}
