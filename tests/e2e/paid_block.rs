//! A block on the private signet pays its miners what the log says, to the satoshi.

use bitcoin::{Amount, ScriptBuf, Transaction};
use share_accounting::entry::PlanEntry;
use sluice_tests::support::log::Log;
use sluice_tests::support::miner::{Miner, hex};
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{Pool, PoolBuilder, address};
use std::collections::{BTreeMap, BTreeSet};

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

/// Checks every block of the chain against the log; gives the number of payees of each.
fn check_chain(node: &Node, log: &Log, window: u128) -> Vec<usize> {
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
                PlanEntry::Solo(script) => vec![(script.clone(), value)],
                PlanEntry::Window { log_size, .. } => {
                    expected_outputs(value.to_sat(), &log.weights(*log_size, window))
                }
            };
            let paid: Vec<_> =
                paid.iter().map(|output| (output.script_pubkey.clone(), output.value)).collect();
            assert_eq!(paid, expected, "block {height}");
            paid.len()
        })
        .collect()
}

fn connect(pool: &Pool, node: &Node) -> Vec<Miner> {
    let user = |number| format!("{}.rig{number}", address(number, node.network));
    (1..=3).map(|number| Miner::connect(pool.v1(), &user(number), "sluice-fleet/test")).collect()
}

#[test]
fn signet_blocks_pay_their_miners_what_the_log_says_to_the_satoshi() {
    let node = Node::signet();
    // Two blocks' worth of work: about sixteen shares of pot −13.
    let pool = PoolBuilder::new(&node).set("payout.window", "\"2\"").set("difficulty.pot_max", "-13").start();
    let mut miners = connect(&pool, &node);
    let window = 2 * 4_838_420;
    let mut acknowledged = BTreeSet::new();
    for turn in 0.. {
        let miner = &mut miners[turn % 3];
        miner.catch_up();
        let (share, answer) = miner.mine_share();
        if answer["result"] == true {
            assert!(acknowledged.insert(share.hash), "no share is acknowledged twice");
        } else {
            assert_eq!(answer["error"][0], 21, "only a new tip makes a share late: {answer}");
        }
        if acknowledged.len() >= 24 && node.height() >= 4 {
            break;
        }
    }
    let height = node.height();
    let (status, settings) = pool.stop();
    assert!(status.success(), "a pool that is told to stop ends in order");
    let log = Log::read(&settings.data_dir());
    let payees = check_chain(&node, &log, window);
    assert_eq!(payees.len() as u64, height);
    assert!(payees.contains(&3), "three miners are paid in one coinbase: {payees:?}");
    assert_eq!(log.shares().filter(|share| share.credited).count(), acknowledged.len());
}
