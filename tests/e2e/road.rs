//! The whole road: V1 and V2 miners at the pool and V1 machines behind the proxy are paid by one coinbase.

use bitcoin::{ScriptBuf, Transaction};
use serde_json::Value;
use sluice_tests::support::log::Log;
use sluice_tests::support::miner::{Job, Miner};
use sluice_tests::support::node::Node;
use sluice_tests::support::paid::check_chain;
use sluice_tests::support::pool::{PoolBuilder, address};
use sluice_tests::support::proxy::ProxyBuilder;
use sluice_tests::support::v2_miner::V2Miner;
use sluice_tests::support::wait_for;
use std::collections::{BTreeSet, HashSet};
use stratum::v2::client::Kind;

/// Shares that each miner has accepted before the block.
const SHARES: usize = 3;

/// Scripts that a job's coinbase pays.
fn payees(job: &Job, miner: &Miner) -> BTreeSet<ScriptBuf> {
    let coinbase = job.coinbase(&miner.extranonce1, &vec![0; miner.extranonce2_size]);
    let coinbase: Transaction = bitcoin::consensus::deserialize(&coinbase).unwrap();
    let paid = coinbase.output.into_iter().filter(|output| !output.script_pubkey.is_op_return());
    paid.map(|output| output.script_pubkey).collect()
}

fn script(number: u8, node: &Node) -> ScriptBuf {
    let address: bitcoin::Address<bitcoin::address::NetworkUnchecked> =
        address(number, node.network).parse().unwrap();
    address.assume_checked().script_pubkey()
}

fn mine_v2(miner: &mut V2Miner) -> Vec<[u8; 32]> {
    (0..SHARES).map(|_| miner.mine_accepted_share()).collect()
}

fn mine_v1(miner: &mut Miner) -> Vec<[u8; 32]> {
    (0..SHARES).map(|_| miner.mine_accepted_share().hash).collect()
}

#[test]
fn v1_v2_and_proxied_miners_are_paid_by_one_coinbase_to_the_satoshi() {
    let node = Node::signet();
    let pool = PoolBuilder::new(&node)
        .set("payout.window", "\"2\"")
        .set("difficulty.pot_start", "-20")
        .set("difficulty.pot_max", "-20")
        .with_v2()
        .start();
    let (v2, authority) = (pool.builder.v2(), pool.builder.authority());
    let proxy =
        ProxyBuilder::passing_users().set("difficulty.pot_start", "-20").upstream(v2, authority).start();
    let user = |number: u8| format!("{}.rig", address(number, node.network));
    let mut plain = Miner::connect(pool.v1(), &user(1), "sluice-fleet/road");
    let kind = Kind::Extended { min_extranonce_size: 4 };
    let mut extended = V2Miner::connect(v2, authority, &user(2), kind);
    let mut standard = V2Miner::connect(v2, authority, &user(2), Kind::Standard);
    let mut proxied = [3, 4].map(|number| Miner::connect(proxy.v1(), &user(number), "sluice-fleet/road"));

    let mut acknowledged: HashSet<[u8; 32]> = HashSet::new();
    acknowledged.extend(mine_v1(&mut plain));
    acknowledged.extend(mine_v2(&mut extended));
    acknowledged.extend(mine_v2(&mut standard));
    proxied.iter_mut().for_each(|miner| acknowledged.extend(mine_v1(miner)));
    assert_eq!(acknowledged.len(), 5 * SHARES, "no share is acknowledged twice");

    // The block is found behind the proxy, on a job that pays all four.
    let everybody: BTreeSet<_> = (1..=4).map(|number| script(number, &node)).collect();
    let [finder, _] = &mut proxied;
    let ours = loop {
        finder.catch_up();
        let before = finder.job.clone().unwrap();
        if payees(&before, finder) != everybody {
            let prefix = (finder.extranonce1.clone(), finder.extranonce2_size);
            finder.wait_for_job(|job| job.id != before.id);
            assert_eq!(prefix, (finder.extranonce1.clone(), finder.extranonce2_size));
            continue;
        }
        let (block, answer) = finder.mine_block();
        match &answer["error"] {
            Value::Null => break block,
            error => assert_eq!(error[0], 21, "only a new tip makes a block late: {answer}"),
        }
    };
    acknowledged.insert(ours.hash);
    let hash = {
        use bitcoin::hashes::Hash;
        bitcoin::BlockHash::from_byte_array(ours.hash).to_string()
    };
    let header =
        wait_for("the block at the node", || node.try_call("getblockheader", &[hash.clone().into()]).ok());
    let height = header["height"].as_u64().unwrap();

    assert!(proxy.forwarded().adds_up(), "{:?}", proxy.forwarded());
    let (status, settings) = pool.stop();
    assert!(status.success(), "a pool that is told to stop ends in order");
    let log = Log::read(&settings.data_dir());
    let paid = check_chain(&node, &log, 2 * 4_838_420);
    let paid: BTreeSet<_> = paid[usize::try_from(height).unwrap() - 1].iter().cloned().collect();
    assert_eq!(paid, everybody, "all are paid by one coinbase");
    let logged = log.header_hashes();
    assert!(acknowledged.is_subset(&logged), "acknowledged shares are in the log");
}
