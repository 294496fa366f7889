//! SIGTERM under load: the end is orderly, and nothing that was acknowledged is missing.

use sluice_tests::support::log::Log;
use sluice_tests::support::miner::Miner;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{PoolBuilder, address};
use sluice_tests::support::wait_for;
use std::collections::HashSet;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

/// Mines until the pool closes the connection; gives the header hashes that it acknowledged.
fn mine_until_closed(pool: SocketAddr, user: String, count: Arc<AtomicUsize>) -> JoinHandle<Vec<[u8; 32]>> {
    let mut miner = Miner::connect(pool, &user, "sluice-fleet/stop");
    thread::spawn(move || {
        let mut acknowledged = Vec::new();
        while miner.try_catch_up().is_some() {
            let share = miner.find_share();
            let Some(answer) = miner.try_request("mining.submit", share.params) else { break };
            if answer["result"] == true {
                acknowledged.push(share.hash);
                count.fetch_add(1, Ordering::Relaxed);
            } else {
                assert_eq!(answer["error"][0], 21, "only a new tip makes a share late: {answer}");
            }
        }
        acknowledged
    })
}

#[test]
fn d08_a_pool_that_is_told_to_stop_under_load_ends_in_order_and_keeps_every_acknowledged_share() {
    let node = Node::signet();
    let mut builder =
        PoolBuilder::new(&node).set("difficulty.pot_start", "-20").set("difficulty.pot_max", "-20");
    let mut acknowledged = Vec::new();
    for round in 1..=2 {
        let pool = builder.start();
        let v1 = pool.v1();
        let count = Arc::new(AtomicUsize::new(0));
        let miners: Vec<_> = (1..=4)
            .map(|number| mine_until_closed(v1, address(number, node.network), count.clone()))
            .collect();
        // Connections at every stage, some of which never say a word.
        let silent: Vec<_> = (0..5).map(|_| TcpStream::connect(v1).unwrap()).collect();
        wait_for("load", || (count.load(Ordering::Relaxed) >= 40).then_some(()));
        let (status, settings) = pool.stop();
        assert_eq!(status.code(), Some(0), "round {round}");
        // The miners' threads end because their connections do.
        miners.into_iter().for_each(|miner| acknowledged.extend(miner.join().unwrap()));
        for mut silent in silent {
            assert!(!matches!(silent.read(&mut [0]), Ok(1)), "a closed connection, and not a word");
        }
        builder = settings;
    }
    let log = Log::read(&builder.data_dir());
    let logged: Vec<_> = log.shares().map(|share| log.header_hash(share)).collect();
    let distinct: HashSet<_> = logged.iter().copied().collect();
    assert_eq!(distinct.len(), logged.len(), "no share stands in the log twice");
    let missing = acknowledged.iter().filter(|hash| !distinct.contains(*hash)).count();
    assert_eq!(missing, 0, "of {} acknowledged shares", acknowledged.len());
}
