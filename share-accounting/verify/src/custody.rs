//! What a node says of the reserve: whether settlements have paid, and whether what they have not spent is still there.

use crate::chain::{Fate, Headers, State};
use bitcoin::{Block, BlockHash, OutPoint, Transaction};
use share_accounting::entry::Reserve;
use share_accounting::settlement::{self, Made};
use share_accounting::verify::Report;
use std::collections::{BTreeMap, HashMap, HashSet};
use template::bitcoind::ask;
use template::bitcoind::rpc::RpcError;

/// A settlement's transaction comes six blocks after its entry: a log that ends not long before the node's tip knows
/// whatever can have spent the reserve.
const BEHIND_MAX: u32 = 5;

/// Blocks that are looked through for what has spent the reserve: two weeks.
const SEARCH_DEPTH: u32 = 2_016;

/// The reserve as a node has it.
#[derive(Debug, Default)]
pub struct Custody {
    /// Settlements that are in the best chain, and their blocks.
    pub paid: BTreeMap<u64, BlockHash>,
    /// Those that are not, or not any more; what they are to spend is there.
    pub not_paid: Vec<u64>,
    /// Those of which the node cannot say.
    pub unknown: Vec<u64>,
    /// Reserve outputs that are unspent, and what they hold, in satoshis.
    pub held: Held,
    /// What is wrong, by entry.
    pub wrong: Vec<(u64, String)>,
}

/// What the reserve holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// So many satoshis: all that no settlement spends.
    All(u64),
    /// The log ends so many blocks before the node's tip: what has happened since is not known.
    Behind(u32),
}

impl Held {
    /// If that is known.
    pub fn sats(self) -> Option<u64> {
        match self {
            Self::All(sats) => Some(sats),
            Self::Behind(_) => None,
        }
    }
}

impl Default for Held {
    fn default() -> Self {
        Self::All(0)
    }
}

impl Custody {
    /// Whether the node could say of all of it where it is.
    pub fn is_known(&self) -> bool {
        self.unknown.is_empty() && self.held.sats().is_some()
    }
}

/// Asks for all settlements of the log, and for all that its blocks have put aside.
///
/// # Errors
/// The node does not answer.
pub fn ask_node(headers: &mut Headers, report: &Report, fates: &[Fate]) -> Result<Custody, RpcError> {
    let mut custody = Custody::default();
    let behind = behind(headers, report)?;
    if behind > BEHIND_MAX {
        custody.held = Held::Behind(behind);
        return Ok(custody);
    }
    let mut spending = HashSet::new();
    let mut rests = Vec::new();
    for (&index, made) in report.settlements.all() {
        let outpoints = made.settlement.reserve.iter().map(|reserve| reserve.outpoint);
        match made.state {
            settlement::State::Open | settlement::State::Paid { .. } => spending.extend(outpoints),
            settlement::State::Withdrawn | settlement::State::Failed => continue,
        }
        let fate = match fate(headers, made)? {
            Paid::NotInChain => unlogged_fate(headers, made)?,
            fate => fate,
        };
        match fate {
            Paid::In(block, rest) => {
                custody.paid.insert(index, block);
                rests.extend(rest.map(|rest| (index, rest)));
            }
            Paid::NotInChain => custody.not_paid.push(index),
            Paid::Unknown => custody.unknown.push(index),
            Paid::Wrong(text) => custody.wrong.push((index, text)),
        }
    }
    let entries: HashMap<BlockHash, u64> = fates
        .iter()
        .filter(|fate| matches!(fate.state, State::InChain { .. }))
        .map(|fate| (fate.hash, fate.entry))
        .collect();
    let of_blocks =
        report.reserves.iter().filter_map(|(block, reserve)| Some((*entries.get(block)?, *reserve)));
    let mut held = 0;
    for (entry, Reserve { outpoint, sats }) in of_blocks.chain(rests) {
        if spending.contains(&outpoint) {
            continue;
        }
        if ask::is_unspent(headers.rpc(), outpoint)? {
            held += sats;
        } else {
            custody.wrong.push((entry, spent_elsewhere(outpoint, sats)));
        }
    }
    custody.held = Held::All(held);
    Ok(custody)
}

fn spent_elsewhere(outpoint: OutPoint, sats: u64) -> String {
    format!(
        "the {sats} satoshis put aside in {outpoint} for miners are spent, and by no settlement of the log"
    )
}

/// What has become of one.
enum Paid {
    In(BlockHash, Option<Reserve>),
    NotInChain,
    Unknown,
    Wrong(String),
}

/// By what the log says.
fn fate(headers: &mut Headers, made: &Made) -> Result<Paid, RpcError> {
    for &(hash, txid) in made.seen_in.iter().rev() {
        if !matches!(headers.state(hash)?, State::InChain { .. }) {
            continue;
        }
        let Some(block) = block(headers, hash)? else { return Ok(Paid::Unknown) };
        let own = block.txdata.iter().find(|transaction| transaction.compute_txid() == txid);
        let is_paid =
            own.is_some_and(|transaction| made.settlement.is_paid_by(transaction, &made.reserve_script));
        return Ok(match is_paid {
            true => Paid::In(hash, made.settlement.rest(txid)),
            false => {
                let text =
                    format!("the settlement is said to be paid in block {hash}, which does not hold it");
                Paid::Wrong(text)
            }
        });
    }
    Ok(Paid::NotInChain)
}

/// Of one that is not in the chain as far as the log knows: what it is to spend is there, or the settlement itself has
/// spent it in one of the newest blocks.
fn unlogged_fate(headers: &mut Headers, made: &Made) -> Result<Paid, RpcError> {
    let mut spent = Vec::new();
    for reserve in &made.settlement.reserve {
        if !ask::is_unspent(headers.rpc(), reserve.outpoint)? {
            spent.push(*reserve);
        }
    }
    let Some(first) = spent.first() else { return Ok(Paid::NotInChain) };
    let mut hash = ask::best_block(headers.rpc())?;
    for _ in 0..SEARCH_DEPTH {
        let Some(block) = block(headers, hash)? else { break };
        let spends = |transaction: &&Transaction| {
            transaction.input.iter().any(|input| input.previous_output == first.outpoint)
        };
        if let Some(transaction) = block.txdata.iter().find(spends) {
            return Ok(match made.settlement.is_paid_by(transaction, &made.reserve_script) {
                true => Paid::In(hash, made.settlement.rest(transaction.compute_txid())),
                false => Paid::Wrong(spent_elsewhere(first.outpoint, first.sats)),
            });
        }
        hash = block.header.prev_blockhash;
    }
    Ok(Paid::Unknown)
}

/// A block of the chain; `None` if the node has pruned it, or there is none.
fn block(headers: &mut Headers, hash: BlockHash) -> Result<Option<Block>, RpcError> {
    match ask::block(headers.rpc(), hash) {
        Ok(block) => Ok(Some(block)),
        Err(RpcError::Node { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Blocks of the node's chain behind the newest one that the log knows of.
fn behind(headers: &mut Headers, report: &Report) -> Result<u32, RpcError> {
    let newest = ask::best_block(headers.rpc())?;
    let tip = headers.get(newest)?.map_or(0, |header| header.height);
    let Some(known) = report.newest_tip else { return Ok(tip) };
    Ok(match headers.state(known)? {
        State::InChain { height } => tip.saturating_sub(height),
        State::Orphaned | State::Unknown => u32::MAX,
    })
}
