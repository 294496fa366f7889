//! Blocks, reorganisations and node restarts on regtest, where every second hash is a block.

use rusqlite::{Connection, OpenFlags};
use serde_json::json;
use sluice_tests::support::miner::Miner;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{Pool, PoolBuilder, address};
use sluice_tests::support::wait_for;

/// One agent for each coinbase size class.
const AGENTS: [&str; 6] = [
    "NerdMinerV2",
    "bitaxe/BM1370",
    "cgminer/4.12.1",
    "bosminer-plus-tuner 1",
    "whatsminer/v1",
    "xminer-1.0",
];

fn start_pool(node: &Node) -> Pool {
    // On regtest a share is worth about one hash, so the window is made of very many.
    PoolBuilder::new(node).set("payout.window", "\"1000000\"").set("difficulty.pot_start", "-32").start()
}

/// A wallet with spendable coins.
fn fund(node: &Node) -> String {
    node.call("createwallet", &[json!("test")]);
    let address = node.call("getnewaddress", &[]).as_str().unwrap().to_owned();
    node.generate(130, &address);
    address
}

/// Mines one block through the pool; gives its hash.
fn mine_block(node: &Node, miner: &mut Miner) -> String {
    let tip = node.call("getbestblockhash", &[]);
    let waiting = node.call("getmempoolinfo", &[])["size"].as_u64().unwrap();
    // Work without transactions may come first on a new tip, and solo work before the first share is durable.
    miner.wait_for_job(|job| {
        job.prev_hash() == tip.as_str().unwrap() && (waiting == 0 || !job.branch.is_empty())
    });
    miner.catch_up();
    let (share, answer) = miner.mine_block();
    assert_eq!(answer["result"], true, "{answer}");
    let hash = bitcoin_hash(share.hash);
    wait_for("the block to be the node's tip", || (node.call("getbestblockhash", &[]) == hash).then_some(()));
    hash
}

fn bitcoin_hash(hash: [u8; 32]) -> String {
    use bitcoin::hashes::Hash;
    bitcoin::BlockHash::from_byte_array(hash).to_string()
}

/// State of a pool block in the ledger; `None` if it is not recorded.
fn state(pool: &Pool, hash: &str) -> Option<String> {
    let path = pool.data_dir().join("ledger.sqlite");
    let ledger = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut bytes = sluice_tests::support::miner::hex(hash);
    bytes.reverse();
    ledger.query_row("SELECT state FROM blocks WHERE hash = ?1", [bytes], |row| row.get(0)).ok()
}

fn wait_for_state(pool: &Pool, hash: &str, wanted: &str) {
    wait_for(&format!("block {hash} to be {wanted}"), || {
        (state(pool, hash).as_deref() == Some(wanted)).then_some(())
    });
}

#[test]
fn cb_09_blocks_of_every_size_class_with_no_one_and_many_transactions_are_accepted() {
    let node = Node::regtest();
    let wallet = fund(&node);
    let pool = start_pool(&node);
    for (agent, payee) in AGENTS.iter().zip(1..) {
        let mut miner = Miner::connect(pool.v1(), &address(payee, node.network), agent);
        for transactions in [0_usize, 1, 25] {
            for _ in 0..transactions {
                node.call("sendtoaddress", &[json!(wallet), json!(0.01)]);
            }
            // A new tip brings a template with what the mempool holds by now.
            node.call("generateblock", &[json!(wallet), json!([])]);
            let hash = mine_block(&node, &mut miner);
            let block = node.call("getblock", &[json!(hash), json!(1)]);
            let mined = block["tx"].as_array().unwrap().len();
            assert_eq!(mined, 1 + transactions, "{agent}, {transactions} transactions");
            wait_for_state(&pool, &hash, "in_chain");
        }
    }
}

#[test]
fn ch_02_a_pool_block_that_is_reorganised_away_counts_no_more_until_it_comes_back() {
    let node = Node::regtest();
    let pool = start_pool(&node);
    let mut miner = Miner::connect(pool.v1(), &address(1, node.network), AGENTS[2]);
    let first = mine_block(&node, &mut miner);
    let second = mine_block(&node, &mut miner);
    wait_for_state(&pool, &second, "in_chain");
    node.call("invalidateblock", &[json!(second)]);
    let others = node.generate(2, &address(7, node.network));
    wait_for_state(&pool, &second, "orphaned");
    assert_eq!(state(&pool, &first).as_deref(), Some("in_chain"));
    // Mining goes on, on top of the other branch.
    miner.wait_for_job(|job| job.prev_hash() == others[1]);
    let third = mine_block(&node, &mut miner);
    wait_for_state(&pool, &third, "in_chain");
    // The first branch comes back as soon as it has more work.
    node.call("reconsiderblock", &[json!(second)]);
    node.call("invalidateblock", &[json!(others[0])]);
    wait_for("the first branch to be the best", || {
        (node.call("getbestblockhash", &[]) == second).then_some(())
    });
    wait_for_state(&pool, &second, "in_chain");
    wait_for_state(&pool, &third, "orphaned");
    let fourth = mine_block(&node, &mut miner);
    wait_for_state(&pool, &fourth, "in_chain");
}

#[test]
fn ch_02_a_node_that_goes_back_by_hundreds_of_blocks_and_returns_turns_no_block_around() {
    let node = Node::regtest();
    let pool = start_pool(&node);
    let mut miner = Miner::connect(pool.v1(), &address(1, node.network), AGENTS[2]);
    let below = mine_block(&node, &mut miner);
    let first = mine_block(&node, &mut miner);
    let others = node.generate(300, &address(7, node.network));
    miner.wait_for_job(|job| job.prev_hash() == others[299]);
    wait_for_state(&pool, &first, "matured");
    node.call("invalidateblock", &[json!(first)]);
    // What the node has not on its chain now does not count, but nothing has taken its place.
    miner.wait_for_job(|job| job.prev_hash() == below);
    assert_eq!(state(&pool, &first).as_deref(), Some("matured"));
    // Another address, so that the new block is another.
    node.generate(1, &address(8, node.network));
    wait_for_state(&pool, &first, "orphaned");
    let rival = mine_block(&node, &mut miner);
    wait_for_state(&pool, &rival, "in_chain");
    node.call("reconsiderblock", &[json!(first)]);
    miner.wait_for_job(|job| job.prev_hash() == others[299]);
    wait_for_state(&pool, &first, "matured");
    wait_for_state(&pool, &rival, "orphaned");
    assert_eq!(state(&pool, &below).as_deref(), Some("matured"));
}

#[test]
fn ch_02_a_pool_block_matures_after_a_hundred_confirmations() {
    let node = Node::regtest();
    let pool = start_pool(&node);
    let mut miner = Miner::connect(pool.v1(), &address(1, node.network), AGENTS[2]);
    let hash = mine_block(&node, &mut miner);
    node.generate(98, &address(7, node.network));
    wait_for_state(&pool, &hash, "in_chain");
    node.generate(1, &address(7, node.network));
    wait_for_state(&pool, &hash, "matured");
}

#[test]
fn b02_a_node_that_restarts_under_load_is_mined_on_again_with_the_same_connections() {
    let mut node = Node::regtest();
    let pool = start_pool(&node);
    let mut miner = Miner::connect(pool.v1(), &address(1, node.network), AGENTS[2]);
    mine_block(&node, &mut miner);
    for _ in 0..2 {
        node.restart();
        let hash = mine_block(&node, &mut miner);
        wait_for_state(&pool, &hash, "in_chain");
        miner.wait_for_job(|job| job.prev_hash() == hash);
    }
    node.stop();
    // Found while the node is away: kept on disk and submitted when it is back.
    let (share, answer) = miner.mine_block();
    assert_eq!(answer["result"], true, "{answer}");
    node.start_again();
    let hash = bitcoin_hash(share.hash);
    wait_for("the block to reach the node", || node.try_call("getblockheader", &[json!(hash)]).ok());
    wait_for_state(&pool, &hash, "in_chain");
}
