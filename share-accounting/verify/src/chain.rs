//! What a node of the verifier's own, or its block files, say of the pool's blocks, and of those that its jobs build on.

use crate::custody::{self, Custody};
use crate::source::{Source, SourceError};
use anyhow::bail;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network};
use share_accounting::verify::{InChain, Report};
use std::collections::{BTreeMap, HashSet};

/// What has become of a block that a share solves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// The share's entry.
    pub entry: u64,
    /// The block.
    pub hash: BlockHash,
    /// In the best chain, at this height; else beside the chain, or not there at all.
    pub state: State,
}

/// Where a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In the node's best chain.
    InChain { height: u32 },
    /// The node knows it, and another one is in its place.
    Orphaned,
    /// The node does not know it, and has another one in its place: it has lost, or was kept back.
    Replaced,
    /// The node does not know it, and no other that builds on the same block.
    Unknown,
}

/// What a node says.
#[derive(Debug)]
pub struct Chain {
    /// Of every block that the log's shares solve.
    pub fates: Vec<Fate>,
    /// Of jobs that go by another ledger or another difficulty than the chain that they build on, and of settlements that
    /// have paid what its blocks have paid, too, by entry.
    pub wrong: Vec<(u64, String)>,
    /// The reserve.
    pub custody: Custody,
}

/// How often a node is asked all of it again because a block has come meanwhile.
const TRIES: usize = 5;
/// Blocks between two changes of the difficulty.
const RETARGET_BLOCKS: u32 = 2_016;

/// Asks for every block that the log's shares solve, for those that its jobs build on, and for the reserve.
///
/// # Errors
/// There is no answer, or none that fits together.
pub fn ask(source: &mut Source, network: Network, report: &Report) -> anyhow::Result<Chain> {
    for _ in 0..TRIES {
        let tip = source.best_block()?;
        let chain = look(source, network, report)?;
        // Answers from before and behind a new block do not fit together.
        if source.best_block()? == tip {
            return Ok(chain);
        }
        source.forget();
    }
    bail!("the node's chain changes faster than it can be asked")
}

fn look(source: &mut Source, network: Network, report: &Report) -> Result<Chain, SourceError> {
    let fates = fates(source, report)?;
    let mut wrong = old_ledgers(source, report, &fates)?;
    wrong.extend(unsolved_ledgers(source, report)?);
    // Test networks let a block be easy when none has come for 20 minutes (BIP 94 among others).
    if !matches!(network, Network::Testnet | Network::Testnet4) {
        wrong.extend(other_targets(source, report)?);
    }
    let custody = custody::ask(source, report, &fates)?;
    let settled = custody.paid.iter().map(|(index, (height, _))| (*index, *height)).collect();
    let twice = report.paid_twice(&InChain { blocks: in_chain(&fates), settled });
    wrong.extend(twice.into_iter().map(|finding| (finding.index, finding.lie.to_string())));
    wrong.sort();
    Ok(Chain { fates, wrong, custody })
}

/// What has become of each block that the log's shares solve.
fn fates(source: &mut Source, report: &Report) -> Result<Vec<Fate>, SourceError> {
    let (mut fates, mut replaced) = (Vec::new(), HashSet::new());
    for (&entry, &hash) in &report.blocks {
        let parent = report.built_on[&entry];
        let mut state = source.state(hash)?;
        if state == State::Unknown && (replaced.contains(&parent) || has_other_behind(source, parent)?) {
            state = State::Replaced;
            replaced.insert(hash);
        }
        fates.push(Fate { entry, hash, state });
    }
    Ok(fates)
}

/// Whether the best chain goes on behind a block, or beside it.
fn has_other_behind(source: &mut Source, block: BlockHash) -> Result<bool, SourceError> {
    Ok(source.place(block)?.is_some_and(|place| !place.in_chain || place.next.is_some()))
}

/// The target of a block that follows a block, as far as that can be said.
fn target_after(source: &mut Source, hash: BlockHash) -> Result<Option<u32>, SourceError> {
    let Some(place) = source.place(hash)? else { return Ok(None) };
    if (place.height + 1) % RETARGET_BLOCKS != 0 {
        return Ok(Some(place.nbits));
    }
    let Some(next) = place.next else { return Ok(None) };
    Ok(source.place(next)?.map(|next| next.nbits))
}

/// The pool's blocks in the best chain, by height.
fn in_chain(fates: &[Fate]) -> BTreeMap<u32, BlockHash> {
    let in_chain = fates.iter().filter_map(|fate| match fate.state {
        State::InChain { height } => Some((height, fate.hash)),
        State::Orphaned | State::Replaced | State::Unknown => None,
    });
    in_chain.collect()
}

/// Jobs whose ledger is not that of the pool's newest block below them: what is owed since then is not in it.
fn old_ledgers(
    source: &mut Source,
    report: &Report,
    fates: &[Fate],
) -> Result<Vec<(u64, String)>, SourceError> {
    let in_chain = in_chain(fates);
    let solved: HashSet<BlockHash> = report.blocks.values().copied().collect();
    let mut wrong = Vec::new();
    for (&(prev_hash, named), &entry) in &report.ledgers {
        // Of others it is said that no share solves them.
        let known = named == BlockHash::all_zeros() || solved.contains(&named);
        if known && let State::InChain { height } = source.state(prev_hash)? {
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

/// Jobs that build on the chain and go by a pool block whose share is not in the log, where it would be by now: whatever
/// the pool hands to a node is logged, and what is not in that chain has no ledger there.
fn unsolved_ledgers(source: &mut Source, report: &Report) -> Result<Vec<(u64, String)>, SourceError> {
    let mut wrong = Vec::new();
    for (&(prev_hash, named), &entry) in &report.unsolved {
        if matches!(source.state(prev_hash)?, State::InChain { .. }) {
            let words =
                format!("the job's ledger is that of block {named}, which no share of the log solves");
            wrong.push((entry, words));
        }
    }
    Ok(wrong)
}

/// Jobs that name another network difficulty than the chain has there: by it goes how large the window is.
fn other_targets(source: &mut Source, report: &Report) -> Result<Vec<(u64, String)>, SourceError> {
    let mut wrong = Vec::new();
    for (&(prev_hash, named), &entry) in &report.targets {
        if let Some(target) = target_after(source, prev_hash)?.filter(|target| *target != named) {
            let words = format!(
                "the job names the network target {named:08x}, but that of the chain is {target:08x}"
            );
            wrong.push((entry, words));
        }
    }
    Ok(wrong)
}
