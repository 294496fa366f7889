//! SIGKILL of the pool under V2 miners: what was paid before is never paid again.

use sluice_tests::support::log::Log;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{PoolBuilder, address};
use sluice_tests::support::v2_miner::V2Miner;
use stratum::v2::client::Kind;

#[test]
fn m03_d01_a_share_from_before_a_kill_is_in_the_log_once_and_refused_after_it_over_v2() {
    let node = Node::signet();
    let user = format!("{}.rig", address(1, node.network));
    // Hard enough that no share of one job is one of another by chance.
    let mut pool = PoolBuilder::new(&node).set("difficulty.pot_start", "-16").with_v2().start();
    let mut paid = Vec::new();
    for kind in [Kind::Standard, Kind::Extended { min_extranonce_size: 12 }] {
        let connect = |pool: &PoolBuilder| V2Miner::connect(pool.v2(), pool.authority(), &user, kind);
        let mut miner = connect(&pool.builder);
        let hash = miner.mine_accepted_share();
        let share = miner.mined.take().expect("just accepted");
        assert_eq!(miner.submit(&share), Err("duplicate-share".to_owned()));
        pool = pool.kill().start();
        let refused = connect(&pool.builder).submit(&share).expect_err("it was paid by the process before");
        // The new process may have given the same name to a job of its own.
        let known = ["invalid-job-id", "stale-share", "difficulty-too-low", "invalid-share"];
        assert!(known.contains(&refused.as_str()), "{kind:?}: {refused}");
        paid.push(hash);
    }
    let (status, settings) = pool.stop();
    assert!(status.success());
    // Fails if any header is there twice.
    let logged = Log::read(&settings.data_dir()).header_hashes();
    assert!(paid.iter().all(|hash| logged.contains(hash)), "acknowledged before the kill, so in the log");
}
