//! What a node of the verifier's own says of the pool's blocks, and of those that its jobs build on.

use crate::cli::NodeArgs;
use crate::custody::{self, Custody};
use anyhow::{anyhow, bail};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network};
use share_accounting::verify::Report;
use std::collections::{BTreeMap, HashMap, HashSet};
use template::bitcoind::ask::{self, Header};
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

/// What a node says.
#[derive(Debug)]
pub struct Chain {
    /// Of every block that the log's shares solve.
    pub fates: Vec<Fate>,
    /// Of jobs that go by another ledger or another difficulty than the chain that they build on, by entry.
    pub wrong: Vec<(u64, String)>,
    /// The reserve.
    pub custody: Custody,
}

/// How often a node is asked all of it again because a block has come meanwhile.
const TRIES: usize = 5;
/// Blocks between two changes of the difficulty.
const RETARGET_BLOCKS: u32 = 2_016;

/// Headers, each asked for once.
pub struct Headers {
    rpc: Rpc,
    known: HashMap<BlockHash, Option<Header>>,
}

impl Headers {
    /// Of a block; `None` if the node does not know it.
    pub fn get(&mut self, hash: BlockHash) -> Result<Option<Header>, RpcError> {
        if let Some(known) = self.known.get(&hash) {
            return Ok(known.clone());
        }
        let header = match ask::header(&mut self.rpc, hash) {
            Ok(header) => Some(header),
            Err(RpcError::Node { code: UNKNOWN_BLOCK, .. }) => None,
            Err(error) => return Err(error),
        };
        self.known.insert(hash, header.clone());
        Ok(header)
    }

    /// Where a block is.
    pub fn state(&mut self, hash: BlockHash) -> Result<State, RpcError> {
        Ok(match self.get(hash)? {
            Some(header) if header.confirmations > 0 => State::InChain { height: header.height },
            Some(_) => State::Orphaned,
            None => State::Unknown,
        })
    }

    /// The target of a block that follows this one, as far as the node can say.
    fn target_after(&mut self, hash: BlockHash) -> Result<Option<u32>, RpcError> {
        let Some(header) = self.get(hash)? else { return Ok(None) };
        if (header.height + 1) % RETARGET_BLOCKS != 0 {
            return Ok(header.nbits());
        }
        let Some(next) = header.nextblockhash else { return Ok(None) };
        Ok(self.get(next)?.and_then(|next| next.nbits()))
    }

    /// The node, for other questions.
    pub fn rpc(&mut self) -> &mut Rpc {
        &mut self.rpc
    }
}

/// Asks a node for every block that the log's shares solve, for those that its jobs build on, and for the reserve.
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
    let mut headers = Headers { rpc, known: HashMap::new() };
    for _ in 0..TRIES {
        let tip = ask::best_block(&mut headers.rpc).map_err(failed)?;
        let chain = look(&mut headers, network, report).map_err(failed)?;
        // Answers from before and behind a new block do not fit together.
        if ask::best_block(&mut headers.rpc).map_err(failed)? == tip {
            return Ok(chain);
        }
        headers.known.clear();
    }
    bail!("node {}: its chain changes faster than it can be asked", node.address)
}

fn look(headers: &mut Headers, network: Network, report: &Report) -> Result<Chain, RpcError> {
    let mut fates = Vec::new();
    for (&entry, &hash) in &report.blocks {
        fates.push(Fate { entry, hash, state: headers.state(hash)? });
    }
    let mut wrong = old_ledgers(headers, report, &fates)?;
    // Test networks let a block be easy when none has come for 20 minutes (BIP 94 among others).
    if !matches!(network, Network::Testnet | Network::Testnet4) {
        wrong.extend(other_targets(headers, report)?);
    }
    wrong.sort();
    let custody = custody::ask_node(headers, report, &fates)?;
    Ok(Chain { fates, wrong, custody })
}

/// Jobs whose ledger is not that of the pool's newest block below them: what is owed since then is not in it.
fn old_ledgers(
    headers: &mut Headers,
    report: &Report,
    fates: &[Fate],
) -> Result<Vec<(u64, String)>, RpcError> {
    let in_chain: BTreeMap<u32, BlockHash> = fates
        .iter()
        .filter_map(|fate| match fate.state {
            State::InChain { height } => Some((height, fate.hash)),
            State::Orphaned | State::Unknown => None,
        })
        .collect();
    let solved: HashSet<BlockHash> = report.blocks.values().copied().collect();
    let mut wrong = Vec::new();
    for (&(prev_hash, named), &entry) in &report.ledgers {
        // Jobs that go by a block whose share is not in the log are left out anyway.
        let known = named == BlockHash::all_zeros() || solved.contains(&named);
        if known && let State::InChain { height } = headers.state(prev_hash)? {
            let newest = in_chain.range(..=height).next_back();
            let newest = newest.map_or(BlockHash::all_zeros(), |(_, hash)| *hash);
            if newest != named {
                let words = format!(
                    "the job's ledger is that of block {named}, but the pool's newest block in the chain that it builds on \
                     is {newest}"
                );
                wrong.push((entry, words));
            }
        }
    }
    Ok(wrong)
}

/// Jobs that name another network difficulty than the chain has there: by it goes how large the window is.
fn other_targets(headers: &mut Headers, report: &Report) -> Result<Vec<(u64, String)>, RpcError> {
    let mut wrong = Vec::new();
    for (&(prev_hash, named), &entry) in &report.targets {
        if let Some(target) = headers.target_after(prev_hash)?.filter(|target| *target != named) {
            let words = format!(
                "the job names the network target {named:08x}, but that of the chain is {target:08x}"
            );
            wrong.push((entry, words));
        }
    }
    Ok(wrong)
}
