//! A disk that fills up under a running pool.

use serde_json::json;
use sluice_tests::support::log::Log;
use sluice_tests::support::miner::Miner;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{Pool, PoolBuilder, address};
use sluice_tests::support::small_disk::on_a_small_disk;
use sluice_tests::support::wait_for;
use std::collections::HashSet;
use std::path::Path;

/// Fills a file system to its last byte.
fn fill(dir: &Path) -> std::path::PathBuf {
    let ballast = dir.join("ballast");
    assert!(std::fs::write(&ballast, vec![1; 64 << 20]).is_err(), "the file system is small");
    ballast
}

/// Submits shares until one cannot be made durable.
fn until_unavailable(miner: &mut Miner) {
    // What was begun before the disk was full may still fit.
    for _ in 0..10_000 {
        miner.catch_up();
        let (_, answer) = miner.mine_share();
        if answer["result"] == true {
            continue;
        }
        if answer["error"][0] == 20 {
            assert_eq!(answer["error"][1], "accounting unavailable");
            return;
        }
        assert_eq!(answer["error"][0], 21, "only a new tip makes a share late: {answer}");
    }
    panic!("shares are acknowledged on a full disk");
}

fn block_reaches_the_node(node: &Node, miner: &mut Miner) {
    miner.catch_up();
    let share = miner.find_block();
    let hash = {
        use bitcoin::hashes::Hash;
        bitcoin::BlockHash::from_byte_array(share.hash).to_string()
    };
    miner
        .send_line(&json!({"id": "block", "method": "mining.submit", "params": share.params}).to_string())
        .unwrap();
    wait_for("the block to reach the node", || node.try_call("getblockheader", &[json!(hash)]).ok());
    // Its share is not durable and is answered so.
    loop {
        let line = miner.read_line().expect("the pool keeps the connection");
        if line["id"] == "block" {
            assert_eq!(line["error"][0], 20, "{line}");
            return;
        }
    }
}

/// With a file system of its own for the data of the pool.
fn fill_and_recover(dir: &Path) {
    // Not regtest: there most shares are blocks, and one of them would move the tip before the log is full.
    let node = Node::signet();
    let data = dir.join("data");
    let pool = PoolBuilder::new(&node)
        .set("data_dir", &format!("\"{}\"", data.display()))
        .set("difficulty.pot_start", "-30")
        .set("difficulty.pot_max", "-30")
        .start();
    let mut miner = Miner::connect(pool.v1(), &address(1, node.network), "sluice-fleet/disk");
    let mut durable = HashSet::from([miner.mine_accepted_share().hash]);
    let ballast = fill(dir);
    until_unavailable(&mut miner);
    block_reaches_the_node(&node, &mut miner);
    std::fs::remove_file(ballast).unwrap();
    // The same process and the same connection: what failed before is taken now.
    wait_for("a share to be durable again", || {
        miner.catch_up();
        let (share, answer) = miner.mine_share();
        (answer["result"] == true).then(|| durable.insert(share.hash))
    });
    stop_and_check(pool, &data, &durable);
}

fn stop_and_check(pool: Pool, data: &Path, durable: &HashSet<[u8; 32]>) {
    assert!(pool.stop().0.success());
    let log = Log::read(data);
    let logged: Vec<_> = log.shares().map(|share| log.header_hash(share)).collect();
    let distinct: HashSet<_> = logged.iter().copied().collect();
    assert_eq!(distinct.len(), logged.len(), "no share stands in the log twice");
    assert!(durable.is_subset(&distinct), "what was acknowledged is in the log");
}

#[test]
fn d04_a_full_disk_refuses_shares_loses_no_block_and_recovers_without_a_restart() {
    on_a_small_disk(
        "disk::d04_a_full_disk_refuses_shares_loses_no_block_and_recovers_without_a_restart",
        fill_and_recover,
    );
}
