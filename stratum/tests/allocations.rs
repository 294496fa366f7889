//! What a share allocates on its way: nothing. A program of its own, for it counts what the whole process allocates.
#![allow(clippy::unwrap_used, reason = "a test, but not inside of a test function")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use stratum::extranonce::Extranonce1;
use stratum::job::{Coinbase, Job, JobId, Roll};
use stratum::pot::Pot;
use stratum::session::Action;
use stratum::share::{Judge, Outcome, PendingShare, Verdict};
use stratum::v1::server::{Session, Settings, Users};

#[path = "../src/sample.rs"]
mod sample;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Judged together.
const TOGETHER: u32 = 64;
const UNIX_MS: u64 = sample::UNIX_S as u64 * 1_000; // widening

/// A judge and what it is fed with; all of it is kept from one call to the next.
struct Road {
    judge: Judge,
    shares: Vec<PendingShare>,
    verdicts: Vec<Verdict>,
    now: Instant,
}

impl Road {
    fn new() -> Self {
        let now = Instant::now();
        let mut judge = Judge::new(Duration::ZERO);
        judge.new_tip(sample::prev_hash(1), now);
        Self { judge, shares: Vec::new(), verdicts: Vec::new(), now }
    }

    /// Judges what waits; how many were accepted.
    fn judge(&mut self) -> usize {
        self.judge.check_all(&mut self.shares, self.now, UNIX_MS, &mut self.verdicts);
        self.verdicts.drain(..).filter(|verdict| matches!(verdict.outcome, Outcome::Accepted(_))).count()
    }
}

/// Two sizes of coinbase.
fn jobs(pot: Pot) -> [Job; 2] {
    [0, 3_000].map(|more| {
        let mut body = sample::body(sample::HARD_NBITS);
        let bytes = [&body.coinbase.bytes()[..], &vec![0; more]].concat();
        body.coinbase = Coinbase::new(bytes.into(), body.coinbase.tag_offset());
        Job { body: Arc::new(body), tag: sample::payee().tag, pot, superseded_at: None }
    })
}

/// Blocks on the heap that `work` has allocated.
fn allocated(work: impl FnOnce()) -> u64 {
    let before = dhat::HeapStats::get().total_blocks;
    work();
    dhat::HeapStats::get().total_blocks - before
}

/// Gives the judge shares of several miners and of both jobs, some of which roll the header alone.
fn give(road: &mut Road, jobs: &[Job; 2], first: u32) {
    let payee = sample::payee();
    for number in first..first + TOGETHER {
        let which = number as usize % 2;
        let extranonce1 = Extranonce1((number % 8).to_le_bytes());
        let extranonce2 = u64::from(number / 16).to_le_bytes().into();
        let roll =
            Roll { extranonce1, extranonce2, ntime: sample::UNIX_S, nonce: number, version: 0x2000_0000 };
        road.shares.push(PendingShare::new(JobId(which as u32), jobs[which].clone(), roll, payee.clone()));
    }
}

/// One test, for all of it counts in one process.
#[test]
fn a_share_allocates_nothing_on_its_way_and_is_remembered_in_40_bytes() {
    let _profiler = dhat::Profiler::builder().testing().build();

    // Shares that are no good.
    let mut road = Road::new();
    let hard = jobs(Pot::MAX);
    give(&mut road, &hard, 0);
    assert_eq!(road.judge(), 0);
    give(&mut road, &hard, TOGETHER);
    assert_eq!(allocated(|| assert_eq!(road.judge(), 0)), 0, "worthless shares");

    // Good ones: now and then a shelf of the duplicate set grows.
    let easy = jobs(Pot::MIN);
    let (mut accepted, mut blocks, mut given) = (0, 0, 2 * TOGETHER);
    let before = dhat::HeapStats::get().curr_bytes;
    for shares in [1_000, 10_000, 100_000, 300_000] {
        while accepted < shares {
            give(&mut road, &easy, given);
            given += TOGETHER;
            blocks += allocated(|| accepted += road.judge());
        }
        let held = dhat::HeapStats::get().curr_bytes - before;
        assert!(held <= 40 * accepted, "{held} bytes for {accepted} shares");
    }
    // 256 shelves that have grown from nothing to 2,048 places, and what was kept from call to call.
    assert!(blocks <= 256 * 11 + 64, "{blocks} allocations for {accepted} shares");

    // From the wire on: lines of a V1 machine. Its answers are text, so they are not in this.
    let settings = Settings {
        users: Users::Anyone,
        pot_start: Pot::MAX,
        pot_min: Pot::MAX,
        ..Settings::new(bitcoin::Network::Bitcoin)
    };
    let mut session = Session::new(Arc::new(settings), sample::PREFIX, 1, road.now);
    let mut actions = Vec::new();
    for line in [
        r#"{"id":1,"method":"mining.subscribe","params":["bosminer"]}"#,
        r#"{"id":2,"method":"mining.authorize","params":["rig.1","x"]}"#,
    ] {
        session.receive(format!("{line}\n").as_bytes(), road.now, &mut actions).unwrap();
    }
    session.work(&sample::encoded(sample::body(sample::HARD_NBITS)), road.now, &mut actions);
    let mut send = |nonce: u32, road: &mut Road| {
        let line = format!(
            r#"{{"params":["rig.1","1","0000000000000001","{:08x}","{nonce:08x}"],"id":7,"method":"mining.submit"}}"#,
            sample::UNIX_S
        ) + "\n";
        actions.clear();
        let blocks = allocated(|| session.receive(line.as_bytes(), road.now, &mut actions).unwrap());
        let Some(Action::Share { ticket, share }) = actions.pop() else { panic!("{line}: {actions:?}") };
        road.shares.push(share);
        let judged = allocated(|| assert_eq!(road.judge(), 0));
        session.answer(ticket, Err(stratum::share::Reject::LowDifficulty));
        session.flush(&mut actions);
        blocks + judged
    };
    for nonce in 0..4 {
        send(nonce, &mut road);
    }
    for nonce in 4..100 {
        assert_eq!(send(nonce, &mut road), 0, "share {nonce} of a V1 machine");
    }
}
