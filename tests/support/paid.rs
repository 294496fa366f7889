//! What the blocks of a chain should pay, computed again from the share log.

use super::log::Log;
use super::miner::hex;
use super::node::Node;
use bitcoin::{Amount, ScriptBuf, Transaction};
use share_accounting::entry::PlanEntry;
use std::collections::BTreeMap;

/// What a reward of `value` pays: cumulative floor in script order, largest output first.
fn expected_outputs(value: u64, weights: &BTreeMap<ScriptBuf, u128>) -> Vec<(ScriptBuf, Amount)> {
    let whole: u128 = weights.values().sum();
    let (mut reached, mut placed) = (0, 0);
    let mut outputs = Vec::new();
    for (script, weight) in weights {
        reached += weight;
        let upto = u64::try_from(u128::from(value) * reached / whole).unwrap();
        outputs.push((script.clone(), Amount::from_sat(upto - placed)));
        placed = upto;
    }
    outputs.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    outputs
}

/// Checks every block of the chain against the log; gives the payees of each.
pub fn check_chain(node: &Node, log: &Log, window: u128) -> Vec<Vec<ScriptBuf>> {
    (1..=node.height())
        .map(|height| {
            let block = node.block_at(height);
            let raw = hex(block["tx"][0]["hex"].as_str().unwrap());
            let mut coinbase: Transaction = bitcoin::consensus::deserialize(&raw).unwrap();
            coinbase.input[0].witness.clear();
            let job = log.job_of(&bitcoin::consensus::serialize(&coinbase));
            let paid: Vec<_> =
                coinbase.output.iter().filter(|output| !output.script_pubkey.is_op_return()).collect();
            let value: Amount = paid.iter().map(|output| output.value).sum();
            assert_eq!(value, Amount::from_int_btc(50), "no transactions, so the subsidy alone");
            let expected = match &job.plan {
                PlanEntry::Solo { script, .. } => vec![(script.clone(), value)],
                PlanEntry::Window { log_size, .. } => {
                    expected_outputs(value.to_sat(), &log.weights(*log_size, window))
                }
            };
            let paid: Vec<_> =
                paid.iter().map(|output| (output.script_pubkey.clone(), output.value)).collect();
            assert_eq!(paid, expected, "block {height}");
            paid.into_iter().map(|(script, _)| script).collect()
        })
        .collect()
}
