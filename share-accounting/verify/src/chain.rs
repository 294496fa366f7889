//! What a node of the verifier's own says of the pool's blocks, and of those that its jobs build on.

use crate::cli::NodeArgs;
use crate::custody::{self, Custody};
use anyhow::anyhow;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network};
use share_accounting::verify::Report;
use std::collections::{BTreeMap, HashSet};
use template::bitcoind::ask;
use template::bitcoind::rpc::{Node, Purpose, Rpc, RpcError, Timeouts};

/// RPC error of a node that does not know a block.
const UNKNOWN_BLOCK: i32 = -5;

/// What has become of a block that a share solves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// The share's entry.
    pub entry: u64,
    /// The block.
    pub hash: BlockHash,
    /// In the best chain, at this height; else the node has it beside the chain, or not at all.
    pub state: State,
}

/// Where a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In the node's best chain.
    InChain { height: u32 },
    /// The node knows it, and another one is in its place.
    Orphaned,
    /// The node does not know it.
    Unknown,
}

/// A job that goes by an old ledger: what is owed since then is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldLedger {
    /// The job's entry.
    pub entry: u64,
    /// The pool block that its ledger is of, or zeros.
    pub named: BlockHash,
    /// The pool's newest block below it.
    pub newest: BlockHash,
}

impl std::fmt::Display for OldLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { named, newest, .. } = self;
        write!(
            f,
            "the job's ledger is that of block {named}, but the pool's newest block in the chain that it builds on is \
             {newest}"
        )
    }
}

/// What a node says.
#[derive(Debug)]
pub struct Chain {
    /// Of every block that the log's shares solve.
    pub fates: Vec<Fate>,
    /// Of jobs whose ledger is not that of the newest one.
    pub old_ledgers: Vec<OldLedger>,
    /// The reserve.
    pub custody: Custody,
}

/// Asks a node for every block that the log's shares solve, and for those that its jobs build on.
///
/// # Errors
/// The node does not answer, or follows another chain.
pub fn ask_node(node: &NodeArgs, network: Network, report: &Report) -> anyhow::Result<Chain> {
    let node = Node {
        address: node.rpc.clone(),
        credentials: node.cookie_file.clone(),
        timeouts: Timeouts::default(),
    };
    let failed = |error: RpcError| anyhow!("node {}: {error}", node.address);
    let mut rpc = Rpc::new(&node, Purpose::Other);
    ask::check_chain(&mut rpc, network).map_err(|error| anyhow!("node {}: {error}", node.address))?;
    let mut fates = Vec::new();
    for (&entry, &hash) in &report.blocks {
        fates.push(Fate { entry, hash, state: state(&mut rpc, hash).map_err(failed)? });
    }
    let in_chain: BTreeMap<u32, BlockHash> = fates
        .iter()
        .filter_map(|fate| match fate.state {
            State::InChain { height } => Some((height, fate.hash)),
            State::Orphaned | State::Unknown => None,
        })
        .collect();
    let solved: HashSet<BlockHash> = report.blocks.values().copied().collect();
    let mut old_ledgers = Vec::new();
    for (&(prev_hash, named), &entry) in &report.ledgers {
        // Jobs that go by a block whose share is not in the log are left out anyway.
        let known = named == BlockHash::all_zeros() || solved.contains(&named);
        if known && let State::InChain { height } = state(&mut rpc, prev_hash).map_err(failed)? {
            let newest = in_chain.range(..=height).next_back();
            let newest = newest.map_or(BlockHash::all_zeros(), |(_, hash)| *hash);
            if newest != named {
                old_ledgers.push(OldLedger { entry, named, newest });
            }
        }
    }
    old_ledgers.sort_by_key(|old| old.entry);
    let custody = custody::ask_node(&mut rpc, report, &fates).map_err(failed)?;
    Ok(Chain { fates, old_ledgers, custody })
}

/// Where a block is.
pub fn state(rpc: &mut Rpc, hash: BlockHash) -> Result<State, RpcError> {
    match ask::header(rpc, hash) {
        Ok(header) if header.confirmations > 0 => Ok(State::InChain { height: header.height }),
        Ok(_) => Ok(State::Orphaned),
        Err(RpcError::Node { code: UNKNOWN_BLOCK, .. }) => Ok(State::Unknown),
        Err(error) => Err(error),
    }
}
