//! The pool's blocks on the node's best chain, and what is owed at its tip.

use bitcoin::BlockHash;
use share_accounting::entry::ChainEvent;
use share_accounting::ledger::{BlockState, Credits, Ledger, LedgerError, MATURITY, PoolBlock};
use share_accounting::moves::Moves;
use std::sync::Arc;
use stratum::payee::Payee;
use template::bitcoind::ask::{self, Header};
use template::bitcoind::rpc::{Rpc, RpcError};
use template::chain::{BestChain, Place, Standing};
use tracing::{error, info, warn};

/// RPC error of a node that does not know a block.
const UNKNOWN_BLOCK: i32 = -5;

/// The ledger, kept in step with the node's best chain.
///
/// What is owed depends on the chain of the tip alone, also if tips go far back and return, as with a second
/// node that lags or one that is built anew: blocks above the tip do not count, and any block, however deep or
/// long orphaned, is judged again when the chain has changed at its height. Whether such a tip is worth mining
/// on is not for the books to say: the source prefers the node with most work.
#[derive(Debug)]
pub struct Books {
    ledger: Ledger,
    chain: BestChain,
    /// The chain as it was when its tip was highest, until another takes its place: who goes back and then takes
    /// another branch has left it.
    highest: BestChain,
    /// Up to this height the ledger says which blocks are in `chain`: nobody is asked about them again.
    judged: u32,
    nodes: Nodes,
    /// Blocks that the ledger could not take yet.
    unrecorded: Vec<PoolBlock>,
}

/// The nodes, and the one that answered last.
#[derive(Debug)]
struct Nodes {
    list: Vec<Rpc>,
    place: usize,
}

impl Nodes {
    /// Asks for a header, the node that answered last first: work may come from any of them, and the one that
    /// it came from knows the tip.
    fn header(&mut self, hash: BlockHash) -> Result<Header, RpcError> {
        let mut answer = ask::header(&mut self.list[self.place], hash);
        for step in 1..self.list.len() {
            if answer.is_ok() {
                break;
            }
            let place = (self.place + step) % self.list.len();
            let other = ask::header(&mut self.list[place], hash);
            if other.is_ok() {
                self.place = place;
                return other;
            }
            // "I do not know it" says more than "I am not there".
            if !matches!(answer, Err(RpcError::Node { .. })) {
                answer = other;
            }
        }
        answer
    }

    /// The place of a node that has a block on its own best chain: only that can say what lies below it. One that
    /// lags has not got there.
    fn following(&mut self, hash: BlockHash) -> Result<usize, BooksError> {
        let mut failure = None;
        for step in 0..self.list.len() {
            let place = (self.place + step) % self.list.len();
            match is_in_best_chain(&mut self.list[place], hash) {
                Ok(true) => {
                    self.place = place;
                    return Ok(place);
                }
                Ok(false) => {}
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.map_or(BooksError::OtherChain(hash), BooksError::Node))
    }
}

/// Whether a block is in the node's best chain now. It knows all headers of that chain.
fn is_in_best_chain(node: &mut Rpc, hash: BlockHash) -> Result<bool, RpcError> {
    match ask::header(node, hash) {
        Ok(header) => Ok(header.confirmations > 0),
        Err(RpcError::Node { code: UNKNOWN_BLOCK, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Why there is no standing to plan on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BooksError {
    /// The ledger cannot be read or written.
    #[error("the ledger cannot be used: {0}")]
    Ledger(#[from] LedgerError),
    /// The node does not answer.
    #[error("the node does not say which blocks are on its chain: {0}")]
    Node(#[from] RpcError),
    /// The node says something else than a header.
    #[error("the node has no parent for block {0}")]
    NoParent(BlockHash),
    /// The work builds on one chain, the nodes follow another.
    #[error("no node has block {0} on its best chain, though the work builds on it: are the nodes in sync?")]
    OtherChain(BlockHash),
}

impl Books {
    /// Books over a ledger; `nodes` are asked for headers.
    pub fn new(ledger: Ledger, nodes: Vec<Rpc>) -> Self {
        assert!(!nodes.is_empty(), "the settings name at least one node");
        let nodes = Nodes { list: nodes, place: 0 };
        Self {
            ledger,
            chain: BestChain::default(),
            highest: BestChain::default(),
            judged: 0,
            nodes,
            unrecorded: Vec::new(),
        }
    }

    /// Whether the ledger knows a block; if it cannot say, it does not.
    pub fn knows(&self, hash: BlockHash) -> bool {
        self.ledger.block(hash).is_ok_and(|block| block.is_some())
    }

    /// Whether the share of a block is known to be in the share log; if the ledger cannot say, it is not.
    pub fn is_logged(&self, hash: BlockHash) -> bool {
        self.ledger.is_logged(hash).unwrap_or(false)
    }

    /// The share of a block is in the share log. If that cannot be noted, the next start looks for it.
    pub fn logged(&mut self, hash: BlockHash) {
        if let Err(error) = self.ledger.set_logged(hash) {
            warn!(%error, %hash, "cannot note that the share of a block is logged");
        }
    }

    /// Takes in a block that was found. The same block again changes nothing.
    pub fn found(&mut self, block: PoolBlock) {
        // A block of an earlier run may lie deep.
        self.judged = self.judged.min(block.height.saturating_sub(1));
        self.unrecorded.push(block);
        if let Err(error) = self.record() {
            error!(%error, "a found block cannot be recorded yet; it is kept and tried again");
        }
    }

    /// Writes down what is not written down yet.
    fn record(&mut self) -> Result<(), LedgerError> {
        while let Some(block) = self.unrecorded.first() {
            match self.ledger.record(block) {
                // Trying again cannot help, and must not keep other blocks and all new work waiting.
                Err(LedgerError::Conflict(hash)) => {
                    error!(%hash, "a block came again with other contents; those recorded first stay");
                }
                result => result?,
            }
            self.unrecorded.remove(0);
        }
        Ok(())
    }

    /// Notes payees whose first shares are durable. On failure they are noted when they come back.
    pub fn note_payees(&mut self, payees: &[Arc<Payee>], unix_ms: u64) {
        if let Err(error) = self.ledger.note_payees(payees.iter().map(|payee| &**payee), unix_ms) {
            error!(%error, payees = payees.len(), "payees cannot be noted");
        }
    }

    /// A node has judged a block.
    pub fn judged(&mut self, hash: BlockHash, accepted: bool) -> Vec<ChainEvent> {
        let state = if accepted { BlockState::Submitted } else { BlockState::Refused };
        self.set_state(hash, state).unwrap_or_else(|error| {
            error!(%error, %hash, "the verdict on a block cannot be recorded");
            Vec::new()
        })
    }

    /// Follows the chain of `tip`: gives its height, and what happened to the pool's blocks since the last call.
    ///
    /// # Errors
    /// The ledger or the node cannot be asked.
    pub fn at(&mut self, tip: BlockHash) -> Result<(u32, Vec<ChainEvent>), BooksError> {
        self.record()?;
        let before = self.chain.clone();
        let top = self.follow(tip)?;
        self.judged = self.judged.min(self.chain.shared_with(&before).unwrap_or(0));
        // With the block at the tip's height all above it left that chain, too.
        let left = self.highest.standing(tip, top) == Standing::Orphaned;
        if let Some((_, height)) = before.tip().filter(|(_, height)| *height > top) {
            warn!(
                height = top,
                before = height,
                "the tip is lower than before: a reorganisation or a lagging node"
            );
        }
        let events = self.judge(top, left)?;
        if left || self.highest.tip().is_none_or(|(_, height)| height <= top) {
            self.highest = self.chain.clone();
        }
        Ok((top, events))
    }

    /// What is owed when work builds on the tip at this height and these payees have moved, the pool's own blocks
    /// before it included.
    ///
    /// # Errors
    /// The ledger cannot be asked, or what is owed does not add up: no plan is better than a wrong one.
    pub fn credits(&self, top: u32, moves: &Moves) -> Result<Credits, BooksError> {
        Ok(self.ledger.credits(top, moves)?)
    }

    /// Makes a tip the chain's; gives its height.
    fn follow(&mut self, tip: BlockHash) -> Result<u32, BooksError> {
        let nodes = &mut self.nodes;
        self.chain.update(tip, |hash| {
            let header = nodes.header(hash)?;
            let parent = header.previousblockhash.ok_or(BooksError::NoParent(hash));
            // The first block has no parent, and none is asked for.
            let parent = if header.height == 0 { hash } else { parent? };
            Ok::<_, BooksError>(Place { height: header.height, parent })
        })?;
        Ok(self.chain.tip().expect("it was just made the tip").1)
    }

    /// Says of each block whose fate can have changed whether it is in the chain of the tip at height `top`.
    /// Nothing is known of one above the tip, unless the chain that it was in was `left` below it.
    fn judge(&mut self, top: u32, left: bool) -> Result<Vec<ChainEvent>, BooksError> {
        let mut events = Vec::new();
        let mut follower = None;
        for (block, state) in self.ledger.open_blocks(self.judged)? {
            if block.height <= top {
                // The list is lowest first: if a node fails in its middle, the next call goes on from here.
                self.judged = self.judged.max(block.height.saturating_sub(1));
            }
            let state = if block.height > top {
                if !left || !state.is_in_chain() {
                    continue;
                }
                BlockState::Orphaned
            // Open below the judged height are those that were in the chain, and there it is the same.
            } else if block.height > self.judged && !self.is_in_chain(&block, &mut follower)? {
                BlockState::Orphaned
            } else if top - block.height + 1 >= MATURITY {
                BlockState::Matured
            } else {
                BlockState::InChain
            };
            events.extend(self.set_state(block.hash, state)?);
        }
        self.judged = top;
        Ok(events)
    }

    /// Whether a block that is not above the tip is in its chain; one deeper than the view of the chain is asked
    /// of a node that is found once a round: `follower`.
    fn is_in_chain(&mut self, block: &PoolBlock, follower: &mut Option<usize>) -> Result<bool, BooksError> {
        match self.chain.standing(block.hash, block.height) {
            Standing::Confirmed(_) => Ok(true),
            Standing::Orphaned => Ok(false),
            Standing::Unknown => {
                let place = match *follower {
                    Some(place) => place,
                    None => self.nodes.following(self.chain.oldest().expect("the chain has a tip"))?,
                };
                *follower = Some(place);
                Ok(is_in_best_chain(&mut self.nodes.list[place], block.hash)?)
            }
        }
    }

    /// Moves a block to a state, by way of the states in between; gives the events to log.
    fn set_state(&mut self, hash: BlockHash, to: BlockState) -> Result<Vec<ChainEvent>, LedgerError> {
        let Some((block, from)) = self.ledger.block(hash)? else {
            warn!(%hash, "a block that the ledger does not know was judged");
            return Ok(Vec::new());
        };
        let mut events = Vec::new();
        let steps = match (from, to) {
            (from, to) if from == to => Vec::new(),
            (BlockState::Matured, BlockState::InChain) => Vec::new(),
            (BlockState::InChain, BlockState::Matured) => vec![BlockState::Matured],
            (_, BlockState::Matured) => vec![BlockState::InChain, BlockState::Matured],
            (from, to) if from.may_become(to) => vec![to],
            // A verdict that comes after the chain has spoken says nothing new.
            _ => Vec::new(),
        };
        for step in steps {
            self.ledger.set_state(hash, step)?;
            info!(height = block.height, %hash, state = step.label(), "pool block");
            events.extend(match step {
                BlockState::InChain => Some(ChainEvent::BlockInChain(hash)),
                BlockState::Matured => Some(ChainEvent::BlockMatured(hash)),
                BlockState::Orphaned => Some(ChainEvent::BlockOrphaned(hash)),
                BlockState::Refused => Some(ChainEvent::BlockRefused(hash)),
                BlockState::Solved | BlockState::Submitted => None,
            });
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests;
