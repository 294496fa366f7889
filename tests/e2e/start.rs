//! What keeps a pool from starting, in one clear sentence with the remedy.

use crate::published::mine;
use bitcoin::Network;
use share_accounting::entry::{ChainEntry, ChainEvent, Entry};
use share_accounting::log::segment::BLOCK_HEADER_BYTES;
use sluice_tests::support::log::{Log, append, block_offsets};
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{PoolBuilder, address, files};
use sluice_tests::support::wait_for;
use std::fs;
use std::net::TcpListener;
use stratum::job::TemplateId;

/// `sluice-pool run` must end by itself, with this code and all of these words on standard error.
fn assert_refused(builder: PoolBuilder, code: i32, parts: &[&str]) -> PoolBuilder {
    let mut pool = builder.launch();
    let status = pool.wait_for_exit();
    let text = pool.whole_log();
    assert!(parts.iter().all(|part| text.contains(part)), "{parts:?} not in:\n{text}");
    assert_eq!(status.code(), Some(code), "{text}");
    pool.kill()
}

#[test]
fn every_wrong_setting_is_named_at_once_and_exits_64() {
    let node = Node::regtest();
    let builder = PoolBuilder::new(&node)
        .set("colour", "\"red\"")
        .set("payout.reserve_address", "\"tb1qtypo\"")
        .set("payout.window", "\"0\"");
    assert_refused(builder, 64, &["colour: unknown setting", "check it for a typo", "payout.window"]);
}

#[test]
fn a_node_of_another_network_is_refused() {
    let node = Node::regtest();
    let mainnet = format!("\"{}\"", address(1, Network::Bitcoin));
    let builder = PoolBuilder::new(&node).set("network", "\"bitcoin\"");
    assert_refused(
        builder.set("payout.reserve_address", &mainnet),
        1,
        &["the node is on chain `regtest`, wanted is bitcoin"],
    );
}

#[test]
fn an_address_of_another_network_is_refused() {
    let node = Node::regtest();
    let mainnet = format!("\"{}\"", address(1, Network::Bitcoin));
    assert_refused(
        PoolBuilder::new(&node).set("payout.reserve_address", &mainnet),
        64,
        &["is not an address of regtest"],
    );
}

#[test]
fn a_port_in_use_is_named() {
    let node = Node::regtest();
    let builder = PoolBuilder::new(&node);
    let _held = TcpListener::bind(("127.0.0.1", builder.v1_port)).unwrap();
    let port = format!("127.0.0.1:{}", builder.v1_port);
    assert_refused(builder, 1, &[&port, "in use"]);
}

#[test]
fn an_unreadable_cookie_is_named_with_the_remedy_until_it_can_be_read() {
    let node = Node::regtest();
    let builder = PoolBuilder::new(&node);
    let missing = builder.data_dir().with_file_name("cookie");
    let builder = builder.replace(&node.cookie_file().display().to_string(), &missing.display().to_string());
    let output = builder.output("check");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&missing.display().to_string()) && text.contains("is the node running"), "{text}");
    // A node that starts later than its pool writes the cookie then.
    let pool = builder.launch();
    pool.wait_for_log("is the node running");
    std::fs::copy(node.cookie_file(), &missing).unwrap();
    pool.wait_until_healthy();
}

#[test]
fn ch_04_a_node_on_another_chain_is_refused() {
    let node = Node::regtest();
    let builder = PoolBuilder::new(&node)
        .set("network", "\"signet\"")
        .set("payout.reserve_address", &format!("\"{}\"", address(1, Network::Signet)));
    let builder = assert_refused(builder, 1, &["regtest", "signet"]);
    assert!(!builder.data_dir().exists(), "what it would hold is of the wrong network");
}

#[test]
fn ch_04_a_signet_with_another_challenge_is_refused() {
    let node = Node::signet_with_challenge("5151");
    assert_refused(PoolBuilder::new(&node), 1, &["signetchallenge 51"]);
}

#[test]
fn gb_02_a_chain_that_is_not_mined_with_sha256d_is_refused() {
    let node = Node::start(Network::Regtest, &["-testactivationheight=blake2b@1"]);
    let sentence = "this node follows a chain that is not mined with SHA-256d";
    assert_refused(PoolBuilder::new(&node), 1, &[sentence]);
}

#[test]
fn a_second_pool_on_the_same_data_is_refused() {
    let node = Node::regtest();
    let pool = PoolBuilder::new(&node).start();
    let second = PoolBuilder::new(&node).set("data_dir", &format!("\"{}\"", pool.data_dir().display()));
    assert_refused(second, 1, &["in use"]);
}

#[test]
fn d03_a_log_that_is_damaged_in_the_middle_is_refused_by_segment_and_offset_and_left_as_it_is() {
    let node = Node::signet();
    let pool = PoolBuilder::new(&node).easiest().start();
    mine(&pool, &node, 1);
    let (_, builder) = pool.stop();
    let log = builder.data_dir().join("log");
    // What the pool goes on with is its second segment.
    let event = ChainEvent::Superseded(TemplateId(u64::MAX));
    append(&log, node.network, 1, &[Entry::Chain(ChainEntry { unix_ms: 1, event })]);
    let pool = builder.start();
    mine(&pool, &node, 2);
    let (_, builder) = pool.stop();
    let segment = log.join("00000001.seg");
    let intact = fs::read(&segment).unwrap();
    let (offsets, names) = (block_offsets(&intact), files(&log));
    assert!(offsets.len() > 5 && !names.contains(&"00000002.seg".to_owned()), "{offsets:?} {names:?}");
    let damaged = offsets[offsets.len() / 2];
    let mut bytes = intact.clone();
    bytes[damaged + BLOCK_HEADER_BYTES + 1] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let words =
        format!("share log segment 1 is corrupt at offset {damaged}: bad block, and valid data follows");
    let builder = assert_refused(builder, 1, &[&words, "restore it from a backup"]);
    assert!(fs::read(&segment).unwrap() == bytes && files(&log) == names, "nothing is cut off or set aside");
    // With the backup it goes on.
    fs::write(&segment, &intact).unwrap();
    let pool = builder.start();
    mine(&pool, &node, 1);
    let (_, builder) = pool.stop();
    assert!(fs::read(&segment).unwrap().starts_with(&intact));
    Log::read(&builder.data_dir());
}

#[test]
fn gb_09_check_proposes_every_coinbase_size_to_the_node() {
    let node = Node::regtest();
    let output = PoolBuilder::new(&node).output("check");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for class in ["255", "455", "755", "2250", "6500", "16000"] {
        assert!(
            text.lines().any(|line| line.contains(class) && line.contains("accepted")),
            "{class}:\n{text}"
        );
    }
}

#[test]
fn gb_09_a_node_that_takes_no_blocks_from_us_is_told_before_one_is_lost() {
    let asked = "getblockchaininfo,getblockhash,getbestblockhash,getblockheader,getblocktemplate";
    let node = Node::start(Network::Regtest, &[&format!("-rpcwhitelist=__cookie__:{asked}")]);
    let output = PoolBuilder::new(&node).output("check");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(text.contains("allow `submitblock`"), "{text}");
    // Work goes on meanwhile: a person may mend the node in time.
    let pool = PoolBuilder::new(&node).launch();
    pool.wait_for_log("a block of ours would be lost");
    let report = wait_for("the trouble in /health", || {
        pool.health().filter(|report| report["reasons"].to_string().contains("allow `submitblock`"))
    });
    assert_eq!((&report["ok"], &report["height"]), (&false.into(), &1.into()));
}

#[test]
fn gb_09_the_work_of_now_is_shown_to_the_node_at_start() {
    let node = Node::signet();
    let pool = PoolBuilder::new(&node).start();
    pool.wait_for_log("every node would take our blocks");
}
