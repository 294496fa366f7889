//! What a node, or its block files, say of the reserve: whether settlements have paid, and whether what they have not spent is still there.

use crate::chain::{Fate, State};
use crate::source::{Source, SourceError};
use bitcoin::{Block, BlockHash, OutPoint, Transaction, Txid};
use share_accounting::entry::Reserve;
use share_accounting::settlement::{self, Made};
use share_accounting::verify::Report;
use std::collections::{BTreeMap, HashMap, HashSet};

/// A settlement's transaction comes six blocks after its entry: a log that ends not long before the node's tip knows
/// whatever can have spent the reserve.
const BEHIND_MAX: u32 = 5;

/// So many blocks after the log has said that a settlement is paid it is: or it comes no more.
const FINAL_DEPTH: u32 = 100;

/// The same where the node's best chain does not have the log's newest block.
const UNKNOWN: u32 = u32::MAX;

/// Blocks that are looked through for what has spent the reserve: two weeks.
const SEARCH_DEPTH: u32 = 2_016;

/// The reserve as a node has it.
#[derive(Debug, Default)]
pub struct Custody {
    /// Settlements that are in the best chain, whatever the log says, and their blocks.
    pub paid: BTreeMap<u64, (u32, BlockHash)>,
    /// Those that are not, and that the log calls open; what they are to spend is there.
    pub not_paid: Vec<u64>,
    /// The same of those that the log calls paid.
    pub missing: Vec<u64>,
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
    /// Whether all of it is where the log says, as far as that is known.
    pub fn is_known(&self) -> bool {
        self.unknown.is_empty() && self.missing.is_empty() && self.held.sats().is_some()
    }
}

/// Asks for all settlements of the log, and for all that its blocks have put aside.
///
/// # Errors
/// There is no answer.
pub fn ask(source: &mut Source, report: &Report, fates: &[Fate]) -> Result<Custody, SourceError> {
    let mut custody = Custody::default();
    let behind = behind(source, report)?;
    let (mut settled, mut given_up) = (Vec::new(), Vec::new());
    for (&index, made) in report.settlements.all() {
        match made.state {
            settlement::State::Open | settlement::State::Paid { .. } => {
                settled.push((index, &**made, fate(source, made)?));
            }
            settlement::State::Withdrawn | settlement::State::Failed { .. } => {
                given_up.push((index, &**made))
            }
        }
    }
    let mut there = look(source, report, fates, &settled)?;
    if behind != UNKNOWN {
        custody.wrong.extend(never_failed(report, &there));
    }
    let mut put_aside = blocks_reserves(report, fates);
    let mut spending = HashSet::new();
    for (index, made, logged) in settled {
        spending.extend(made.settlement.reserve.iter().map(|reserve| reserve.outpoint));
        let fate = match logged {
            Paid::NotInChain => unlogged_fate(source, report, index, made, &mut there)?,
            fate => fate,
        };
        match fate {
            Paid::In { block, height, rest } => {
                custody.paid.insert(index, (height, block));
                put_aside.extend(rest.map(|rest| (index, rest)));
            }
            Paid::NotInChain if made.state == settlement::State::Open => custody.not_paid.push(index),
            Paid::NotInChain => custody.missing.push(index),
            // By a later settlement, perhaps.
            Paid::Elsewhere(_) if behind > BEHIND_MAX => custody.unknown.push(index),
            Paid::Unknown => custody.unknown.push(index),
            Paid::Elsewhere(text) | Paid::Wrong(text) => custody.wrong.push((index, text)),
        }
    }
    for (index, made) in given_up {
        let mut outpoints = made.settlement.reserve.iter().map(|reserve| reserve.outpoint);
        // Later settlements of the log may spend them; of ones that came behind its end nothing is known.
        let gone = outpoints.find(|outpoint| !there.contains(outpoint) && !spending.contains(outpoint));
        if let Some(block) = paid_all_the_same(source, made, gone.filter(|_| behind <= BEHIND_MAX))? {
            let text =
                format!("the settlement is called {}, and is paid in block {block}", made.state.label());
            custody.wrong.push((index, text));
            spending.extend(made.settlement.reserve.iter().map(|reserve| reserve.outpoint));
        }
    }
    if behind > BEHIND_MAX {
        custody.held = Held::Behind(behind);
        return Ok(custody);
    }
    let mut held = 0;
    for (entry, Reserve { outpoint, sats }) in put_aside {
        if spending.contains(&outpoint) {
            continue;
        }
        if there.contains(&outpoint) {
            held += sats;
        } else {
            custody.wrong.push((entry, spent_elsewhere(outpoint, sats)));
        }
    }
    custody.held = Held::All(held);
    Ok(custody)
}

/// What the pool's blocks in the chain have put aside, with their entries.
fn blocks_reserves(report: &Report, fates: &[Fate]) -> Vec<(u64, Reserve)> {
    let in_chain = fates.iter().filter(|fate| matches!(fate.state, State::InChain { .. }));
    let entries: HashMap<BlockHash, u64> = in_chain.map(|fate| (fate.hash, fate.entry)).collect();
    let reserves = report.reserves.iter();
    reserves.filter_map(|(block, reserve)| Some((*entries.get(block)?, *reserve))).collect()
}

/// Which of the outputs that matter are unspent: what blocks have put aside, what settlements that are paid have left,
/// and what the others are to spend.
fn look(
    source: &mut Source,
    report: &Report,
    fates: &[Fate],
    settled: &[(u64, &Made, Paid)],
) -> Result<HashSet<OutPoint>, SourceError> {
    let mut outpoints: HashSet<_> =
        blocks_reserves(report, fates).into_iter().map(|(_, reserve)| reserve.outpoint).collect();
    // All of these are made by a block that the log names, or later: below the lowest there is nothing to look for.
    let in_chain = fates.iter().filter_map(|fate| match fate.state {
        State::InChain { height } => Some(height),
        State::Orphaned | State::Replaced | State::Unknown => None,
    });
    let mut lowest = in_chain.min().unwrap_or(u32::MAX);
    for made in report.settlements.all().values() {
        outpoints.extend(made.lost().map(|reserve| reserve.outpoint));
    }
    for (_, made, fate) in settled {
        match fate {
            Paid::In { height, rest, .. } => {
                outpoints.extend(rest.map(|rest| rest.outpoint));
                lowest = lowest.min(*height);
            }
            Paid::NotInChain => {
                outpoints.extend(made.settlement.reserve.iter().map(|reserve| reserve.outpoint));
            }
            Paid::Unknown | Paid::Elsewhere(_) | Paid::Wrong(_) => {}
        }
    }
    source.unspent(&outpoints, lowest)
}

fn spent_elsewhere(outpoint: OutPoint, sats: u64) -> String {
    format!(
        "the {sats} satoshis put aside in {outpoint} for miners are spent, and by no settlement of the log"
    )
}

/// Settlements that the log calls failed, although all is there that something else has spent, as it says. One of these
/// outputs was spent a hundred blocks before; others perhaps in a block that has lost since.
fn never_failed(report: &Report, there: &HashSet<OutPoint>) -> impl Iterator<Item = (u64, String)> {
    report.settlements.all().iter().filter_map(|(&index, made)| {
        let Reserve { outpoint, .. } = made.lost().next()?;
        let text =
            format!("the settlement is said to have failed because {outpoint} is spent, which it is not");
        made.lost().all(|reserve| there.contains(&reserve.outpoint)).then_some((index, text))
    })
}

/// What has become of one.
enum Paid {
    In {
        block: BlockHash,
        height: u32,
        rest: Option<Reserve>,
    },
    NotInChain,
    Unknown,
    /// Something else has spent its outputs.
    Elsewhere(String),
    Wrong(String),
}

/// By what the log says.
fn fate(source: &mut Source, made: &Made) -> Result<Paid, SourceError> {
    for &(block, txid) in made.seen_in.iter().rev() {
        let State::InChain { height } = source.state(block)? else { continue };
        let Some(found) = source.block(block)? else { return Ok(Paid::Unknown) };
        return Ok(match holds(&found, txid, made) {
            true => Paid::In { block, height, rest: made.settlement.rest(txid) },
            false => {
                let text =
                    format!("the settlement is said to be paid in block {block}, which does not hold it");
                Paid::Wrong(text)
            }
        });
    }
    Ok(Paid::NotInChain)
}

fn holds(block: &Block, txid: Txid, made: &Made) -> bool {
    let own = block.txdata.iter().find(|transaction| transaction.compute_txid() == txid);
    own.is_some_and(|transaction| made.settlement.is_paid_by(transaction, &made.reserve_script))
}

/// Why one that the log calls paid, and whose outputs are there, has never been; `None` if it may have been, or may still
/// come.
fn never_paid(
    source: &mut Source,
    report: &Report,
    index: u64,
    made: &Made,
) -> Result<Option<String>, SourceError> {
    let Some(said) = report.said_paid.get(&index) else { return Ok(None) };
    for &(block, txid) in &made.seen_in {
        // It was in a block that has lost, and no other has taken it.
        if source.state(block)? == State::Orphaned
            && source.block(block)?.is_some_and(|block| holds(&block, txid, made))
        {
            return Ok(None);
        }
    }
    // What the log names as it goes on is in the chain behind the entry, at the earliest.
    let mut later: Vec<_> = report.targets.iter().filter(|(_, entry)| *entry > said).collect();
    later.sort_by_key(|(_, entry)| **entry);
    let later = later.into_iter().map(|((block, _), _)| *block).chain(report.newest_tip);
    for block in later {
        if let State::InChain { height } = source.state(block)? {
            let tip = tip_height(source)?;
            let words = "the settlement is said to be paid, and is not: what it spends is there";
            return Ok((tip >= height + FINAL_DEPTH)
                .then(|| format!("{words}, {} blocks after entry {said}, which says so", tip - height)));
        }
    }
    Ok(None)
}

/// Of one that is not in the chain as far as the log knows: what it is to spend is there, or the settlement itself has
/// spent it in one of the newest blocks. What that one has left is looked for, too.
fn unlogged_fate(
    source: &mut Source,
    report: &Report,
    index: u64,
    made: &Made,
    there: &mut HashSet<OutPoint>,
) -> Result<Paid, SourceError> {
    let mut reserves = made.settlement.reserve.iter();
    let Some(first) = reserves.find(|reserve| !there.contains(&reserve.outpoint)) else {
        let lie = never_paid(source, report, index, made)?;
        return Ok(lie.map_or(Paid::NotInChain, Paid::Wrong));
    };
    let Some((block, transaction)) = spender(source, first.outpoint)? else { return Ok(Paid::Unknown) };
    if !made.settlement.is_paid_by(&transaction, &made.reserve_script) {
        return Ok(Paid::Elsewhere(spent_elsewhere(first.outpoint, first.sats)));
    }
    let State::InChain { height } = source.state(block)? else { return Ok(Paid::Unknown) };
    let rest = made.settlement.rest(transaction.compute_txid());
    let outpoints = rest.map(|rest| rest.outpoint).into_iter().collect();
    there.extend(source.unspent(&outpoints, height)?);
    Ok(Paid::In { block, height, rest })
}

/// Where one is paid that the log calls withdrawn or failed, by its own words or because its transaction has spent what is
/// `gone`.
fn paid_all_the_same(
    source: &mut Source,
    made: &Made,
    gone: Option<OutPoint>,
) -> Result<Option<BlockHash>, SourceError> {
    if let Paid::In { block, .. } = fate(source, made)? {
        return Ok(Some(block));
    }
    let Some(gone) = gone else { return Ok(None) };
    let spent = spender(source, gone)?;
    let own = spent.filter(|(_, transaction)| made.settlement.is_paid_by(transaction, &made.reserve_script));
    Ok(own.map(|(block, _)| block))
}

/// What has spent an output, if that was in one of the newest blocks.
fn spender(source: &mut Source, outpoint: OutPoint) -> Result<Option<(BlockHash, Transaction)>, SourceError> {
    let mut hash = source.best_block()?;
    for _ in 0..SEARCH_DEPTH {
        let Some(block) = source.block(hash)? else { break };
        let before = block.header.prev_blockhash;
        let spends = |transaction: &Transaction| {
            transaction.input.iter().any(|input| input.previous_output == outpoint)
        };
        if let Some(transaction) = block.txdata.into_iter().find(spends) {
            return Ok(Some((hash, transaction)));
        }
        hash = before;
    }
    Ok(None)
}

/// Blocks of the chain behind the newest one that the log knows of.
fn behind(source: &mut Source, report: &Report) -> Result<u32, SourceError> {
    let tip = tip_height(source)?;
    let Some(known) = report.newest_tip else { return Ok(tip) };
    Ok(match source.state(known)? {
        State::InChain { height } => tip.saturating_sub(height),
        State::Orphaned | State::Replaced | State::Unknown => UNKNOWN,
    })
}

fn tip_height(source: &mut Source) -> Result<u32, SourceError> {
    let newest = source.best_block()?;
    Ok(source.place(newest)?.map_or(0, |place| place.height))
}
