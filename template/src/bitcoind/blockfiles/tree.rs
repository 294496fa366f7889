//! The headers of all blocks that were found, put together from the network's first block on: which branch has the most
//! work, and where a block is.
//!
//! Of equal branches the one whose last block was found first is the best: a node writes blocks down as they come.

use bitcoin::{BlockHash, CompactTarget, Network, constants};
use stratum::target::Target;

/// A block that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its name, which meets its target.
    pub hash: BlockHash,
    /// The block that it builds on.
    pub prev_hash: BlockHash,
    /// Its own time, in Unix seconds.
    pub time: u32,
    /// Its compact target.
    pub nbits: u32,
    /// Where its bytes are.
    pub spot: Spot,
}

/// Where a block's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// Number of the file.
    pub file: u32,
    /// Place in it.
    pub offset: u64,
    /// How many there are.
    pub length: u32,
}

/// Where a block is in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its height, in its own branch.
    pub height: u32,
    /// Its compact target.
    pub nbits: u32,
    /// Whether it is in the best chain.
    pub in_chain: bool,
    /// The block that follows it in the best chain, if there is one.
    pub next: Option<BlockHash>,
}

/// Why blocks are no chain of a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The first block is missing, without which nothing is certain.
    #[error("the first block of {0} is not there")]
    NoFirstBlock(Network),
    /// A block's target is not the one that the rules give.
    #[error(
        "block {hash} at height {height} names the target {named:08x}, the network's rules give {rules:08x}"
    )]
    Target {
        /// The block.
        hash: BlockHash,
        /// Its height.
        height: u32,
        /// Its compact target.
        named: u32,
        /// What it should be; the easiest that it may be, where the rules leave more than one.
        rules: u32,
    },
    /// More than can be counted here.
    #[error("there are more blocks than any chain has")]
    TooMany,
}

/// How a block is connected to the first one.
#[derive(Debug, Clone, Copy)]
enum Standing {
    /// Not looked at yet.
    Unseen,
    /// An ancestor was not found: nothing is known of it.
    Loose,
    /// By its parent's number. Work is that of its branch, up to it.
    Connected { parent: u32, height: u32, work: u128 },
}

// A main network has a million of them.
const _: () = assert!(size_of::<Found>() + size_of::<Standing>() + 2 * size_of::<u32>() <= 128);

/// All blocks, by the order in which they were found.
#[derive(Debug)]
pub struct HeaderTree {
    found: Vec<Found>,
    /// Numbers of the blocks, by their hashes.
    by_hash: Vec<u32>,
    standing: Vec<Standing>,
    /// Numbers of the blocks of the best chain, by height.
    best: Vec<u32>,
}

impl HeaderTree {
    /// Puts blocks together, in whatever order they were found; one that was found again counts once. Of each, its work
    /// must have been checked.
    ///
    /// Every block that goes back to the first one is to have the target that the rules of the network give. Those of
    /// testnet3 and testnet4 depend on how long no block has come; there only the easiest one is certain.
    ///
    /// # Errors
    /// They are no chain of that network.
    pub fn connect(mut found: Vec<Found>, network: Network) -> Result<Self, TreeError> {
        found.shrink_to_fit();
        let count = u32::try_from(found.len()).map_err(|_| TreeError::TooMany)?;
        let mut by_hash: Vec<u32> = (0..count).collect();
        by_hash.sort_unstable_by_key(|&number| (found[number as usize].hash, number)); // u32 fits usize
        by_hash.dedup_by_key(|number| found[*number as usize].hash); // keeps the first
        let standing = vec![Standing::Unseen; found.len()];
        let mut tree = Self { found, by_hash, standing, best: Vec::new() };
        let first = constants::genesis_block(network).block_hash();
        let first = tree.number(first).ok_or(TreeError::NoFirstBlock(network))?;
        tree.standing[first as usize] =
            Standing::Connected { parent: first, height: 0, work: tree.work(first) };
        let mut waiting = Vec::new();
        for number in tree.by_hash.clone() {
            tree.stand(number, network, &mut waiting)?;
        }
        tree.choose(first);
        Ok(tree)
    }

    fn number(&self, hash: BlockHash) -> Option<u32> {
        let at = self.by_hash.binary_search_by(|&number| self.block(number).hash.cmp(&hash)).ok()?;
        Some(self.by_hash[at])
    }

    fn block(&self, number: u32) -> &Found {
        &self.found[number as usize] // u32 fits usize
    }

    fn work(&self, number: u32) -> u128 {
        // Its work has been checked, so its target is one.
        Target::from_nbits(self.block(number).nbits).map_or(0, |target| target.work().0)
    }

    /// Finds out how a block is connected, and each of its ancestors of which that is not known yet.
    fn stand(&mut self, number: u32, network: Network, waiting: &mut Vec<u32>) -> Result<(), TreeError> {
        let mut at = number;
        while let Standing::Unseen = self.standing[at as usize] {
            match self.number(self.block(at).prev_hash) {
                Some(parent) => {
                    waiting.push(at);
                    at = parent;
                }
                None => self.standing[at as usize] = Standing::Loose,
            }
        }
        while let Some(child) = waiting.pop() {
            let standing = match self.standing[at as usize] {
                Standing::Connected { height, work, .. } => {
                    let height = height.checked_add(1).ok_or(TreeError::TooMany)?;
                    self.check_target(child, at, height, network)?;
                    // Nobody can do so much work that this is not the sum.
                    let work = work.saturating_add(self.work(child));
                    Standing::Connected { parent: at, height, work }
                }
                Standing::Loose | Standing::Unseen => Standing::Loose,
            };
            self.standing[child as usize] = standing;
            at = child;
        }
        Ok(())
    }

    /// That a block's target is the one that follows from its ancestors.
    fn check_target(&self, number: u32, parent: u32, height: u32, network: Network) -> Result<(), TreeError> {
        let Found { hash, nbits: named, .. } = *self.block(number);
        let rules = self.rules_target(parent, height, network);
        let is_right = match network {
            Network::Testnet | Network::Testnet4 => {
                // A larger number of the compact form is not always a larger target.
                Target::from_nbits(named)
                    .is_ok_and(|target| Target::from_nbits(rules).is_ok_and(|easiest| target <= easiest))
            }
            _ => named == rules,
        };
        match is_right {
            true => Ok(()),
            false => Err(TreeError::Target { hash, height, named, rules }),
        }
    }

    /// The target of a block at a height above its parent; on test networks with exceptions, the easiest.
    fn rules_target(&self, parent: u32, height: u32, network: Network) -> u32 {
        let params = network.params();
        if matches!(network, Network::Testnet | Network::Testnet4) {
            return params.max_attainable_target.to_compact_lossy().to_consensus();
        }
        let last = self.block(parent);
        let interval = params.difficulty_adjustment_interval();
        if u64::from(height) % interval != 0 {
            return last.nbits;
        }
        let mut first = parent;
        for _ in 1..interval {
            if let Standing::Connected { parent, .. } = self.standing[first as usize] {
                first = parent;
            }
        }
        // Time may run backwards in a hostile chain: then the rules take the shortest that they know.
        let timespan = last.time.saturating_sub(self.block(first).time);
        let target = CompactTarget::from_consensus(last.nbits);
        CompactTarget::from_next_work_required(target, timespan.into(), params).to_consensus()
    }

    /// Finds the branch with the most work.
    fn choose(&mut self, first: u32) {
        let (mut tip, mut most) = (first, 0);
        for (number, standing) in (0..).zip(&self.standing) {
            if let Standing::Connected { work, .. } = *standing
                && work > most
            {
                (tip, most) = (number, work);
            }
        }
        let mut at = tip;
        while let Standing::Connected { parent, height, .. } = self.standing[at as usize] {
            self.best.push(at);
            if height == 0 {
                break;
            }
            at = parent;
        }
        self.best.reverse();
    }

    /// The last block of the best chain.
    pub fn tip(&self) -> &Found {
        self.block(*self.best.last().expect("the first block is in it"))
    }

    /// The block of the best chain at a height; `None` above its tip.
    pub fn at(&self, height: u32) -> Option<&Found> {
        self.best.get(height as usize).map(|number| self.block(*number)) // u32 fits usize
    }

    /// A block that goes back to the first one.
    pub fn get(&self, hash: BlockHash) -> Option<(&Found, Place)> {
        let number = self.number(hash)?;
        let Standing::Connected { height, .. } = self.standing[number as usize] else { return None };
        let found = self.block(number);
        let in_chain = self.best.get(height as usize) == Some(&number);
        let next = height.checked_add(1).and_then(|next| self.at(next)).filter(|_| in_chain);
        let place = Place { height, nbits: found.nbits, in_chain, next: next.map(|next| next.hash) };
        Some((found, place))
    }
}
