//! The pool's blocks on the node's best chain, and what is owed at its tip.

use bitcoin::BlockHash;
use share_accounting::entry::ChainEvent;
use share_accounting::ledger::{BlockState, Credits, Ledger, LedgerError, MATURITY, PoolBlock};
use std::sync::Arc;
use stratum::payee::Payee;
use template::bitcoind::ask::{self, Header};
use template::bitcoind::rpc::{Rpc, RpcError};
use template::chain::{BestChain, Place, Standing};
use tracing::{error, info, warn};

/// Depth down to which a block's fate may still turn, whatever was said of it before.
const VIEW: u32 = 190;
const _: () = assert!((VIEW as usize) < template::chain::DEPTH, "the view of the chain answers for it");

/// The ledger, kept in step with the node's best chain.
#[derive(Debug)]
pub struct Books {
    ledger: Ledger,
    chain: BestChain,
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
}

impl Books {
    /// Books over a ledger; `nodes` are asked for headers.
    pub fn new(ledger: Ledger, nodes: Vec<Rpc>) -> Self {
        assert!(!nodes.is_empty(), "the settings name at least one node");
        let nodes = Nodes { list: nodes, place: 0 };
        Self { ledger, chain: BestChain::default(), nodes, unrecorded: Vec::new() }
    }

    /// Whether the ledger knows a block; if it cannot say, it does not.
    pub fn knows(&self, hash: BlockHash) -> bool {
        self.ledger.block(hash).is_ok_and(|block| block.is_some())
    }

    /// Takes in a block that was found. The same block again changes nothing.
    pub fn found(&mut self, block: PoolBlock) {
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

    /// What is owed when work builds on `tip`, the pool's own blocks before it included; and what happened to
    /// those blocks since the last call.
    ///
    /// # Errors
    /// The ledger or the node cannot be asked: no plan is better than a wrong one.
    pub fn at(&mut self, tip: BlockHash) -> Result<(Credits, Vec<ChainEvent>), BooksError> {
        self.record()?;
        let nodes = &mut self.nodes;
        self.chain.update(tip, |hash| {
            let header = nodes.header(hash)?;
            let parent = header.previousblockhash.ok_or(BooksError::NoParent(hash));
            // The first block has no parent, and none is asked for.
            let parent = if header.height == 0 { hash } else { parent? };
            Ok::<_, BooksError>(Place { height: header.height, parent })
        })?;
        let mut events = Vec::new();
        let deepest = self.chain.tip().map_or(0, |(_, height)| height.saturating_sub(VIEW));
        for (block, state) in self.ledger.open_blocks(deepest)? {
            let state = match self.standing(&block, state)? {
                Standing::Confirmed(confirmations) if confirmations >= MATURITY => BlockState::Matured,
                Standing::Confirmed(_) => BlockState::InChain,
                Standing::Orphaned => BlockState::Orphaned,
                Standing::Unknown => continue,
            };
            events.extend(self.set_state(block.hash, state)?);
        }
        Ok((self.ledger.credits()?, events))
    }

    /// Where a block stands; the node is asked about blocks deeper than the view of the chain.
    fn standing(&mut self, block: &PoolBlock, state: BlockState) -> Result<Standing, RpcError> {
        let standing = self.chain.standing(block.hash, block.height);
        if standing != Standing::Unknown {
            return Ok(standing);
        }
        if self.chain.tip().is_none_or(|(_, height)| block.height > height) {
            // Above the tip: it was on the chain and a shorter one with more work took over, or it has not
            // got there yet.
            return Ok(if state.is_in_chain() { Standing::Orphaned } else { Standing::Unknown });
        }
        match self.nodes.header(block.hash) {
            Ok(header) => Ok(match u32::try_from(header.confirmations) {
                Ok(confirmations) if confirmations > 0 => Standing::Confirmed(confirmations),
                _ => Standing::Orphaned,
            }),
            // The node has never heard of it: nothing is known.
            Err(RpcError::Node { .. }) => Ok(Standing::Unknown),
            Err(error) => Err(error),
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
