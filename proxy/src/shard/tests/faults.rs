//! What has gone wrong in pools and proxies before, through this one.

use super::*;
use bitcoin::hex::FromHex;
use proptest::prelude::*;

/// Network target of regtest: every second hash is a block.
const EASY_NBITS: u32 = 0x207f_ffff;
/// A target that no test meets.
const HARD_NBITS: u32 = 0x1702_1369;

fn hard() -> Target {
    Target::from_nbits(HARD_NBITS).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    Vec::from_hex(hex).unwrap()
}

/// The parameters of the newest job that a machine was sent.
fn notified(lines: &[Value]) -> Value {
    lines.iter().rfind(|line| line["method"] == "mining.notify").expect("a job")["params"].clone()
}

/// The difficulties that a machine was told.
fn difficulties(lines: &[Value]) -> Vec<f64> {
    let told = lines.iter().filter(|line| line["method"] == "mining.set_difficulty");
    told.map(|line| line["params"][0].as_f64().unwrap()).collect()
}

#[test]
fn m02_a_share_through_another_machines_connection_is_another_share() {
    let mut bench = Bench::new(target(0xff));
    let (one, other) = (bench.machine(), bench.machine());
    bench.submit(&one, [ZEROS, "00000001", NO_BITS]);
    bench.submit(&other, [ZEROS, "00000001", NO_BITS]);
    let (first, second) = (bench.forwarded().unwrap(), bench.forwarded().unwrap());
    assert_ne!(first.extranonce, second.extranonce, "each rolls behind a number of its own");
    // The name of one machine's job means nothing on the other's connection.
    bench.submit_for(&other, &one.job_id, [ZEROS, "00000001", NO_BITS]);
    bench.verdict(&second, Ok(()));
    assert_eq!(bench.answers(&other), [0, 21]);
    assert!(bench.forwarded().is_none());
}

#[test]
fn m04_a_parent_that_comes_back_brings_its_shares_back() {
    let mut bench = Bench::new(target(0xff));
    let machine = bench.machine();
    let first = bench.job.clone();
    bench.submit(&machine, [ZEROS, "00000001", NO_BITS]);
    let share = bench.forwarded().unwrap();
    bench.verdict(&share, Ok(()));
    for parent in [2, 3, 1] {
        bench.give(client::Job { id: first.id + u32::from(parent), ..upstream_job(0, parent, first.target) });
    }
    // The same work under another name.
    bench.give(client::Job { id: 77, ..first });
    let job_id = notified(&bench.sent(machine.key))[0].as_str().unwrap().to_owned();
    bench.submit_for(&machine, &job_id, [ZEROS, "00000001", NO_BITS]);
    assert_eq!(bench.answers(&machine), [22]);
    assert!(bench.forwarded().is_none());
}

#[test]
fn m05_a_block_that_comes_again_goes_upstream_again_and_nobody_waits_for_it() {
    let mut bench = Bench::new(target(0xff));
    let easy = Target::from_nbits(EASY_NBITS).unwrap();
    bench.give(client::Job { network_target: easy, nbits: EASY_NBITS, ..upstream_job(2, 2, hard()) });
    let machine = bench.machine();
    let solves = |bench: &Bench, nonce: &u32| easy.is_met_by(&bench.hash(&machine, ZEROS, *nonce));
    let nonce = (0..).find(|nonce| solves(&bench, nonce)).unwrap();
    let words = [ZEROS, &format!("{nonce:08x}"), NO_BITS];
    bench.submit(&machine, words);
    let share = bench.forwarded().expect("a block, though far below what upstream asks for");
    bench.verdict(&share, Ok(()));
    bench.submit(&machine, words);
    assert_eq!(bench.answers(&machine), [0, 22]);
    assert_eq!(bench.forwarded().expect("it may have been lost the first time").waiting, None);
}

#[test]
fn m06_m07_m08_a_flood_is_met_and_its_shares_under_way_count_at_the_difficulty_of_their_job() {
    let mut bench = Bench::with_pots(Pot::MIN..=Pot::MAX, hard());
    let machine = bench.machine();
    for nonce in 0..50 {
        bench.submit(&machine, [ZEROS, &format!("{nonce:08x}"), NO_BITS]);
    }
    let lines = bench.sent(machine.key);
    let told = difficulties(&lines);
    assert!(!told.is_empty() && told.is_sorted(), "{told:?}");
    let good = lines.iter().filter(|line| line["id"] == 7 && line["result"] == true).count();
    assert_eq!(good, 50, "all of them are shares of the job that they were made for");
}

#[test]
fn m08_no_machine_is_asked_for_more_than_upstream_pays_for() {
    let above = Pot::try_from(-20).unwrap().target();
    let mut bench = Bench::with_pots(Pot::MIN..=Pot::MAX, above);
    let machine = bench.machine();
    let mut job_id = machine.job_id.clone();
    for nonce in 0..400_u32 {
        bench.submit_for(&machine, &job_id, [ZEROS, &format!("{nonce:08x}"), NO_BITS]);
        let lines = bench.sent(machine.key);
        if let Some(told) = difficulties(&lines).last() {
            assert!(*told <= 2_f64.powi(-20), "{told}");
            job_id = notified(&lines)[0].as_str().unwrap().to_owned();
        }
    }
    assert_ne!(job_id, machine.job_id, "the flood was noticed");
}

proptest! {
    #[test]
    fn m09_what_goes_upstream_is_decided_by_numbers_and_not_by_bytes(target: [u8; 32], nonce: u32) {
        let Ok(above) = Target::try_from(U256(target)) else { return Ok(()) };
        let mut bench = Bench::new(above);
        let machine = bench.machine();
        bench.submit(&machine, [ZEROS, &format!("{nonce:08x}"), NO_BITS]);
        // Most significant byte first, byte by byte.
        let (mut hash, mut limit) = (bench.hash(&machine, ZEROS, nonce), target);
        hash.reverse();
        limit.reverse();
        prop_assert_eq!(bench.forwarded().is_some(), hash <= limit);
    }
}

#[test]
fn m10_header_times_are_those_that_consensus_takes() {
    let mut bench = Bench::new(target(0xff));
    let machine = bench.machine();
    let given = bench.job.min_ntime;
    for (ntime, good) in [(given - 1, false), (given, true), (given + 600, true), (given + 7_300, false)] {
        bench.job.min_ntime = ntime;
        bench.submit(&machine, [ZEROS, "00000001", NO_BITS]);
        match bench.forwarded() {
            Some(share) => {
                assert!(good && share.ntime == ntime, "{ntime}");
                bench.verdict(&share, Ok(()));
                assert_eq!(bench.answers(&machine), [0]);
            }
            None => {
                assert!(!good, "{ntime}");
                assert_eq!(bench.answers(&machine), [20]);
            }
        }
    }
}

#[test]
fn m11_rolled_version_bits_go_upstream_as_the_machine_hashed_them() {
    let mut bench = Bench::new(target(0xff));
    let machine = bench.machine();
    bench.submit(&machine, [ZEROS, "00000001", "1fffe000"]);
    assert_eq!(bench.forwarded().unwrap().version, 0x3fff_e000);
    // BIP 323 allows it, but this machine agreed on less.
    bench.submit(&machine, [ZEROS, "00000002", "00000020"]);
    assert!(bench.forwarded().is_none());
}

#[test]
fn m13_no_two_machines_have_the_same_number_and_none_is_given_again_at_once() {
    let mut bench = Bench::new(target(0xff));
    let mut seen = HashSet::new();
    for _ in 0..50 {
        let machine = bench.machine();
        assert!(seen.insert(machine.extranonce1.clone()));
        bench.shard.close(machine.key, Ending::Gone, bench.now);
    }
}

#[test]
fn m16_the_coinbase_that_a_machine_puts_together_is_the_one_that_upstream_judges() {
    let mut bench = Bench::new(target(0xff));
    let machine = bench.machine();
    bench.give(upstream_job(2, 2, target(0xff)));
    let params = notified(&bench.sent(machine.key));
    let text = |at: usize| params[at].as_str().unwrap();
    let mined = bytes(&format!("{}{}{}{}", text(2), machine.extranonce1, "0102030405060708", text(3)));
    bench.submit_for(&machine, text(0), ["0102030405060708", "00000001", NO_BITS]);
    let share = bench.forwarded().unwrap();
    let client::Work::Coinbase(coinbase) = &bench.job.work else { panic!("an extended job") };
    let judged = [
        &coinbase.prefix,
        bench.job.extranonce_prefix.as_bytes(),
        share.extranonce.as_bytes(),
        &coinbase.suffix,
    ];
    assert_eq!(mined, judged.concat());
    assert_eq!(share.extranonce.as_bytes().len(), bench.job.extranonce_size);
}
