//! Looks for what has spent the outputs of a settlement.

use super::Tip;
use anyhow::ensure;
use bitcoin::{BlockHash, OutPoint, Transaction};
use share_accounting::settlement::Made;
use std::collections::HashSet;
use template::bitcoind::ask;
use template::bitcoind::rpc::{Rpc, RpcError};

/// RPC error of a node that has no block's transactions any more.
const PRUNED: i32 = -1;
/// Blocks that are looked through before the tip is asked for again.
const BLOCKS_AT_ONCE: usize = 100;

/// What has spent an output of a settlement.
pub(super) struct Spender {
    pub block: BlockHash,
    pub height: u32,
    pub transaction: Transaction,
}

/// What a look has found.
pub(super) enum Looked {
    Found(Spender),
    /// There are more blocks.
    GoesOn,
    /// Nothing; why.
    Nowhere(String),
}

/// A search for one settlement, and how far it is: no block is looked through twice.
#[derive(Debug)]
pub(super) struct Search {
    /// The settlement's entry.
    pub index: u64,
    /// Nothing that spends is in a block lower than this.
    floor: u32,
    /// Blocks without it: some block and those before, down to the one above `next`.
    without: HashSet<BlockHash>,
    /// Where to go on; `None` at the end.
    next: Option<(BlockHash, u32)>,
    /// The highest block that the node has pruned, if the search had to end there.
    pruned: Option<u32>,
}

impl Search {
    pub fn new(index: u64, floor: u32) -> Self {
        Self { index, floor, without: HashSet::new(), next: None, pruned: None }
    }

    /// Looks through some blocks of the tip's chain, the newest first.
    pub fn look(&mut self, node: &mut Rpc, made: &Made, tip: Tip) -> anyhow::Result<Looked> {
        if self.without.is_empty()
            && let Some(spender) = by_its_outputs(node, made, tip)?
        {
            return Ok(Looked::Found(spender));
        }
        let spends = |transaction: &Transaction| {
            let mut inputs = transaction.input.iter().map(|input| input.previous_output);
            inputs.any(|outpoint| made.settlement.reserve.iter().any(|reserve| reserve.outpoint == outpoint))
        };
        // Blocks that are new since the last look, until one of its own is reached.
        let mut fresh = HashSet::new();
        let mut is_below = self.without.is_empty();
        let mut left = BLOCKS_AT_ONCE;
        let mut at = Some((tip.hash, tip.height));
        while let Some((hash, height)) = at {
            if !is_below && self.without.contains(&hash) {
                self.without.extend(fresh.drain());
                (is_below, at) = (true, self.next);
                continue;
            }
            if is_below && left == 0 {
                return Ok(Looked::GoesOn);
            }
            let block = match ask::block(node, hash) {
                Err(RpcError::Node { code: PRUNED, .. }) => {
                    self.pruned = Some(height);
                    break;
                }
                block => block?,
            };
            let before = block.header.prev_blockhash;
            if let Some(transaction) = block.txdata.into_iter().find(spends) {
                if !is_below {
                    self.without = fresh;
                }
                self.next = at;
                return Ok(Looked::Found(Spender { block: hash, height, transaction }));
            }
            at = (height > self.floor).then(|| (before, height - 1));
            if is_below {
                self.without.insert(hash);
                (self.next, left) = (at, left - 1);
            } else {
                fresh.insert(hash);
            }
        }
        self.without.extend(fresh);
        self.next = None;
        Ok(Looked::Nowhere(self.words()))
    }

    fn words(&self) -> String {
        let Self { index, floor, .. } = self;
        match self.pruned {
            Some(height) => format!(
                "outputs of settlement {index} are spent in block {height} or below, which the node has pruned: name one \
                 first that has it"
            ),
            None => format!("outputs of settlement {index} are spent, and by nothing from block {floor} on"),
        }
    }
}

/// The settlement itself, if an output of it is there: its name is known, unless a signature of its inputs changes that.
fn by_its_outputs(node: &mut Rpc, made: &Made, tip: Tip) -> anyhow::Result<Option<Spender>> {
    let transaction = made.settlement.transaction(&made.reserve_script);
    let txid = transaction.compute_txid();
    // The last one is the reserve's own, if there is one: nobody has spent that.
    for vout in (0..u32::try_from(transaction.output.len())?).rev() {
        let Some(output) = ask::output(node, OutPoint { txid, vout })? else { continue };
        let height = (tip.height + 1).saturating_sub(output.confirmations);
        let block = ask::block_hash(node, height)?;
        ensure!(ask::best_block(node)? == tip.hash, "a block has come meanwhile");
        return Ok(Some(Spender { block, height, transaction }));
    }
    Ok(None)
}
