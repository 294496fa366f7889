//! Whether a credit is paid twice: by a settlement and by a coinbase, too.
//!
//! Which of the pool's blocks are in the chain no log can prove: its newest job may build on a block that has lost, or on
//! one that never was. So the question is asked of a chain, once somebody has it.

use super::{Finding, Lie, Report};
use bitcoin::{BlockHash, ScriptBuf};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What of a log is in one chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InChain {
    /// Blocks that shares of the log solve, by height.
    pub blocks: BTreeMap<u32, BlockHash>,
    /// Settlements by their entries, whatever the log says of them, and the heights of the blocks with their transactions.
    pub settled: BTreeMap<u64, u32>,
}

impl Report {
    /// Settlements that have paid in this chain what its coinbases have paid, too; each once.
    ///
    /// At the block with a settlement's transaction, and from there on behind each of the pool's blocks, everybody is
    /// owed at least what settlements have paid him: a block before may have paid it from work older than the
    /// settlement's entry, and so may one after. Nothing is said where the ledger behind a block is not known: then jobs
    /// are left out.
    pub fn paid_twice(&self, chain: &InChain) -> Vec<Finding> {
        let mut owed = Some(Arc::default());
        let mut newest = None;
        let mut settled = Settled::default();
        let mut found = BTreeMap::new();
        let heights: BTreeSet<u32> = chain.blocks.keys().chain(chain.settled.values()).copied().collect();
        for height in heights {
            if let Some(block) = chain.blocks.get(&height) {
                newest = Some(*block);
                owed = self.owed.get(block).map(|owed| self.moves.credits(owed));
            }
            let here = chain.settled.iter().filter(|(_, at)| **at == height);
            here.for_each(|(index, _)| settled.add(self, *index));
            let Some(owed) = &owed else { continue };
            for (script, (sats, index)) in &settled.0 {
                let owed = owed.get(script).copied().unwrap_or(0);
                if owed < *sats {
                    let (script, settled) = (script.clone(), *sats);
                    found.entry(*index).or_insert(Lie::PaidTwice { script, settled, owed, newest });
                }
            }
        }
        found.into_iter().map(|(index, lie)| Finding { index, lie }).collect()
    }

    /// Settlements that may be paid, for all that the log says, and who says that one was withdrawn or has failed may have
    /// given it out: only with a chain it can be known whether they are, and whether blocks have paid the same credits.
    pub fn may_be_paid(&self) -> u64 {
        self.settlements.all().len() as u64 // usize fits u64
    }
}

/// What settlements have paid to each payee, and the newest of them that did.
#[derive(Debug, Default)]
struct Settled(BTreeMap<ScriptBuf, (u64, u64)>);

impl Settled {
    fn add(&mut self, report: &Report, index: u64) {
        let Some(made) = report.settlements.all().get(&index) else { return };
        for (script, sats) in &made.settlement.credits {
            let (sum, newest) = self.0.entry(report.moves.payee(script).to_owned()).or_default();
            (*sum, *newest) = (sum.saturating_add(*sats), index);
        }
    }
}
