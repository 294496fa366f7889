//! A disk that fills up under a running pool.

use crate::verify::ask;
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use rusqlite::Connection;
use serde_json::json;
use share_accounting::entry::Share;
use sluice_tests::support::log::Log;
use sluice_tests::support::miner::Miner;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{Pool, PoolBuilder, address, files};
use sluice_tests::support::small_disk::{fill, on_a_small_disk};
use sluice_tests::support::wait_for;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use template::submit;

/// A pool with its data in a folder. Its miners find shares at once, and none of them is a block by chance:
/// that would be found on a full disk before the test is ready for it.
fn pool_in(data: &Path, node: &Node) -> Pool {
    PoolBuilder::new(node)
        .set("data_dir", &format!("\"{}\"", data.display()))
        .set("difficulty.pot_start", "-30")
        .set("difficulty.pot_max", "-30")
        .start()
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

/// Finds a block, whatever becomes of its share.
fn block_reaches_the_node(node: &Node, miner: &mut Miner) -> BlockHash {
    miner.catch_up();
    let share = miner.find_block();
    let hash = BlockHash::from_byte_array(share.hash);
    miner
        .send_line(&json!({"id": "block", "method": "mining.submit", "params": share.params}).to_string())
        .unwrap();
    wait_for("the block to reach the node", || node.try_call("getblockheader", &[json!(hash)]).ok());
    hash
}

/// Has a node and the log prove everything, and gives whether the block's share earns, for each time that it is there.
fn proven_with(data: &Path, node: &Node, hash: BlockHash) -> Vec<bool> {
    let log = Log::read(data);
    let of_block = |share: &&Share| log.header_hash(share) == hash.to_byte_array();
    let shares = log.shares().filter(of_block).map(|share| share.credited).collect();
    assert_eq!(log.jobs_left_out, 0);
    let (code, answer) = ask(&data.join("log"), node);
    assert_eq!(code, Some(0), "{answer:#}");
    shares
}

/// A pool whose disk has room, and whose log cannot be written before a folder is gone that is in its way.
fn with_a_log_that_fails(dir: &Path, node: &Node) -> (Pool, Miner, PathBuf) {
    let data = dir.join("data");
    let pool = pool_in(&data, node);
    let mut miner = Miner::connect(pool.v1(), &address(1, node.network), "sluice-fleet/disk");
    miner.mine_accepted_share();
    let filler = fill(dir, "filler");
    until_unavailable(&mut miner);
    // What failed goes on in the next segment.
    let in_its_way = data.join("log/00000001.seg");
    std::fs::create_dir(&in_its_way).unwrap();
    std::fs::remove_file(filler).unwrap();
    (pool, miner, in_its_way)
}

fn log_recovers(dir: &Path) {
    let node = Node::signet();
    let (pool, mut miner, in_its_way) = with_a_log_that_fails(dir, &node);
    miner.catch_up();
    let (block, answer) = miner.mine_block();
    assert_eq!(answer["error"][1], "accounting unavailable", "{answer}");
    let hash = BlockHash::from_byte_array(block.hash);
    wait_for("the block to reach the node", || node.try_call("getblockheader", &[json!(hash)]).ok());
    std::fs::remove_dir(in_its_way).unwrap();
    for _ in 0..3 {
        wait_for("a share to be durable again", || {
            miner.catch_up();
            (miner.mine_share().1["result"] == true).then_some(())
        });
    }
    assert!(pool.stop().0.success());
    assert_eq!(proven_with(&dir.join("data"), &node, hash), [false]);
}

#[test]
fn d04_what_a_block_has_paid_is_logged_once_the_log_can_be_written_again() {
    on_a_small_disk(
        "disk::d04_what_a_block_has_paid_is_logged_once_the_log_can_be_written_again",
        log_recovers,
    );
}

fn killed_between_block_and_log(dir: &Path) {
    let node = Node::signet();
    let (pool, mut miner, in_its_way) = with_a_log_that_fails(dir, &node);
    let hash = block_reaches_the_node(&node, &mut miner);
    let builder = pool.kill();
    std::fs::remove_dir(in_its_way).unwrap();
    let mut builder = Some(builder);
    for restored in [true, false] {
        let pool = builder.take().unwrap().start();
        assert_eq!(pool.log().contains("logged shares that solve blocks"), restored, "{}", pool.log());
        let mut miner = Miner::connect(pool.v1(), &address(1, node.network), "sluice-fleet/disk");
        for _ in 0..3 {
            miner.mine_accepted_share();
        }
        builder = Some(pool.kill());
    }
    assert_eq!(proven_with(&dir.join("data"), &node, hash), [false]);
}

#[test]
fn d02_what_a_block_has_paid_is_logged_by_the_next_start_if_a_kill_came_between() {
    on_a_small_disk(
        "disk::d02_what_a_block_has_paid_is_logged_by_the_next_start_if_a_kill_came_between",
        killed_between_block_and_log,
    );
}

/// With a file system of its own for the data of the pool.
fn fill_and_recover(dir: &Path) {
    let node = Node::signet();
    let data = dir.join("data");
    let pool = pool_in(&data, &node);
    let mut miner = Miner::connect(pool.v1(), &address(1, node.network), "sluice-fleet/disk");
    let mut durable = HashSet::from([miner.mine_accepted_share().hash]);
    let filler = fill(dir, "filler");
    until_unavailable(&mut miner);
    let hash = block_reaches_the_node(&node, &mut miner);
    std::fs::remove_file(filler).unwrap();
    // The same process and the same connection: what failed before is taken now.
    wait_for("a share to be durable again", || {
        miner.catch_up();
        let (share, answer) = miner.mine_share();
        (answer["result"] == true).then(|| durable.insert(share.hash))
    });
    stop_and_check(pool, &data, &durable);
    assert_eq!(proven_with(&data, &node, hash).len(), 1);
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

/// Whether a block's file holds the block and whom it pays.
fn is_whole(data: &Path, hash: BlockHash) -> bool {
    let blocks = submit::judged(&data.join("blocks"), |judged| judged == hash).unwrap();
    blocks.iter().any(|block| !block.note.is_empty())
}

fn restart_after_a_block(dir: &Path) {
    let node = Node::signet();
    let data = dir.join("data");
    let pool = pool_in(&data, &node);
    let mut miner = Miner::connect(pool.v1(), &address(1, node.network), "sluice-fleet/disk");
    miner.mine_accepted_share();
    let mut fillers = vec![fill(dir, "filler")];
    until_unavailable(&mut miner);
    let hash = block_reaches_the_node(&node, &mut miner);
    pool.wait_for_log("the disk is full");
    fillers.push(fill(dir, "filler of the rest"));
    let builder = pool.kill();
    fillers.iter().for_each(|filler| std::fs::remove_file(filler).unwrap());
    let pool = builder.start();
    wait_for("the block's verdict to be on disk", || {
        let verdict = format!("{hash}.verdict");
        files(&data.join("blocks")).iter().any(|name| name.ends_with(&verdict)).then_some(())
    });
    let mut miner = Miner::connect(pool.v1(), &address(1, node.network), "sluice-fleet/disk");
    for _ in 0..3 {
        miner.mine_accepted_share();
    }
    assert!(pool.stop().0.success());
    assert_eq!(proven_with(&data, &node, hash).len(), 1);
    assert!(is_whole(&data, hash));
    let ledger = Connection::open(data.join("ledger.sqlite")).unwrap();
    let state: String = ledger
        .query_row("SELECT state FROM blocks WHERE hash = ?1", [hash.to_byte_array()], |row| row.get(0))
        .expect("the ledger knows the block");
    assert_ne!(state, "refused");
}

#[test]
fn d04_a_block_found_on_a_full_disk_is_in_the_ledger_after_a_kill_and_a_restart() {
    on_a_small_disk(
        "disk::d04_a_block_found_on_a_full_disk_is_in_the_ledger_after_a_kill_and_a_restart",
        restart_after_a_block,
    );
}

/// Takes also the space that the pool keeps back.
fn note_is_told(dir: &Path) {
    let node = Node::signet();
    let data = dir.join("data");
    let pool = pool_in(&data, &node);
    let mut miner = Miner::connect(pool.v1(), &address(1, node.network), "sluice-fleet/disk");
    miner.mine_accepted_share();
    std::fs::remove_file(data.join("blocks/ballast")).unwrap();
    fill(dir, "filler");
    until_unavailable(&mut miner);
    let hash = block_reaches_the_node(&node, &mut miner);
    let line = wait_for("the block's note in the pool's log", || {
        let log = pool.log();
        let line = log.lines().find(|line| line.contains("block file cannot be written"))?;
        Some(line.to_owned())
    });
    assert!(line.contains(&format!("hash={hash}")), "{line}");
    let start = line.find("note=").expect("the line has the note") + "note=".len();
    let mut note = serde_json::Deserializer::from_str(&line[start..]).into_iter::<serde_json::Value>();
    let note = note.next().unwrap().expect("the note is JSON");
    assert_eq!(note["outputs"].as_array().map(Vec::len), Some(2), "one miner, and the commitment: {note}");
}

#[test]
fn d04_a_block_that_cannot_be_written_even_so_reaches_the_node_and_its_note_the_log() {
    on_a_small_disk(
        "disk::d04_a_block_that_cannot_be_written_even_so_reaches_the_node_and_its_note_the_log",
        note_is_told,
    );
}
