//! Hostile bytes and dead peers: a code or a closed connection, and never another miner's trouble.

use serde_json::{Value, json};
use sluice_tests::support::miner::Miner;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{Pool, PoolBuilder, address};
use sluice_tests::support::{narrow, wait_for};
use std::io::{Read, Write};
use std::net::TcpStream;

fn pool_and_bystander() -> (Node, Pool, Miner) {
    let node = Node::signet();
    let pool = PoolBuilder::new(&node).start();
    let bystander = Miner::connect(pool.v1(), &address(9, node.network), "sluice-fleet/bystander");
    (node, pool, bystander)
}

/// The miner that did nothing wrong is still served.
fn is_served(bystander: &mut Miner) {
    let answer = bystander.request("mining.ping", json!([]));
    assert_eq!(answer["result"], "pong");
}

fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = [0; 4096];
    loop {
        match stream.read(&mut rest) {
            Ok(0) | Err(_) => return true,
            Ok(_) => {}
        }
    }
}

#[test]
fn n01_a_line_without_end_closes_its_connection_only() {
    let (_node, pool, mut bystander) = pool_and_bystander();
    let mut hostile = TcpStream::connect(pool.v1()).unwrap();
    let chunk = [b'x'; 1024];
    // The write fails at the latest when the pool has closed the connection.
    for _ in 0..10_000 {
        if hostile.write_all(&chunk).is_err() {
            break;
        }
    }
    assert!(is_closed(&mut hostile));
    is_served(&mut bystander);
    assert_eq!(pool.metric("sluice_pool_closes_total{reason=\"malformed\"}"), 1.0);
}

#[test]
fn n02_broken_json_gets_a_code_and_a_flood_of_it_gets_closed() {
    let (_node, pool, mut bystander) = pool_and_bystander();
    let mut hostile = Miner::open(pool.v1());
    let deep = format!("{{\"id\":1,\"method\":\"x\",\"params\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let lines = [
        "nonsense",
        "[]",
        "{\"id\":1}",
        "{\"id\":1,\"method\":7,\"params\":[]}",
        "{\"id\":1,\"method\":\"mining.submit\",\"params\":[1e999]}",
        "{\"id\":\"\\ud800\",\"method\":\"mining.ping\",\"params\":[]}",
        deep.as_str(),
    ];
    for line in lines.iter().cycle().take(100) {
        if hostile.send_line(line).is_err() {
            break;
        }
    }
    let mut answers: Vec<Value> = Vec::new();
    while let Some(answer) = hostile.read_line() {
        answers.push(answer);
    }
    assert!(!answers.is_empty() && answers.len() < 100, "{} answers", answers.len());
    assert!(answers.iter().all(|answer| answer["error"][0] == 20 || answer["error"][0] == 25), "{answers:?}");
    is_served(&mut bystander);
}

#[test]
fn n04_silent_connections_are_closed_by_their_deadline_while_others_mine() {
    let (_node, pool, mut bystander) = pool_and_bystander();
    let mut silent: Vec<_> = (0..200).map(|_| TcpStream::connect(pool.v1()).unwrap()).collect();
    is_served(&mut bystander);
    assert!(silent.iter_mut().all(is_closed));
    let closed = || pool.metric("sluice_pool_closes_total{reason=\"no_first_bytes\"}");
    wait_for("all silent connections to be counted", || (closed() >= 200.0).then_some(()));
    is_served(&mut bystander);
}

#[test]
fn n11_hostile_names_reach_no_log_line_and_no_metric() {
    let node = Node::signet();
    let pool = PoolBuilder::new(&node).set("log.filter", "\"debug\"").start();
    let mine = address(1, node.network);
    for worker in [
        "a\nINJECTED",
        "\u{1b}[31mRED",
        "<script>alert(1)</script>",
        "'; DROP TABLE payees; --",
        "=1+1",
        "../../x",
    ] {
        let mut miner = Miner::connect(pool.v1(), &format!("{mine}.{worker}"), "sluice-fleet\n\u{1b}[2J");
        miner.mine_accepted_share();
    }
    let log = pool.log();
    assert!(!log.contains('\u{1b}') && !log.lines().any(|line| line.starts_with("INJECTED")), "{log}");
    assert!(!log.contains("<script>"));
    let metrics = pool.metrics();
    assert!(!metrics.contains("script") && !metrics.contains("INJECTED") && !metrics.contains(&mine));
}

#[test]
fn cb_12_a_wrong_address_is_refused_with_the_reason_and_the_miner_may_try_again() {
    let (node, pool, _bystander) = pool_and_bystander();
    let mut miner = Miner::open(pool.v1());
    miner.request("mining.subscribe", json!(["cgminer/4.12"]));
    let mainnet = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
    for (user, reason) in
        [(mainnet, "is not for signet"), ("tb1qtypo", "check it for a typo"), ("", "Bitcoin address")]
    {
        let answer = miner.request("mining.authorize", json!([user, "x"]));
        assert_eq!(answer["error"][0], 24);
        assert!(answer["error"][1].as_str().unwrap().contains(reason), "{answer}");
    }
    let answer = miner.request("mining.authorize", json!([address(1, node.network), "x"]));
    assert_eq!(answer["result"], true);
    // Another payee on the same connection is not possible.
    let answer = miner.request("mining.authorize", json!([address(2, node.network), "x"]));
    assert_eq!(answer["error"][0], 24);
}

#[test]
fn n07_a_peer_that_never_reads_is_closed_and_others_are_served() {
    let (_node, pool, mut bystander) = pool_and_bystander();
    let mut hostile = narrow(pool.v1());
    let question = b"{\"id\":1,\"method\":\"mining.ping\",\"params\":[]}\n".repeat(1_000);
    // Ends when the pool closes: the answers fill the kernel's buffers first, then the outbox.
    for _ in 0..100_000 {
        if hostile.write_all(&question).is_err() {
            break;
        }
    }
    let slow = || {
        ["too_slow", "too_fast"]
            .map(|reason| pool.metric(&format!("sluice_pool_closes_total{{reason=\"{reason}\"}}")))
    };
    wait_for("the peer to be closed", || (slow().iter().sum::<f64>() == 1.0).then_some(()));
    is_served(&mut bystander);
}

#[test]
fn a_log_that_nobody_reads_stops_neither_work_nor_blocks() {
    let node = Node::regtest();
    let pool =
        PoolBuilder::new(&node).set("log.filter", "\"trace\"").set("difficulty.pot_start", "-32").start();
    let mut miner = Miner::connect(pool.v1(), &address(1, node.network), "sluice-fleet/unread");
    pool.with_log_unread(|| {
        // Each block is worth more than a kilobyte of lines, and a pipe holds 64.
        for _ in 0..200 {
            miner.catch_up();
            let share = miner.find_block();
            miner.request("mining.submit", share.params);
        }
        wait_for("blocks on blocks", || (node.height() > 20).then_some(()));
    });
    assert!(pool.stop().0.success());
}
