//! Hostile V2 clients: slow, silent, deaf and loud ones. Each costs itself its connection, and nobody else anything.

use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{Pool, PoolBuilder, address};
use sluice_tests::support::v2_link::{V2Link, initiate, shake_hands};
use sluice_tests::support::v2_miner::V2Miner;
use sluice_tests::support::{PATIENCE, narrow, rounds, wait_for};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::thread;
use std::time::Duration;
use stratum::v2::client::{Job, Kind};
use stratum::v2::codec::Bytes32;
use stratum::v2::message::SubmitSharesExtended;

const KIND: Kind = Kind::Extended { min_extranonce_size: 8 };

/// A pool, and the miner that did nothing wrong.
fn pool_and_bystander(node: &Node) -> (Pool, V2Miner) {
    let pool = PoolBuilder::new(node).easiest().with_v2().start();
    let user = address(9, node.network);
    let bystander = V2Miner::connect(pool.builder.v2(), pool.builder.authority(), &user, KIND);
    (pool, bystander)
}

fn closes(pool: &Pool, reason: &str) -> f64 {
    pool.metric(&format!("sluice_pool_closes_total{{reason=\"{reason}\"}}"))
}

#[test]
fn n04_silent_and_slow_handshakes_and_setups_end_by_their_deadline_while_others_mine() {
    let node = Node::signet();
    let (pool, mut bystander) = pool_and_bystander(&node);
    let (v2, authority) = (pool.builder.v2(), pool.builder.authority());
    let connect = || TcpStream::connect(v2).unwrap();
    let silent: Vec<_> = (0..200).map(|_| connect()).collect();
    let (_, act1) = initiate(authority);
    let begun = (0..100).map(|length| {
        let mut stream = connect();
        stream.write_all(&act1[..1 + length % (act1.len() - 1)]).unwrap();
        stream
    });
    let begun: Vec<_> = begun.collect();
    // A byte at a time is no way around the deadline.
    let mut trickle = connect();
    let trickling = thread::spawn(move || {
        act1.iter().all(|byte| {
            thread::sleep(Duration::from_millis(200));
            trickle.write_all(&[*byte]).is_ok()
        })
    });
    let shaken = (0..50).map(|_| {
        let mut stream = connect();
        shake_hands(&mut stream, authority).unwrap();
        stream
    });
    let shaken: Vec<_> = shaken.collect();
    let set_up: Vec<_> = (0..20).map(|_| V2Link::connect(v2, authority)).collect();
    bystander.mine_accepted_share();
    let refused = || pool.metric("sluice_pool_refusals_total{reason=\"no_handshake\"}");
    wait_for("handshakes to be given up", || (refused() >= 301.0).then_some(()));
    wait_for("setups to be given up", || (closes(&pool, "no_setup") >= 50.0).then_some(()));
    wait_for("channels to be given up", || (closes(&pool, "no_channel") >= 20.0).then_some(()));
    assert!(!trickling.join().unwrap(), "it was let finish");
    for mut stream in silent.into_iter().chain(begun).chain(shaken) {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The end, or a reset for what was not read; running out of patience is neither.
        match stream.read(&mut [0; 1]) {
            Ok(read) => assert_eq!(read, 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    drop(set_up);
    bystander.mine_accepted_share();
}

#[test]
fn n07_clients_that_never_read_their_jobs_are_closed_and_cost_little_meanwhile() {
    const CHANNELS: usize = 32;
    // Blocks come at once here.
    let node = Node::regtest();
    let (pool, mut bystander) = pool_and_bystander(&node);
    let (v2, authority) = (pool.builder.v2(), pool.builder.authority());
    let user = address(1, node.network);
    let count = rounds(30, 1_000);
    let deaf: Vec<_> = (0..count)
        .map(|_| {
            let mut link = V2Link::over(narrow(v2), authority);
            (0..CHANNELS).for_each(|_| drop(link.open(&user, KIND)));
            link
        })
        .collect();
    let before = pool.resident_kib();
    let mut most = before;
    wait_for("all deaf clients to be closed", || {
        node.generate(1, &address(2, node.network));
        bystander.mine_accepted_share();
        most = most.max(pool.resident_kib());
        thread::sleep(Duration::from_millis(200));
        (closes(&pool, "too_slow") >= count as f64).then_some(())
    });
    println!("{count} clients of {CHANNELS} channels that do not read: {before} KiB, at most {most} KiB");
    // What a connection may have waiting, and some room for the pool's own affairs.
    assert!(most <= before + 64 * count as u64 + 8 * 1_024, "{before} KiB have become {most} KiB");
    assert_eq!(pool.metric("sluice_pool_connections{protocol=\"v2\"}"), 1.0);
    drop(deaf);
    bystander.mine_accepted_share();
}

/// Sealed shares of a job that never was, which cost nobody any work.
fn worthless(link: &mut V2Link, channel_id: u32, job: &Job, numbers: Range<u32>) -> Vec<u8> {
    let mut sealed = Vec::new();
    for sequence_number in numbers {
        let submit = SubmitSharesExtended {
            channel_id,
            sequence_number,
            job_id: u32::MAX,
            nonce: sequence_number,
            ntime: job.min_ntime,
            version: job.version,
            extranonce: Bytes32::new(&vec![0; job.extranonce_size]).unwrap(),
        };
        link.seal(&submit, &mut sealed);
    }
    sealed
}

#[test]
fn n08_n10_a_client_that_floods_worthless_shares_is_answered_for_a_while_and_closed() {
    let node = Node::signet();
    let (pool, mut bystander) = pool_and_bystander(&node);
    let mut link = V2Link::connect(pool.builder.v2(), pool.builder.authority());
    let (channel_id, job) = link.open(&address(1, node.network), KIND);
    // It reads all answers, so that it cannot be closed for that.
    let mut answers = link.stream().try_clone().unwrap();
    let reading = thread::spawn(move || drop(std::io::copy(&mut answers, &mut std::io::sink())));
    let refused = || pool.metric("sluice_pool_shares_total{protocol=\"v2\",result=\"unknown_job\"}");
    let flood = worthless(&mut link, channel_id, &job, 0..1_000);
    link.stream().write_all(&flood).unwrap();
    wait_for("answers", || (refused() >= 1_000.0).then_some(()));
    bystander.mine_accepted_share();
    assert_eq!(closes(&pool, "misbehaved"), 0.0);
    let flood = worthless(&mut link, channel_id, &job, 1_000..100_000);
    // It may be closed before all is written.
    let _ = link.stream().write_all(&flood);
    wait_for("the flood to be closed", || (closes(&pool, "misbehaved") == 1.0).then_some(()));
    reading.join().unwrap();
    assert!(refused() < 50_000.0, "{} refused", refused());
    bystander.mine_accepted_share();
    assert_eq!(pool.metric("sluice_pool_connections{protocol=\"v2\"}"), 1.0);
}
