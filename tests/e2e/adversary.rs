//! Attacks and crashes at the seams between the pool's parts.

use bitcoin::hashes::Hash;
use rusqlite::Connection;
use serde_json::json;
use sluice_tests::support::miner::{Miner, hex};
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{PoolBuilder, address, files};
use sluice_tests::support::wait_for;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

const AGENT: &str = "cgminer/4.12.1";

/// On regtest a share is worth about one hash, so the window is made of very many.
fn regtest_pool(node: &Node) -> PoolBuilder {
    PoolBuilder::new(node).set("payout.window", "\"1000000\"").set("difficulty.pot_start", "-32")
}

fn ledger(data_dir: &Path) -> Connection {
    Connection::open(data_dir.join("ledger.sqlite")).unwrap()
}

/// The hash of a pool block as the ledger keys it.
fn key(hash: &str) -> Vec<u8> {
    hex(hash).into_iter().rev().collect()
}

fn text(hash: [u8; 32]) -> String {
    bitcoin::BlockHash::from_byte_array(hash).to_string()
}

#[test]
fn m05_a_block_that_is_replayed_is_submitted_once_and_work_goes_on() {
    let node = Node::regtest();
    let pool = regtest_pool(&node).start();
    let mut miner = Miner::connect(pool.v1(), &address(1, node.network), AGENT);
    let (share, answer) = miner.mine_block();
    assert_eq!(answer["result"], true, "{answer}");
    let hash = text(share.hash);
    wait_for("the block to be the tip", || (node.call("getbestblockhash", &[]) == hash).then_some(()));
    for _ in 0..20 {
        // Found at another millisecond than before.
        thread::sleep(Duration::from_millis(2));
        let answer = miner.request("mining.submit", share.params.clone());
        assert_ne!(answer["result"], true, "{answer}");
    }
    let next = node.generate(1, &address(7, node.network)).remove(0);
    miner.wait_for_job(|job| job.prev_hash() == next);
    assert_eq!(pool.metric("sluice_pool_blocks_total{result=\"found\"}"), 1.0);
    assert!(pool.stop().0.success());
}

#[test]
fn b03_work_goes_on_when_the_first_node_is_away() {
    let mut first = Node::regtest();
    let second = Node::regtest();
    first.stop();
    let pool = regtest_pool(&first).node(&second).start();
    let mut miner = Miner::connect(pool.v1(), &address(1, second.network), AGENT);
    let tip = second.generate(1, &address(7, second.network)).remove(0);
    miner.wait_for_job(|job| job.prev_hash() == tip);
}

#[test]
fn d03_a_block_that_was_judged_before_a_crash_but_not_recorded_is_recorded_at_the_next_start() {
    let node = Node::regtest();
    let pool = regtest_pool(&node).start();
    let mut miner = Miner::connect(pool.v1(), &address(1, node.network), AGENT);
    let (share, _) = miner.mine_block();
    let hash = text(share.hash);
    wait_for("the verdict", || {
        files(&pool.data_dir().join("blocks")).iter().any(|name| name.ends_with(".verdict")).then_some(())
    });
    drop(miner);
    let (status, builder) = pool.stop();
    assert!(status.success());
    // As if the process had died with the block's news still waiting for the director.
    let db = ledger(&builder.data_dir());
    for table in ["outputs WHERE block", "credit_deltas WHERE block", "blocks WHERE hash"] {
        db.execute(&format!("DELETE FROM {table} = ?1"), [key(&hash)]).unwrap();
    }
    drop(db);
    let pool = builder.start();
    let state = || -> Option<String> {
        let query = "SELECT state FROM blocks WHERE hash = ?1";
        ledger(&pool.data_dir()).query_row(query, [key(&hash)], |row| row.get(0)).ok()
    };
    wait_for("the block to be in the books", || (state().as_deref() == Some("in_chain")).then_some(()));
}

#[test]
fn ch02_the_chain_has_the_last_word_on_a_block_that_one_node_refused() {
    let node = Node::regtest();
    let pool = regtest_pool(&node).start();
    let mut miner = Miner::connect(pool.v1(), &address(1, node.network), AGENT);
    let (share, _) = miner.mine_block();
    let hash = text(share.hash);
    let state = |data_dir: &Path| -> Option<String> {
        let query = "SELECT state FROM blocks WHERE hash = ?1";
        ledger(data_dir).query_row(query, [key(&hash)], |row| row.get(0)).ok()
    };
    wait_for("the block to be in the chain", || {
        (state(&pool.data_dir()).as_deref() == Some("in_chain")).then_some(())
    });
    drop(miner);
    let (_, builder) = pool.stop();
    let refuse = "UPDATE blocks SET state = 'refused' WHERE hash = ?1";
    ledger(&builder.data_dir()).execute(refuse, [key(&hash)]).unwrap();
    let pool = builder.start();
    wait_for("the chain to be believed", || {
        (state(&pool.data_dir()).as_deref() == Some("in_chain")).then_some(())
    });
}

/// Submits shares as fast as they are answered, until the pool is gone.
fn flood(pool: SocketAddr, user: String) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut miner = Miner::connect(pool, &user, AGENT);
        loop {
            for _ in 0..100 {
                let params = miner.find_share().params;
                let line = json!({"id": 1, "method": "mining.submit", "params": params}).to_string();
                if miner.send_line(&line).is_err() {
                    return;
                }
            }
            if miner.try_catch_up().is_none() {
                return;
            }
        }
    })
}

#[test]
fn d07_a_pool_under_load_stops_in_time_and_cleanly() {
    let node = Node::signet();
    let pool = PoolBuilder::new(&node)
        .set("difficulty.pot_start", "-32")
        .set("difficulty.pot_max", "-32")
        .set("shutdown_grace_s", "3")
        .start();
    let miners: Vec<_> =
        (1..=4).map(|n| flood(pool.v1(), format!("{}.{n}", address(n, node.network)))).collect();
    wait_for("load", || {
        (pool.metric("sluice_pool_shares_total{protocol=\"v1\",result=\"accepted\"}") > 1_000.0).then_some(())
    });
    let (status, _) = pool.stop();
    assert!(status.success(), "{status}");
    miners.into_iter().for_each(|miner| miner.join().unwrap());
}

#[test]
fn b01_a_pool_whose_node_hangs_stops_in_time_and_cleanly() {
    let node = Node::regtest();
    let pool = regtest_pool(&node).set("shutdown_grace_s", "3").start();
    let mut miner = Miner::connect(pool.v1(), &address(1, node.network), AGENT);
    node.freeze();
    // Its first share makes the director plan anew; its block is offered to a node that does not answer.
    let (_, answer) = miner.mine_block();
    assert_eq!(answer["result"], true, "{answer}");
    let (status, builder) = pool.stop();
    assert!(status.success(), "{status}");
    // Kept for the next start.
    assert!(files(&builder.data_dir().join("blocks")).iter().any(|name| name.ends_with(".block")));
}

#[test]
fn a_payee_is_in_the_ledger_once_its_first_share_is_durable_and_not_before() {
    let node = Node::regtest();
    let pool = regtest_pool(&node).start();
    let user = |n, worker: &str| format!("{}.{worker}", address(n, node.network));
    let mut idle = Miner::connect(pool.v1(), &user(2, "idle"), AGENT);
    for n in 0..50 {
        idle.request("mining.authorize", json!([user(2, &format!("spam{n}")), "x"]));
    }
    let mut miner = Miner::connect(pool.v1(), &user(1, "rig"), AGENT);
    miner.mine_accepted_share();
    let workers = || -> Vec<String> {
        let db = ledger(&pool.data_dir());
        let mut query = db.prepare("SELECT worker FROM payees").unwrap();
        query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    wait_for("the payee", || (!workers().is_empty()).then_some(()));
    assert_eq!(workers(), ["rig"]);
}
