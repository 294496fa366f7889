//! A pool on the main network, with nodes of the main network that know its first block alone.

use crate::verify::ask;
use bitcoin::Network;
use serde_json::{Value, json};
use share_accounting::entry::{Entry, PlanEntry};
use share_accounting::log::Reader;
use sluice_tests::support::miner::{Miner, to_hex};
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{PoolBuilder, RESERVE, address};
use sluice_tests::support::{free_ports, wait_for};
use std::collections::BTreeSet;

const FEE: u8 = 201;
/// Machines of three coinbase sizes, and what theirs pay once all have worked: the smallest has room for one of them, and
/// puts the others' part aside.
const MACHINES: [(&str, &[u8]); 3] =
    [("NerdMinerV2", &[RESERVE]), ("cgminer/4.12.1", &[1, 2, 3, FEE]), ("xminer-1.0", &[1, 2, 3, FEE])];

/// A node gives templates of the main network only if it has a peer and believes that it has the best chain.
fn node_with_a_peer() -> [Node; 2] {
    let [port] = free_ports();
    let believes = ["-maxtipage=3000000000", "-minimumchainwork=0x00", "-disablewallet", "-listenonion=0"];
    let listens = ["-listen=1".to_owned(), format!("-bind=127.0.0.1:{port}")];
    let arguments: Vec<&str> = believes.into_iter().chain(listens.iter().map(String::as_str)).collect();
    let node = Node::start(Network::Bitcoin, &arguments);
    let peer = Node::start(Network::Bitcoin, &believes);
    wait_for("the nodes to be peers", || {
        // Says nothing of whether it worked.
        let _ = peer.try_call("addnode", &[json!(format!("127.0.0.1:{port}")), json!("onetry")]);
        (node.call("getconnectioncount", &[]).as_u64() > Some(0)).then_some(())
    });
    [node, peer]
}

/// Addresses that a coinbase pays.
fn paid(coinbase: &[u8], network: Network) -> BTreeSet<String> {
    let coinbase: bitcoin::Transaction = bitcoin::consensus::deserialize(coinbase).unwrap();
    let address =
        |output: &bitcoin::TxOut| bitcoin::Address::from_script(&output.script_pubkey, network).ok();
    coinbase.output.iter().filter_map(address).map(|address| address.to_string()).collect()
}

#[test]
fn a_node_of_the_main_network_takes_what_a_pool_builds_and_its_log_is_proven() {
    let [node, _peer] = node_with_a_peer();
    let pool = PoolBuilder::new(&node)
        .set("payout.fee_bp", "150")
        .set("payout.fee_address", &format!("\"{}\"", address(FEE, node.network)))
        .set("difficulty.pot_start", "-20")
        .set("difficulty.pot_max", "-16")
        .launch();
    // Blocks had no witnesses then, and ours have one. The pool finds that out before any block is lost, and says so.
    wait_for("the pool to have tried a block", || {
        pool.health().is_some_and(|health| health.to_string().contains("unexpected-witness")).then_some(())
    });
    let connect = |((agent, _), number)| Miner::connect(pool.v1(), &address(number, node.network), agent);
    let mut miners: Vec<Miner> = MACHINES.into_iter().zip(1..).map(connect).collect();
    for miner in &mut miners {
        (0..20).for_each(|_| drop(miner.mine_accepted_share()));
    }
    for (miner, (agent, numbers)) in miners.iter_mut().zip(MACHINES) {
        let all = |coinbase: &[u8]| {
            let paid = paid(coinbase, node.network);
            numbers.iter().all(|number| paid.contains(&address(*number, node.network)))
        };
        let mut extranonce = miner.extranonce1.clone();
        extranonce.resize(extranonce.len() + miner.extranonce2_size, 0);
        // Plans are made again every 30 s.
        while !miner.job.as_ref().is_some_and(|job| all(&job.coinbase(&extranonce, &[]))) {
            miner.mine_accepted_share();
            miner.catch_up();
        }
        let block = miner.unsolved_block();
        let proposal = json!({"mode": "proposal", "data": to_hex(&block), "rules": ["segwit"]});
        // Everything about the block is checked but its work.
        assert_eq!(node.call("getblocktemplate", &[proposal]), Value::Null, "{agent}");
    }

    // An address of another chain is nobody's here.
    let mut stranger = Miner::open(pool.v1());
    let user = address(1, Network::Signet);
    let answer = stranger.request("mining.authorize", json!([user, "x"]));
    assert_ne!(answer["result"], true, "{answer}");

    let (status, builder) = pool.stop();
    assert!(status.success());
    let (code, answer) = ask(&builder.data_dir().join("log"), &node);
    assert_eq!((code, &answer["lies"]), (Some(0), &json!([])), "{answer:#}");
    assert!(answer["shares"].as_u64() >= Some(60), "{answer:#}");
    let (mut windows, mut paid) = (0, BTreeSet::new());
    for entry in Reader::open(&builder.data_dir().join("log")).unwrap() {
        let Entry::Job(job) = entry.unwrap().1 else { continue };
        windows += usize::from(matches!(job.plan, PlanEntry::Window { .. }));
        paid.extend(self::paid(job.coinbase.bytes(), node.network));
    }
    assert!(windows > 0, "no job pays the window");
    for number in [1, 2, 3, FEE, RESERVE] {
        assert!(paid.contains(&address(number, node.network)), "{number} is not among {paid:?}");
    }
}
