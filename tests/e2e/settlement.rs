//! What no coinbase has paid is paid from the reserve: proposed by the pool, signed by a wallet, proven by
//! `sluice-verify` from the log and the node.

use super::export::assert_same_from_a_file;
use crate::published::{assert_same_verdict, stop_and_prove};
use crate::verify::{ask, verify_files};
use bitcoin::psbt::Psbt;
use bitcoin::{Amount, BlockHash, OutPoint, Transaction};
use serde_json::{Value, json};
use share_accounting::entry::{Entry, Settlement};
use share_accounting::log::Reader;
use sluice_tests::support::miner::Miner;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{Pool, PoolBuilder, address};
use sluice_tests::support::wait_for;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// A node with a wallet, to which the reserve belongs, and a pool that settles whatever it owes.
pub fn stage() -> (Node, Pool) {
    let node = Node::regtest();
    let pool = settling(&node).start();
    (node, pool)
}

fn settling(node: &Node) -> PoolBuilder {
    node.call("createwallet", &[json!("reserve")]);
    let reserve = node.call("getnewaddress", &[json!(""), json!("bech32")]);
    PoolBuilder::new(node)
        .set("payout.reserve_address", &reserve.to_string())
        .set("payout.window", "\"300\"")
        .set("payout.min_payout_sats", "100000")
        .set("difficulty.pot_start", "-32")
        .set("settlement.at_least_sats", "100000")
        .set("settlement.fee_rate_sats_per_vb", "7")
}

/// Miners whose coinbases have room for few of them.
pub fn mine(pool: &Pool, node: &Node, shares: usize) {
    for number in 1..=12 {
        let mut miner = Miner::connect(pool.v1(), &address(number, node.network), "NerdMinerV2");
        (0..shares).for_each(|_| drop(miner.mine_accepted_share()));
    }
}

/// Blocks that are not the pool's, without anything that waits to be in one.
pub fn mine_empty(node: &Node, blocks: usize) {
    for _ in 0..blocks {
        node.call("generateblock", &[json!(address(99, node.network)), json!([])]);
    }
}

pub fn settlements(pool: &Pool) -> Vec<Value> {
    let page = pool.http("/pool/settlements").unwrap_or_default();
    serde_json::from_str(&page).unwrap_or_default()
}

pub fn wait_for_state(pool: &Pool, number: usize, state: &str) -> Value {
    wait_for(&format!("settlement {number} to be {state}"), || {
        let settlement = settlements(pool).get(number)?.clone();
        (settlement["state"] == state).then_some(settlement)
    })
}

/// Waits for the next settlement to be logged, and for its transaction to be there to sign.
pub fn wait_for_psbt(pool: &Pool, node: &Node, number: usize) -> (String, String) {
    let index = wait_for_state(pool, number, "open")["index"].to_string();
    let folder = pool.data_dir().join("settlements");
    let file = folder.join(format!("{index}.psbt"));
    // What another log has left there.
    fs::create_dir_all(&folder).unwrap();
    fs::write(&file, "another one").unwrap();
    // Nobody gets it while a job from before could still be solved.
    mine_empty(node, 5);
    assert_eq!(fs::read_to_string(&file).unwrap(), "another one");
    wait_for("the settlement to be given out", || {
        mine_empty(node, 1);
        thread::sleep(Duration::from_millis(300));
        let psbt = fs::read_to_string(&file).ok().filter(|text| text != "another one")?;
        Some((index.clone(), psbt.trim().to_owned()))
    })
}

fn sign(pool: &Pool, node: &Node, index: &str, psbt: &str) {
    let signed = node.call("walletprocesspsbt", &[json!(psbt)]);
    assert_eq!(signed["complete"], true, "{signed}");
    let file = pool.data_dir().join("settlements").join(format!("{index}.signed.psbt"));
    fs::write(file, signed["psbt"].as_str().unwrap()).unwrap();
}

/// Waits until a transaction waits to be in a block.
fn wait_for_mempool(node: &Node) -> String {
    wait_for("the node to have the settlement", || {
        node.call("getrawmempool", &[]).as_array()?.first()?.as_str().map(str::to_owned)
    })
}

/// As the node has it, and as its block files do, while it runs and when it has stopped. The pool must have ended: its
/// log is read more than once.
pub fn verify_each_way(log: &Path, mut node: Node) -> (Option<i32>, Value) {
    let asked = ask(log, &node);
    assert_eq!(asked, verify_files(log, &node));
    node.stop();
    assert_eq!(asked, verify_files(log, &node));
    asked
}

pub fn logged(log: &Path) -> Vec<Settlement> {
    let entries = Reader::open(log).unwrap().map(|entry| entry.unwrap().1);
    let settlement = |entry| match entry {
        Entry::Settlement(settlement) => Some(*settlement),
        _ => None,
    };
    entries.filter_map(settlement).collect()
}

#[test]
fn what_is_owed_is_settled_after_maturity_again_after_a_reorganisation_and_all_of_it_is_proven() {
    let (node, pool) = stage();
    mine(&pool, &node, 4);
    mine_empty(&node, 100);
    let (index, psbt) = wait_for_psbt(&pool, &node, 0);
    mine(&pool, &node, 1);
    sign(&pool, &node, &index, &psbt);
    let txid = wait_for_mempool(&node);
    let block = node.generate(1, &address(99, node.network)).remove(0);
    let paid = wait_for_state(&pool, 0, "paid");
    assert_eq!((&paid["block"], &paid["txid"]), (&json!(block), &json!(txid)), "{paid}");
    let transaction = node.call("getrawtransaction", &[json!(txid), json!(2), json!(block)]);
    let sats = |value: &Value| Amount::from_btc(value.as_f64().unwrap()).unwrap().to_sat();
    let outputs: Vec<_> = transaction["vout"].as_array().unwrap().iter().collect();
    let said = paid["outputs"].as_array().unwrap();
    assert!(said.len() >= 6, "{paid}");
    for (output, said) in outputs.iter().zip(said) {
        assert_eq!(
            (sats(&output["value"]), &output["scriptPubKey"]["hex"]),
            (said["sats"].as_u64().unwrap(), &said["script"])
        );
    }
    assert_eq!(outputs.len(), said.len());

    // The block is replaced by two without it: it comes back in another one.
    node.call("invalidateblock", &[json!(block)]);
    mine_empty(&node, 2);
    assert_eq!(wait_for_mempool(&node), txid);
    let again = node.generate(1, &address(99, node.network)).remove(0);
    wait_for("the settlement to be in another block", || {
        (settlements(&pool)[0]["block"] == json!(again)).then_some(())
    });

    // The next one begins with what the first has left.
    mine(&pool, &node, 2);
    mine_empty(&node, 100);
    let (index, psbt) = wait_for_psbt(&pool, &node, 1);
    sign(&pool, &node, &index, &psbt);
    wait_for_mempool(&node);
    node.generate(1, &address(99, node.network));
    wait_for_state(&pool, 1, "paid");
    mine(&pool, &node, 1);

    let log = pool.data_dir().join("log");
    let (_folder, published) = stop_and_prove(pool, &node);
    let (code, answer) = verify_each_way(&log, node);
    assert_same_verdict(&published, &answer);
    assert_eq!((code, &answer["lies"]), (Some(0), &json!([])), "{answer:#}");
    let settled = answer["settlements"].as_array().unwrap();
    assert_eq!(settled.len(), 2, "{answer:#}");
    assert_eq!(settled[0]["in_chain_in"], json!(again), "{answer:#}");
    assert!(
        settled[1]["in_chain_in"].is_string() && answer["reserve_sats"].as_u64().unwrap() > 0,
        "{answer:#}"
    );
    assert_same_from_a_file(&log);
    let logged = logged(&log);
    println!(
        "settled: {} credits of {} satoshis from {} outputs, then {} of {} from {}",
        logged[0].credits.len(),
        logged[0].total(),
        logged[0].reserve.len(),
        logged[1].credits.len(),
        logged[1].total(),
        logged[1].reserve.len()
    );
}

/// A settlement is logged while a miner has a job from before. Gives the miner; `None` if its job came after.
fn stage_with_an_old_job() -> Option<(Node, Pool, Miner)> {
    let (node, pool) = stage();
    mine(&pool, &node, 3);
    let mut miner = Miner::connect(pool.v1(), &address(1, node.network), "NerdMinerV2");
    let tip = node.generate(100, &address(99, node.network)).pop().unwrap();
    wait_for("work on the newest block", || {
        miner.try_catch_up();
        miner.job.as_ref().filter(|job| job.prev_hash() == tip).map(drop)
    });
    settlements(&pool).is_empty().then_some((node, pool, miner))
}

/// A pool whose first settlement is withdrawn, as a job from before has paid a credit of it.
pub fn withdrawn() -> (Node, Pool) {
    let (node, pool, mut miner) = (0..5).find_map(|_| stage_with_an_old_job()).expect("it takes a moment");
    wait_for_state(&pool, 0, "open");
    let share = miner.find_block();
    let answer = miner.request("mining.submit", share.params.clone());
    assert_eq!(answer["result"], true, "{answer}");
    wait_for("the settlement to be withdrawn", || {
        mine_empty(&node, 1);
        thread::sleep(Duration::from_millis(300));
        (settlements(&pool)[0]["state"] == "withdrawn").then_some(())
    });
    (node, pool)
}

#[test]
fn a_settlement_is_withdrawn_when_a_job_from_before_has_paid_a_credit_of_it() {
    let (node, pool) = withdrawn();
    // The next one pays the others.
    let (index, psbt) = wait_for_psbt(&pool, &node, 1);
    sign(&pool, &node, &index, &psbt);
    wait_for_mempool(&node);
    node.generate(1, &address(99, node.network));
    wait_for_state(&pool, 1, "paid");
    let log = pool.data_dir().join("log");
    let (_folder, published) = stop_and_prove(pool, &node);
    let logged = logged(&log);
    assert!(logged[1].total() < logged[0].total(), "{logged:?}");
    let (code, answer) = verify_each_way(&log, node);
    assert_same_verdict(&published, &answer);
    assert_eq!((code, &answer["lies"]), (Some(0), &json!([])), "{answer:#}");
}

/// Gives blocks of one node to another.
fn hand_over(from: &Node, to: &Node, heights: RangeInclusive<u64>) {
    for height in heights {
        let hash = from.call("getblockhash", &[json!(height)]);
        let block = from.call("getblock", &[hash, json!(0)]);
        assert!(to.call("submitblock", &[block]).is_null());
    }
}

#[test]
fn nothing_is_settled_by_the_books_of_a_node_that_lags() {
    let (first, second) = (Node::regtest(), Node::regtest());
    let pool = settling(&first).node(&second).start();
    mine(&pool, &first, 3);
    // Both have the pool's blocks and some more; the newest hundred has the second alone.
    let mined = first.height();
    first.generate(60, &address(99, first.network));
    let shared = mined + 60;
    hand_over(&first, &second, mined + 1..=shared);
    assert_eq!(first.block_at(shared)["hash"], second.block_at(shared)["hash"]);
    let tip = second.generate(100, &address(99, second.network)).pop().unwrap();
    let mut miner = Miner::connect(pool.v1(), &address(1, first.network), "xminer-1.0");
    wait_for("work on the second node's tip", || {
        miner.try_catch_up();
        miner.job.as_ref().filter(|job| job.prev_hash() == tip).map(drop)
    });
    thread::sleep(Duration::from_secs(6));
    assert!(settlements(&pool).is_empty());
    // Now its own books would have something to settle.
    hand_over(&second, &first, shared + 1..=shared + 50);
    thread::sleep(Duration::from_secs(5));
    assert!(settlements(&pool).is_empty());
    hand_over(&second, &first, shared + 51..=shared + 100);
    wait_for_state(&pool, 0, "open");
}

/// Sends some outputs of the wallet to somebody else; gives the block.
pub fn steal(node: &Node, outpoints: &[OutPoint]) -> String {
    let inputs: Vec<_> =
        outpoints.iter().map(|outpoint| json!({"txid": outpoint.txid, "vout": outpoint.vout})).collect();
    let thief = address(98, node.network);
    let sent = node
        .call("sendall", &[json!([thief]), Value::Null, json!("unset"), json!(5), json!({"inputs": inputs})]);
    assert_eq!(sent["complete"], true, "{sent}");
    node.generate(1, &address(99, node.network)).remove(0)
}

/// What the holder of the key does without the pool: signs a settlement's transaction and has it in a block.
pub fn settle_by_hand(node: &Node, transaction: Transaction) -> BlockHash {
    let psbt = Psbt::from_unsigned_tx(transaction).unwrap();
    let signed = node.call("walletprocesspsbt", &[json!(psbt.to_string())]);
    assert_eq!(signed["complete"], true, "{signed}");
    let whole = node.call("finalizepsbt", &[signed["psbt"].clone()]);
    node.call("sendrawtransaction", &[whole["hex"].clone(), json!(0)]);
    node.generate(1, &address(99, node.network))[0].parse().unwrap()
}

#[test]
fn a_settlement_that_was_paid_three_weeks_ago_while_the_pool_was_down_is_found() {
    let (node, pool) = stage();
    mine(&pool, &node, 3);
    mine_empty(&node, 100);
    let (_, psbt) = wait_for_psbt(&pool, &node, 0);
    let (status, folder) = pool.stop();
    assert!(status.success());
    let block = settle_by_hand(&node, psbt.parse::<Psbt>().unwrap().unsigned_tx);
    for _ in 0..30 {
        node.generate(100, &address(99, node.network));
    }
    let pool = folder.start();
    assert_eq!(wait_for_state(&pool, 0, "paid")["block"], json!(block.to_string()));
}

#[test]
fn what_has_spent_the_reserve_is_looked_for_in_all_blocks_since_the_settlement() {
    let (node, pool) = stage();
    mine(&pool, &node, 3);
    mine_empty(&node, 100);
    let (_, psbt) = wait_for_psbt(&pool, &node, 0);
    let (status, folder) = pool.stop();
    assert!(status.success());
    let outpoint = psbt.parse::<Psbt>().unwrap().unsigned_tx.input[0].previous_output;
    steal(&node, &[outpoint]);
    // More than are looked through at once.
    node.generate(250, &address(99, node.network));
    let pool = folder.start();
    wait_for_state(&pool, 0, "failed");
}
