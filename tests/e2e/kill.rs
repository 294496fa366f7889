//! SIGKILL at random moments under load: no acknowledged share is lost, none is counted twice, no block is lost.

use crate::published::head;
use crate::verify::ask;
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use sluice_tests::support::log::{Log, assert_begins_with};
use sluice_tests::support::miner::{Miner, Share};
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{Pool, PoolBuilder, address, files};
use sluice_tests::support::{rounds, wait_for};
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Mines until the pool is gone; gives the shares it acknowledged. Every tenth acknowledged share is sent again, which must be refused.
fn mine_until_killed(pool: SocketAddr, user: String) -> JoinHandle<Vec<Share>> {
    thread::spawn(move || {
        let mut miner = Miner::connect(pool, &user, "sluice-fleet/kill");
        let mut acknowledged = Vec::new();
        loop {
            if miner.try_catch_up().is_none() {
                return acknowledged;
            }
            let share = miner.find_share();
            let Some(answer) = miner.try_request("mining.submit", share.params.clone()) else {
                return acknowledged;
            };
            if answer["result"] != true {
                assert_eq!(answer["error"][0], 21, "only a new tip makes a share late: {answer}");
                continue;
            }
            let replay = acknowledged.len() % 10 == 0;
            acknowledged.push(share.clone());
            if replay {
                let Some(answer) = miner.try_request("mining.submit", share.params) else {
                    return acknowledged;
                };
                let code = answer["error"][0].as_u64();
                assert!(matches!(code, Some(21 | 22)), "a share is never acknowledged twice: {answer}");
            }
        }
    })
}

/// The shares of an earlier life earn nothing in this one.
fn replay(pool: &Pool, user: &str, shares: &[Share]) {
    let mut miner = Miner::connect(pool.v1(), user, "sluice-fleet/replay");
    for share in shares {
        let mut params = share.params.clone();
        params[0] = json!(user);
        let answer = miner.request("mining.submit", params);
        assert_ne!(answer["result"], true, "a share from before the kill was acknowledged again: {answer}");
    }
}

/// Every block that a miner found and the pool had time to take in reaches the node.
fn check_blocks(node: &Node, pool: &Pool) {
    let blocks = pool.data_dir().join("blocks");
    for name in files(&blocks).iter().filter(|name| name.ends_with(".block")) {
        let hash = name.trim_end_matches(".block").rsplit('-').next().unwrap();
        wait_for(&format!("block {hash} to reach the node"), || {
            node.try_call("getblockheader", &[json!(hash)]).ok()
        });
    }
}

#[test]
fn d01_d02_m03_kill_at_random_moments_loses_no_acknowledged_share_and_no_block() {
    let mut random = StdRng::seed_from_u64(42);
    let node = Node::signet();
    // 32,768 hashes a share: several a second for each miner.
    let mut builder =
        PoolBuilder::new(&node).set("difficulty.pot_start", "-17").set("difficulty.pot_max", "-17");
    let log = builder.data_dir().join("log");
    let (mut acknowledged, mut heads) = (Vec::<Share>::new(), Vec::new());
    for round in 0..rounds(5, 50) {
        let started = Instant::now();
        let pool = builder.start();
        println!("round {round}: ready after {:?}", started.elapsed());
        // What was signed before the kill, and what the replay has come to.
        heads.push(head(&pool));
        assert_begins_with(&log, &heads[heads.len().saturating_sub(2)..]);
        let newest = acknowledged.iter().rev().take(50).cloned().collect::<Vec<_>>();
        replay(&pool, &address(1, node.network), &newest);
        let miners: Vec<_> = (1..=3)
            .map(|number| mine_until_killed(pool.v1(), format!("{}.{number}", address(number, node.network))))
            .collect();
        thread::sleep(Duration::from_millis(random.random_range(200..2_500)));
        heads.push(head(&pool));
        builder = pool.kill();
        for miner in miners {
            acknowledged.extend(miner.join().unwrap());
        }
    }
    let pool = builder.start();
    check_blocks(&node, &pool);
    let (status, builder) = pool.stop();
    assert!(status.success());
    let logged = Log::read(&builder.data_dir()).header_hashes();
    assert!(acknowledged.len() > 20, "too little load to show anything: {}", acknowledged.len());
    for share in &acknowledged {
        let hash = BlockHash::from_byte_array(share.hash);
        assert!(logged.contains(&share.hash), "acknowledged share {hash} is not in the log");
    }
    assert!(heads.windows(2).all(|pair| pair[0].size <= pair[1].size), "{heads:?}");
    assert_begins_with(&log, &heads);
    let (code, answer) = ask(&log, &node);
    assert_eq!(code, Some(0), "{answer:#}");
    println!("{} shares acknowledged, {} in the log", acknowledged.len(), logged.len());
}

/// Finds blocks until the pool is gone; gives the hashes of those whose share it acknowledged.
fn find_blocks_until_killed(mut miner: Miner) -> JoinHandle<Vec<BlockHash>> {
    thread::spawn(move || {
        let mut acknowledged = Vec::new();
        loop {
            if miner.try_catch_up().is_none() {
                return acknowledged;
            }
            let share = miner.find_block();
            let Some(answer) = miner.try_request("mining.submit", share.params) else { return acknowledged };
            if answer["result"] == true {
                acknowledged.push(BlockHash::from_byte_array(share.hash));
            }
        }
    })
}

#[test]
fn d02_a_block_whose_share_was_acknowledged_reaches_the_node_whenever_the_pool_is_killed() {
    let mut random = StdRng::seed_from_u64(7);
    let node = Node::regtest();
    let mut builder =
        PoolBuilder::new(&node).set("payout.window", "\"1000000\"").set("difficulty.pot_start", "-32");
    let mut found = Vec::new();
    for _ in 0..rounds(5, 50) {
        let pool = builder.start();
        let miners: Vec<_> = (1..=4)
            .map(|number| Miner::connect(pool.v1(), &address(number, node.network), "sluice-fleet/kill"))
            .map(find_blocks_until_killed)
            .collect();
        thread::sleep(Duration::from_millis(random.random_range(20..400)));
        builder = pool.kill();
        for miner in miners {
            found.extend(miner.join().unwrap());
        }
    }
    let pool = builder.start();
    assert!(found.len() > 20, "too little load to show anything: {}", found.len());
    for hash in &found {
        wait_for(&format!("block {hash} to reach the node"), || {
            node.try_call("getblockheader", &[json!(hash)]).ok()
        });
    }
    check_blocks(&node, &pool);
    println!("{} acknowledged blocks reached the node", found.len());
    // What each of them has paid is known from the log, whenever the pool was killed.
    let mut miner = Miner::connect(pool.v1(), &address(1, node.network), "sluice-fleet/kill");
    for _ in 0..10 {
        miner.mine_accepted_share();
    }
    let (status, builder) = pool.stop();
    assert!(status.success());
    let log = Log::read(&builder.data_dir());
    log.header_hashes();
    assert_eq!(log.jobs_left_out, 0);
    let (code, answer) = ask(&builder.data_dir().join("log"), &node);
    assert_eq!(code, Some(0), "{answer:#}");
}

#[test]
fn m03_the_epoch_keeps_a_restart_from_giving_out_the_same_work_again() {
    let node = Node::signet();
    let user = address(1, node.network);
    let builder = PoolBuilder::new(&node)
        .set("shards", "1")
        .set("difficulty.pot_start", "-17")
        .set("difficulty.pot_max", "-17");
    let pool = builder.start();
    let mut miner = Miner::connect(pool.v1(), &user, "sluice-fleet/epoch");
    // The first share ends solo work; from here on the window pays one payee everything, then as after the restart.
    let first = miner.mine_accepted_share();
    let solo = first.params[1].clone();
    miner.wait_for_job(|job| json!(job.id) != solo);
    let shares: Vec<_> = (0..3).map(|_| miner.mine_accepted_share()).collect();
    let coinbase = |miner: &Miner| miner.job.as_ref().unwrap().coinbase(&miner.extranonce1, &[0; 8]);
    let tip = |miner: &Miner| miner.job.as_ref().unwrap().prev_hash();
    let before = (coinbase(&miner), tip(&miner), miner.extranonce1.clone());
    let pool = pool.kill().start();
    let mut miner = Miner::connect(pool.v1(), &user, "sluice-fleet/epoch");
    // By chance a block was found: then there is another tip, and nothing to show.
    let (old, old_tip, prefix) = before;
    if tip(&miner) != old_tip {
        return;
    }
    assert_eq!(miner.extranonce1, prefix, "the first connection of each life has the same prefix");
    let new = coinbase(&miner);
    // The log has grown, so the commitment to it is another one; but that is no rule of the protocol.
    let commitment = old.windows(4).position(|bytes| bytes == b"PPL1").expect("every job has one") + 4;
    let same = |at: &usize| old[*at] == new[*at] || (commitment..commitment + 32).contains(at);
    let differ: Vec<_> = (0..old.len()).filter(|at| !same(at)).collect();
    assert_eq!((new.len(), differ.len()), (old.len(), 1), "nothing else but the epoch has grown: {differ:?}");
    for share in shares {
        let again = miner.on_newest_job(&share);
        assert_ne!(again.hash, share.hash);
        let answer = miner.request("mining.submit", again.params);
        assert_eq!(answer["error"][0], 23, "{answer}");
    }
}
