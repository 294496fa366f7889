//! Every rule of the share check, and the check against rust-bitcoin's own types.

use super::duplicates::{BLOCKS_MAX, TIPS_LEFT_MAX, TIPS_REMEMBERED};
use super::*;
use crate::extranonce::{Extranonce1, Extranonce2};
use crate::job::{Basis, JobId};
use crate::sample::{self, HARD_NBITS, REGTEST_NBITS, UNIX_S};
use crate::target::Target;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{CompactTarget, ScriptBuf, Transaction, TxMerkleNode, block};
use proptest::prelude::*;
use std::collections::HashSet;
use std::time::Instant;

mod together;

const UNIX_MS: u64 = UNIX_S as u64 * 1000; // widening

struct Court {
    judge: Judge,
    now: Instant,
}

impl Court {
    fn with(stale_credit: Duration, duplicates_max: usize) -> Self {
        let now = Instant::now();
        let mut judge = Judge::with_duplicates_max(stale_credit, duplicates_max);
        judge.new_tip(sample::prev_hash(1), now);
        Self { judge, now }
    }

    fn new() -> Self {
        Self::with(Duration::ZERO, 100)
    }

    fn check(&mut self, job: &Job, roll: Roll) -> Verdict {
        self.check_for(job, roll, Ok(()))
    }

    fn check_for(&mut self, job: &Job, roll: Roll, allowed: Result<(), Reject>) -> Verdict {
        self.judge.check(pending(job, roll, allowed), self.now, UNIX_MS)
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn tip(&mut self, seed: u8) {
        self.judge.new_tip(sample::prev_hash(seed), self.now);
    }
}

/// A share of a job whose name differs from those of other jobs.
fn pending(job: &Job, roll: Roll, allowed: Result<(), Reject>) -> PendingShare {
    let nothing_rolled = Roll { ntime: 0, nonce: 0, version: 0, ..roll };
    let digest = sha256d::Hash::hash(&job.header(&nothing_rolled)).to_byte_array();
    let id = JobId(u32::from_le_bytes(digest[..4].try_into().unwrap()));
    PendingShare::new(id, job.clone(), roll, sample::payee()).under(allowed)
}

fn job(nbits: u32, pot: i8) -> Job {
    let body = Arc::new(sample::body(nbits));
    Job { body, tag: sample::payee().tag, pot: Pot::try_from(pot).unwrap(), superseded_at: None }
}

fn roll(nonce: u32) -> Roll {
    Roll {
        extranonce1: Extranonce1([1, 2, 3, 4]),
        extranonce2: Extranonce2::from([0; 8]),
        ntime: UNIX_S,
        nonce,
        version: 0x2000_0000,
    }
}

/// The first roll from `start` on whose hash is a block, or is not, as wanted; and a share in any case.
fn mined(job: &Job, mut roll: Roll, block: bool) -> Roll {
    loop {
        let digest = sha256d::Hash::hash(&job.header(&roll)).to_byte_array();
        if job.pot.target().is_met_by(&digest) && job.body.network_target.is_met_by(&digest) == block {
            return roll;
        }
        roll.nonce += 1;
    }
}

fn accepted(verdict: Verdict) -> JudgedShare {
    match verdict.outcome {
        Outcome::Accepted(share) => share,
        other => panic!("{other:?}"),
    }
}

fn rejected(verdict: &Verdict) -> Reject {
    match &verdict.outcome {
        Outcome::Rejected(reject) => *reject,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_accepted_share_says_what_was_judged() {
    let (mut court, job) = (Court::new(), job(HARD_NBITS, -32));
    let roll = mined(&job, roll(5), false);
    let share = accepted(court.check(&job, roll));
    assert_eq!((share.roll(), share.pot(), share.received_unix_ms()), (&roll, job.pot, UNIX_MS));
    assert!(share.credited() && !share.block_candidate() && Arc::ptr_eq(share.body(), &job.body));
    assert_eq!(share.credited_work(), job.pot.work());
    assert_eq!(share.hash().to_byte_array(), sha256d::Hash::hash(&job.header(&roll)).to_byte_array());
}

#[test]
fn v1_43_m01_the_same_share_again_is_a_duplicate() {
    let (mut court, job) = (Court::new(), job(HARD_NBITS, -32));
    let roll = mined(&job, roll(0), false);
    accepted(court.check(&job, roll));
    // Another connection, another worker, another object of the same job: the header decides (M02).
    let same = Job { body: Arc::new(sample::body(HARD_NBITS)), ..job.clone() };
    for job in [&job, &same] {
        assert_eq!(rejected(&court.check(job, roll)), Reject::Duplicate);
    }
    for other in [Roll { ntime: UNIX_S + 1, ..roll }, Roll { version: 0x2000_2000, ..roll }] {
        accepted(court.check(&job, mined(&job, other, false)));
    }
}

#[test]
fn m02_another_prefix_is_another_share() {
    let (mut court, job) = (Court::new(), job(HARD_NBITS, -32));
    for prefix in 0..3 {
        let roll = Roll { extranonce1: Extranonce1([prefix; 4]), ..roll(0) };
        accepted(court.check(&job, mined(&job, roll, false)));
    }
}

#[test]
fn m03_a_share_of_another_epoch_is_another_header() {
    let now = job(HARD_NBITS, -32);
    let mut body = sample::body(HARD_NBITS);
    let mut bytes = body.coinbase.bytes().to_vec();
    let epoch = body.coinbase.extranonce_offset() - 2;
    bytes[epoch] ^= 1;
    body.coinbase = crate::job::Coinbase::new(bytes.into(), body.coinbase.tag_offset());
    let before = Job { body: Arc::new(body), ..now.clone() };
    assert_ne!(now.header(&roll(0)), before.header(&roll(0)));
}

/// The job on another tip.
fn on_tip(job: &Job, seed: u8) -> Job {
    let mut body = (*job.body).clone();
    body.prev_hash = sample::prev_hash(seed);
    Job { body: Arc::new(body), ..job.clone() }
}

#[test]
fn v1_44_ch_02_m04_the_tip_by_value_decides_what_is_remembered() {
    let (mut court, job) = (Court::new(), job(HARD_NBITS, -32));
    let roll = mined(&job, roll(0), false);
    accepted(court.check(&job, roll));
    court.tip(1);
    assert_eq!(rejected(&court.check(&job, roll)), Reject::Duplicate);
    // A reorganisation away and back: what was counted stays counted.
    court.tip(2);
    court.tip(1);
    assert_eq!(rejected(&court.check(&job, roll)), Reject::Duplicate);
    // Four tips with shares later it is forgotten, but then it is stale.
    for seed in 2..6 {
        court.tip(seed);
        let other = on_tip(&job, seed);
        accepted(court.check(&other, mined(&other, roll, false)));
    }
    assert_eq!(rejected(&court.check(&job, roll)), Reject::Stale);
    // It stays so if the first tip comes back, and with it a job of the same coinbase.
    court.tip(1);
    let same = Job { body: Arc::new(sample::body(HARD_NBITS)), ..job.clone() };
    for job in [&job, &same] {
        assert_eq!(rejected(&court.check(job, roll)), Reject::Stale);
    }
    court.tip(2);
    court.tip(1);
    assert_eq!(rejected(&court.check(&job, roll)), Reject::Stale);
}

#[test]
fn m04_tips_that_nobody_worked_on_push_no_other_out() {
    let (mut court, job) = (Court::new(), job(HARD_NBITS, -32));
    let roll = mined(&job, roll(0), false);
    accepted(court.check(&job, roll));
    // A node that was killed begins again some blocks behind, and tells each tip on its way.
    (2..20).for_each(|seed| court.tip(seed));
    court.tip(1);
    assert_eq!(rejected(&court.check(&job, roll)), Reject::Duplicate);
    let next = mined(&job, Roll { nonce: roll.nonce + 1, ..roll }, false);
    accepted(court.check(&job, next));
}

#[test]
fn m04_the_tips_that_are_known_are_bounded() {
    let mut court = Court::new();
    let mut job = job(HARD_NBITS, -32);
    for n in 0..TIPS_LEFT_MAX + 100 {
        let tip = BlockHash::from_byte_array(sha256d::Hash::hash(&n.to_le_bytes()).to_byte_array());
        court.judge.new_tip(tip, court.now);
        let mut body = sample::body(HARD_NBITS);
        body.prev_hash = tip;
        job.body = Arc::new(body);
        accepted(court.check(&job, mined(&job, roll(0), false)));
    }
    let tips = &court.judge.duplicates.tips;
    assert_eq!(tips.len(), TIPS_REMEMBERED + TIPS_LEFT_MAX);
    assert_eq!(tips.iter().filter(|tip| tip.seen.is_some()).count(), TIPS_REMEMBERED);
}

#[test]
fn v1_44_m05_a_block_is_reported_each_time_but_credited_once() {
    let (mut court, job) = (Court::new(), job(REGTEST_NBITS, -32));
    let roll = mined(&job, roll(0), true);
    let first = court.check(&job, roll);
    let block = first.block.clone().unwrap();
    assert_eq!(block.header, job.header(&roll));
    assert_eq!(block.coinbase, job.coinbase(&roll));
    assert!(accepted(first).block_candidate());
    let again = court.check(&job, roll);
    assert!(again.block.is_some());
    assert_eq!(rejected(&again), Reject::Duplicate);
}

#[test]
fn sb_02_m05_no_policy_hides_a_block() {
    let job = job(REGTEST_NBITS, -32);
    let good = mined(&job, roll(0), true);
    let old_time = mined(&job, Roll { ntime: 1, ..roll(0) }, true);
    let far_time = mined(&job, Roll { ntime: UNIX_S + 7201, ..roll(0) }, true);
    let late = Job { superseded_at: Some(Instant::now()), ..job.clone() };
    let hard = Job { pot: Pot::MAX, ..job.clone() };
    let hard_roll = (0..).map(roll).find(|roll| {
        job.body.network_target.is_met_by(&sha256d::Hash::hash(&hard.header(roll)).to_byte_array())
    });
    // A pot harder than the network's, which no session asks for: this is no work that can be logged.
    let verdict = Court::new().check(&hard, hard_roll.unwrap());
    assert!(verdict.block.is_some());
    assert_eq!(rejected(&verdict), Reject::LowDifficulty);
    // What a block has paid must be known from the log, whoever found it and however.
    for roll in [old_time, far_time] {
        refused_block(Court::new().check(&job, roll), Reject::BadNtime);
    }
    for why in [Reject::Unauthorized, Reject::BadVersionBits] {
        let mut court = Court::new();
        refused_block(court.check_for(&job, good, Err(why)), why);
        // Once is enough; and policy refuses what is no block without a trace.
        for again in [Err(why), Ok(())] {
            let verdict = court.check_for(&job, good, again);
            assert_eq!(rejected(&verdict), again.err().unwrap_or(Reject::Duplicate));
        }
        let none = mined(&job, roll(0), false);
        assert_eq!(rejected(&court.check_for(&job, none, Err(why))), why);
    }
    let mut court = Court::new();
    court.tip(2);
    let verdict = court.check(&job, good);
    assert!(verdict.block.is_some() && matches!(verdict.outcome, Outcome::Stale(_)));
    let mut court = Court::new();
    court.pass(1000);
    let verdict = court.check(&late, good);
    assert!(verdict.block.is_some() && matches!(verdict.outcome, Outcome::Stale(_)));
}

/// A block that is logged though its share is refused.
fn refused_block(verdict: Verdict, why: Reject) {
    assert!(verdict.block.is_some(), "{why}");
    let Outcome::RefusedBlock(share, reject) = verdict.outcome else { panic!("{:?}", verdict.outcome) };
    assert_eq!((reject, share.credited(), share.block_candidate()), (why, false, true));
}

#[test]
fn a_block_whose_time_becomes_valid_a_second_later_is_logged_once_and_earns_nothing() {
    let (mut court, job) = (Court::new(), job(REGTEST_NBITS, -32));
    let far = mined(&job, Roll { ntime: UNIX_S + 7_201, ..roll(0) }, true);
    refused_block(court.check(&job, far), Reject::BadNtime);
    assert_eq!(rejected(&court.check(&job, far)), Reject::BadNtime);
    let later = court.judge.check(pending(&job, far, Ok(())), court.now, UNIX_MS + 1_000);
    assert_eq!(rejected(&later), Reject::Duplicate, "it is in the log without credit");
}

#[test]
fn a_full_duplicate_set_takes_blocks_all_the_same() {
    let (mut court, job) = (Court::with(Duration::ZERO, 0), job(REGTEST_NBITS, -32));
    let none = mined(&job, roll(0), false);
    assert_eq!(rejected(&court.check(&job, none)), Reject::DuplicateSetFull);
    let good = mined(&job, roll(0), true);
    refused_block(court.check(&job, good), Reject::DuplicateSetFull);
    assert_eq!(rejected(&court.check(&job, good)), Reject::Duplicate);
}

#[test]
fn a_block_on_a_tip_that_nobody_knows_any_more_is_logged_once() {
    let (mut court, first) = (Court::new(), job(REGTEST_NBITS, -32));
    let accepted_before = mined(&first, roll(0), true);
    accepted(court.check(&first, accepted_before));
    for seed in 2..8 {
        court.tip(seed);
        let job = on_tip(&first, seed);
        accepted(court.check(&job, mined(&job, roll(0), false)));
    }
    let unknown = on_tip(&first, 99);
    let later = mined(&first, roll(accepted_before.nonce + 1), true);
    for (job, roll) in [(&first, later), (&unknown, mined(&unknown, roll(0), true))] {
        refused_block(court.check(job, roll), Reject::Stale);
        assert_eq!(rejected(&court.check(job, roll)), Reject::Stale);
    }
    assert_eq!(rejected(&court.check(&first, accepted_before)), Reject::Stale, "it is in the log already");
    // The tip comes after all: its block is none that could earn now.
    court.tip(99);
    let again = mined(&unknown, roll(0), true);
    assert_eq!(rejected(&court.check(&unknown, again)), Reject::Duplicate);
}

#[test]
fn the_blocks_that_are_known_are_bounded() {
    let (mut judge, tip) = (Judge::new(Duration::ZERO), sample::prev_hash(1));
    let digest = |n: usize| sha256d::Hash::hash(&n.to_le_bytes()).to_byte_array();
    for n in 0..=BLOCKS_MAX {
        judge.duplicates.insert_block(tip, &digest(n));
        judge.duplicates.insert_block(tip, &digest(n));
    }
    assert!(!judge.duplicates.contains(tip, &digest(0)));
    assert!((1..=BLOCKS_MAX).all(|n| judge.duplicates.contains(tip, &digest(n))));
}

#[test]
fn v1_41_m06_credit_is_the_pot_of_the_job_never_the_luck_of_the_hash() {
    for pot in [-32, -31, -28] {
        let job = job(HARD_NBITS, pot);
        let share = accepted(Court::new().check(&job, mined(&job, roll(0), false)));
        assert_eq!(share.credited_work(), Pot::try_from(pot).unwrap().work());
    }
}

#[test]
fn v1_42_m07_a_share_is_judged_by_its_own_job_whatever_came_after() {
    let (mut court, old, new) = (Court::new(), job(HARD_NBITS, -32), job(HARD_NBITS, 10));
    assert_eq!(rejected(&court.check(&new, roll(0))), Reject::LowDifficulty);
    let old = Job { superseded_at: Some(court.now), ..old };
    court.pass(120);
    accepted(court.check(&old, mined(&old, roll(0), false)));
}

#[test]
fn v1_45_m10_header_times_from_mintime_to_two_hours_ahead_are_taken() {
    let job = job(HARD_NBITS, -32);
    let min = job.body.ntime_min;
    for (ntime, good) in [
        (min - 1, false),
        (min, true),
        (UNIX_S, true),
        (UNIX_S + 7200, true),
        (UNIX_S + 7201, false),
        (u32::MAX, false),
    ] {
        let verdict = Court::new().check(&job, mined(&job, Roll { ntime, ..roll(0) }, false));
        if good {
            accepted(verdict);
        } else {
            assert_eq!(rejected(&verdict), Reject::BadNtime, "{ntime}");
        }
    }
}

#[test]
fn m15_stale_work_is_logged_without_credit_and_worthless_stale_work_is_not() {
    let mut court = Court::new();
    let (easy, hard) = (job(HARD_NBITS, -32), job(HARD_NBITS, 30));
    let good = mined(&easy, roll(0), false);
    court.tip(2);
    let Outcome::Stale(share) = court.check(&easy, good).outcome else { panic!("real work") };
    assert!(!share.credited());
    assert_eq!(share.credited_work(), Work(0));
    // Again, too weak, wrong time: nothing to log, and its miner is told the one thing that matters.
    let bad_time = Roll { ntime: 0, ..good };
    for (job, roll) in [(&easy, good), (&hard, good), (&easy, bad_time)] {
        assert_eq!(rejected(&court.check(job, roll)), Reject::Stale);
    }
}

#[test]
fn v1_46_m15_stale_credit_lasts_as_long_as_configured_and_for_one_tip() {
    let job = job(HARD_NBITS, -32);
    let next = |from: &Roll| mined(&job, Roll { nonce: from.nonce + 1, ..*from }, false);
    let mut court = Court::with(Duration::from_secs(2), 100);
    court.tip(2);
    court.pass(2);
    let first = mined(&job, roll(0), false);
    assert!(accepted(court.check(&job, first)).credited());
    let second = next(&first);
    court.now += Duration::from_millis(1);
    assert!(matches!(court.check(&job, second).outcome, Outcome::Stale(_)));
    let mut court = Court::with(Duration::from_secs(2), 100);
    court.tip(2);
    court.tip(3);
    assert!(matches!(court.check(&job, second).outcome, Outcome::Stale(_)));
}

#[test]
fn m15_a_job_superseded_for_two_minutes_earns_nothing() {
    let mut court = Court::new();
    let job = Job { superseded_at: Some(court.now), ..job(HARD_NBITS, -32) };
    court.pass(120);
    let first = mined(&job, roll(0), false);
    assert!(accepted(court.check(&job, first)).credited());
    court.now += Duration::from_millis(1);
    let second = mined(&job, roll(first.nonce + 1), false);
    assert!(matches!(court.check(&job, second).outcome, Outcome::Stale(_)));
}

#[test]
fn before_the_first_tip_everything_is_stale() {
    let (mut judge, job) = (Judge::new(Duration::from_secs(2)), job(REGTEST_NBITS, -32));
    let share = pending(&job, mined(&job, roll(0), true), Ok(()));
    let verdict = judge.check(share, Instant::now(), UNIX_MS);
    refused_block(verdict, Reject::Stale);
}

#[test]
fn m04_a_full_duplicate_set_refuses_and_forgets_nothing() {
    let (mut court, job) = (Court::with(Duration::ZERO, 2), job(HARD_NBITS, -32));
    let first = mined(&job, roll(0), false);
    let second = mined(&job, roll(first.nonce + 1), false);
    let third = mined(&job, roll(second.nonce + 1), false);
    let kept = accepted(court.check(&job, first));
    accepted(court.check(&job, second));
    assert_eq!(rejected(&court.check(&job, third)), Reject::DuplicateSetFull);
    assert_eq!(rejected(&court.check(&job, first)), Reject::Duplicate);
    // A share whose commit failed makes room and may come again.
    court.judge.forget(&kept);
    accepted(court.check(&job, first));
    assert_eq!(rejected(&court.check(&job, third)), Reject::DuplicateSetFull);
    // Another tip has room of its own.
    court.tip(2);
    let mut body = sample::body(HARD_NBITS);
    body.prev_hash = sample::prev_hash(2);
    let next = Job { body: Arc::new(body), ..job.clone() };
    accepted(court.check(&next, mined(&next, third, false)));
}

#[test]
fn rejected_shares_leave_no_trace_in_the_duplicate_set() {
    let (mut court, job) = (Court::new(), job(HARD_NBITS, -32));
    let good = mined(&job, roll(0), false);
    assert_eq!(rejected(&court.check_for(&job, good, Err(Reject::Unauthorized))), Reject::Unauthorized);
    accepted(court.check(&job, good));
}

/// The header by rust-bitcoin's types: the transaction is taken apart and its script written anew.
fn oracle(job: &Job, roll: &Roll) -> block::Header {
    let mut coinbase: Transaction = bitcoin::consensus::deserialize(job.body.coinbase.bytes()).unwrap();
    let mut script = vec![0x03, 0xa0, 0xbb, 0x0d, 25];
    script.extend(job.tag.0);
    script.extend(job.pot.get().to_be_bytes());
    script.extend([0x51, 0x17, 0xe9, 0x0c]);
    script.extend(roll.extranonce1.0);
    script.extend(roll.extranonce2.as_bytes());
    script.extend(b"/sluice/");
    coinbase.input[0].script_sig = ScriptBuf::from_bytes(script);
    let root = job.body.merkle_branch.iter().fold(coinbase.compute_txid().to_raw_hash(), |left, right| {
        sha256d::Hash::hash(&[&left.to_byte_array()[..], &right[..]].concat())
    });
    block::Header {
        version: block::Version::from_consensus(i32::from_be_bytes(roll.version.to_be_bytes())),
        prev_blockhash: job.body.prev_hash,
        merkle_root: TxMerkleNode::from_raw_hash(root),
        time: roll.ntime,
        bits: CompactTarget::from_consensus(job.body.nbits),
        nonce: roll.nonce,
    }
}

proptest! {
    #[test]
    fn the_judgement_agrees_with_rust_bitcoin(
        branch in proptest::collection::vec(any::<[u8; 32]>(), 0..14),
        pot in -32_i8..-24,
        extranonce2: [u8; 8],
        version: u32,
        nonce: u32,
        ntime in UNIX_S - 700..UNIX_S + 8000,
        easy: bool,
    ) {
        let mut body = sample::body(if easy { REGTEST_NBITS } else { 0x1f00_ffff });
        body.merkle_branch = branch;
        let job = Job { body: Arc::new(body), ..job(HARD_NBITS, pot) };
        let roll = Roll { extranonce2: Extranonce2::from(extranonce2), version, nonce, ntime, ..roll(0) };
        let header = oracle(&job, &roll);
        let hash = header.block_hash();
        prop_assert_eq!(job.header(&roll).to_vec(), bitcoin::consensus::serialize(&header));
        let verdict = Court::new().check(&job, roll);
        prop_assert_eq!(verdict.block.is_some(), header.target().is_met_by(hash));
        // Difficulty 1 shifted by the pot, as rust-bitcoin counts it.
        let pot_is_met =
            bitcoin::Target::from_le_bytes(job.pot.target().value().to_le_bytes()).is_met_by(hash);
        let expected = if !(UNIX_S - 600..=UNIX_S + 7200).contains(&ntime) {
            Some(Reject::BadNtime)
        } else if !pot_is_met {
            Some(Reject::LowDifficulty)
        } else {
            None
        };
        match (verdict.outcome, expected) {
            (Outcome::Accepted(share), None) => prop_assert_eq!(share.hash(), hash),
            (Outcome::RefusedBlock(share, reject), Some(expected)) => {
                prop_assert_eq!((share.hash(), reject), (hash, expected));
                prop_assert!(pot_is_met && header.target().is_met_by(hash));
            }
            (Outcome::Rejected(reject), Some(expected)) => {
                prop_assert_eq!(reject, expected);
                prop_assert!(!pot_is_met || verdict.block.is_none());
            }
            (outcome, expected) => prop_assert!(false, "{outcome:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn m02_no_header_is_credited_twice_however_connections_come_and_go(
        steps in proptest::collection::vec((0_u8..4, any::<prop::sample::Index>(), 0_u32..3, 0_u64..90), 1..120)
    ) {
        let rest = SUPERSEDED_MAX;
        let (mut court, job) = (Court::with(Duration::ZERO, 10_000), job(HARD_NBITS, -32));
        // Few prefixes, so that they are leased again and again.
        let mut prefixes = crate::extranonce::PrefixAllocator::with_limit(0, rest, 3);
        let mut open: Vec<Extranonce1> = Vec::new();
        let mut credited = HashSet::new();
        for (kind, which, nonce, seconds) in steps {
            match kind {
                0 => open.extend(prefixes.allocate(court.now)),
                1 if !open.is_empty() => {
                    let prefix = open.swap_remove(which.index(open.len()));
                    prefixes.free(prefix, court.now);
                    court.pass(seconds);
                }
                // Everybody sends what anybody else has sent.
                _ => for extranonce1 in &open {
                    let roll = Roll { extranonce1: *extranonce1, ..roll(nonce) };
                    let header = sha256d::Hash::hash(&job.header(&roll));
                    match court.check(&job, roll).outcome {
                        Outcome::Accepted(_) => prop_assert!(credited.insert(header)),
                        Outcome::Rejected(Reject::Duplicate) => prop_assert!(credited.contains(&header)),
                        Outcome::Rejected(Reject::LowDifficulty) => prop_assert!(!credited.contains(&header)),
                        other => prop_assert!(false, "{other:?}"),
                    }
                },
            }
        }
    }

    #[test]
    fn m01_no_sequence_of_replays_is_credited_twice(
        steps in proptest::collection::vec((0_u32..6, 1_u8..8, any::<bool>()), 1..80)
    ) {
        let mut court = Court::new();
        let jobs: Vec<_> = (1..8).map(|seed| {
            let mut body = sample::body(HARD_NBITS);
            body.prev_hash = sample::prev_hash(seed);
            Job { body: Arc::new(body), ..job(HARD_NBITS, -32) }
        }).collect();
        let mut credited = HashSet::new();
        for (nonce, tip, move_tip) in steps {
            if move_tip {
                court.tip(tip);
            }
            let job = &jobs[usize::from(tip) - 1];
            if let Outcome::Accepted(share) = court.check(job, roll(nonce)).outcome {
                prop_assert_eq!(job.body.prev_hash, court.judge.tip());
                prop_assert!(credited.insert(share.hash()));
            }
        }
    }
}

#[test]
fn every_reject_has_a_label_of_its_own() {
    let all = Reject::ALL;
    assert_eq!(all.map(Reject::label).into_iter().collect::<HashSet<_>>().len(), all.len());
    assert!(Target::MAX.is_met_by(&[0xff; 32]));
}

#[test]
fn solo_jobs_earn_nothing_once_shared_work_is_out() {
    let mut body = sample::body(HARD_NBITS);
    let basis = Basis::Solo { script: sample::payee().script.clone(), log_size: 0 };
    body.payout = Arc::new(crate::job::Payout { outputs: body.payout.outputs.clone(), basis });
    let (mut court, job) = (Court::new(), Job { body: Arc::new(body), ..job(HARD_NBITS, -32) });
    accepted(court.check(&job, roll(1)));
    court.judge.end_solo(court.now);
    court.pass(SOLO_AFTER_MAX.as_secs());
    accepted(court.check(&job, roll(2)));
    court.judge.end_solo(court.now);
    court.pass(1);
    assert!(matches!(court.check(&job, roll(3)).outcome, Outcome::Stale(_)));
}
