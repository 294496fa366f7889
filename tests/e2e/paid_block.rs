//! A block on the private signet pays its miners what the log says, to the satoshi.

use sluice_tests::support::log::Log;
use sluice_tests::support::miner::Miner;
use sluice_tests::support::node::Node;
use sluice_tests::support::paid::check_chain;
use sluice_tests::support::pool::{Pool, PoolBuilder, address};
use std::collections::BTreeSet;

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
    let payees: Vec<_> = payees.iter().map(Vec::len).collect();
    assert!(payees.contains(&3), "three miners are paid in one coinbase: {payees:?}");
    assert_eq!(log.shares().filter(|share| share.credited).count(), acknowledged.len());
}
