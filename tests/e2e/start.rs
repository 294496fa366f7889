//! What keeps a pool from starting, in one clear sentence with the remedy.

use bitcoin::Network;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{PoolBuilder, address};
use sluice_tests::support::wait_for;
use std::net::TcpListener;

/// Standard error and exit code of `sluice-pool run`, which must end by itself.
fn refused(builder: PoolBuilder) -> (String, i32) {
    let mut pool = builder.launch();
    let status = pool.wait_for_exit();
    (pool.whole_log(), status.code().expect("an exit code, no signal"))
}

fn assert_refused(builder: PoolBuilder, code: i32, parts: &[&str]) {
    let (text, actual) = refused(builder);
    assert!(parts.iter().all(|part| text.contains(part)), "{parts:?} not in:\n{text}");
    assert_eq!(actual, code, "{text}");
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
        &["the node is on chain `regtest`, the settings say bitcoin"],
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
    assert_refused(builder, 1, &["regtest", "signet"]);
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
