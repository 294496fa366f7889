//! SIGKILL of the proxy and of the pool behind it, under load: acknowledged shares are in the pool's log, once.

use bitcoin::Network;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sluice_tests::support::herd::{Herd, Tally};
use sluice_tests::support::log::Log;
use sluice_tests::support::miner::Miner;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{Pool, PoolBuilder, address};
use sluice_tests::support::proxy::ProxyBuilder;
use sluice_tests::support::rounds;
use std::time::Duration;

const MACHINES: usize = 100;

fn pool(node: &Node) -> PoolBuilder {
    PoolBuilder::new(node).easiest().with_v2()
}

fn proxy(pool: &PoolBuilder) -> ProxyBuilder {
    ProxyBuilder::passing_users().easiest().upstream(pool.v2(), pool.authority())
}

fn users(node: &Node) -> Vec<String> {
    (0..MACHINES).map(|at| format!("{}.{at}", address(1 + (at % 4) as u8, node.network))).collect()
}

/// A random moment under load, after so many seconds.
fn pause(random: &mut StdRng, seconds: u64) {
    std::thread::sleep(Duration::from_millis(1_000 * seconds + random.random_range(200..2_000)));
}

fn assert_in_the_log_once(tally: &Tally, pool: Pool) {
    let (status, settings) = pool.stop();
    assert!(status.success());
    let logged = Log::read(&settings.data_dir()).header_hashes();
    let missing = tally.acknowledged.iter().filter(|hash| !logged.contains(*hash)).count();
    println!("{} shares acknowledged, {} in the log", tally.acknowledged.len(), logged.len());
    assert_eq!(missing, 0, "of {} acknowledged shares", tally.acknowledged.len());
}

#[test]
fn d01_whenever_the_proxy_is_killed_machines_come_back_and_acknowledged_shares_are_in_the_pools_log_once() {
    let mut random = StdRng::seed_from_u64(3);
    let node = Node::signet();
    let pool = pool(&node).start();
    let mut proxy = proxy(&pool.builder).start();
    let herd = Herd::start(proxy.v1(), users(&node), Duration::from_millis(500));
    for _ in 0..rounds(5, 50) {
        herd.wait_for_work(MACHINES);
        herd.wait_for_acknowledged(MACHINES / 2);
        pause(&mut random, 0);
        assert_eq!(proxy.metric("sluice_proxy_unconfirmed_total"), 0.0, "a word of its own is no upstream's");
        proxy = proxy.kill().launch();
    }
    herd.wait_for_work(MACHINES);
    herd.wait_for_acknowledged(MACHINES / 2);
    let tally = herd.quiet();
    assert!(tally.adds_up(), "every share has one answer, or lost its connection");
    assert!(tally.disconnects >= MACHINES as u64, "machines did not notice");
    assert!(proxy.forwarded().adds_up(), "{:?}", proxy.forwarded());
    assert_in_the_log_once(&tally, pool);
}

#[test]
fn d01_m03_whenever_the_pool_is_killed_behind_the_proxy_acknowledged_shares_are_in_its_log_once() {
    let mut random = StdRng::seed_from_u64(4);
    // A killed pool leaves its long poll behind, which holds one of the node's threads until the next block.
    let node = Node::start(Network::Signet, &["-signetchallenge=51", "-rpcthreads=100"]);
    let mut pool = pool(&node).start();
    let proxy = proxy(&pool.builder).start();
    let herd = Herd::start(proxy.v1(), users(&node), Duration::from_millis(500));
    let mut replayer = Miner::connect(proxy.v1(), &address(1, node.network), "sluice-fleet/replay");
    for _ in 0..rounds(5, 50) {
        herd.wait_for_work(MACHINES);
        herd.wait_for_acknowledged(MACHINES / 2);
        let share = replayer.mine_accepted_share();
        let before = replayer.job.clone().unwrap();
        // A connection of a few seconds is a good one to the proxy: its pauses do not grow from kill to kill.
        pause(&mut random, 4);
        pool = pool.kill().start();
        // Its work is new, and what was mined on the old is worth nothing a second time.
        replayer.wait_for_job(|job| job.id != before.id && job.ntime > before.ntime);
        let answer = replayer.request("mining.submit", share.params.clone());
        assert!(matches!(answer["error"][0].as_u64(), Some(21 | 22)), "{answer}");
        let again = replayer.on_newest_job(&share);
        let answer = replayer.request("mining.submit", again.params);
        assert!(answer["result"] == true && again.hash != share.hash || answer["result"] != true, "{answer}");
    }
    herd.wait_for_acknowledged(MACHINES / 2);
    let tally = herd.quiet();
    assert!(tally.adds_up(), "every share has exactly one answer");
    assert_eq!(tally.disconnects, 0, "machines stay while the pool comes back");
    assert_eq!(proxy.metric("sluice_proxy_unconfirmed_total"), 0.0);
    let forwarded = proxy.forwarded();
    assert!(forwarded.adds_up() && forwarded.waiting == 0.0, "{forwarded:?}");
    assert_in_the_log_once(&tally, pool);
}

#[test]
fn d08_a_proxy_that_is_told_to_stop_under_load_ends_in_order_and_answers_what_it_has_taken() {
    let node = Node::signet();
    let pool = pool(&node).start();
    let mut proxy = proxy(&pool.builder).start();
    let herd = Herd::start(proxy.v1(), users(&node), Duration::from_millis(200));
    herd.wait_for_work(MACHINES);
    herd.wait_for_acknowledged(2 * MACHINES);
    let status = proxy.terminate();
    assert_eq!(status.code(), Some(0), "{}", proxy.whole_log());
    let tally = herd.quiet();
    assert!(tally.adds_up(), "every share has one answer, or lost its connection");
    assert_eq!((tally.with_work, tally.refused.get(&20)), (0, None), "{:?}", tally.refused);
    assert_in_the_log_once(&tally, pool);
}
