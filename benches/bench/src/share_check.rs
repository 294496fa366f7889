//! `share_check`: what it costs to judge a share, from what its miner rolled to a verdict.
//!
//! Ours is [`Judge::check_all`] with everything in it: coinbase, 12 merkle branches, header, policy, duplicates. Beside it
//! `validate_share` of `channels_sv2`, with the same coinbase, branches and shares, its own duplicates and counts in it,
//! one share at a time, for it knows no other way; and the `bitcoin` crate, which hashes and compares and no more.

use crate::measure::{Figures, Side, in_turns};
use crate::report::{Report, Row, count, times};
use crate::twins::{Rolls, Twins, rolled};
use channels_sv2::server::share_accounting::{ShareValidationError, ShareValidationResult};
use std::hint::black_box;
use std::time::Instant;
use stratum::pot::Pot;
use stratum::share::{Judge, Outcome, PendingShare, Reject, Verdict};

/// The benchmark's name.
pub const NAME: &str = "share_check";
/// The other implementation.
const PEER: &str = "channels_sv2 8.0.0 validate_share";
/// The yardstick without bookkeeping.
const PLAIN: &str = "bitcoin crate, hash and compare only";
/// Bytes of the whole stripped coinbase: a few payees, a hundred, a thousand.
const COINBASE_BYTES: [usize; 3] = [250, 3_250, 31_150];
const BRANCHES: usize = 12;
/// Shares that are judged together.
const TOGETHER: [usize; 4] = [1, 2, 4, 16];
/// Shares of each kind whose verdicts are compared before anything is timed.
const COMPARED: u32 = 64;
const UNIT: &str = "us per share";

/// A way that all shares of a measurement go.
#[derive(Clone, Copy)]
struct Case {
    coinbase_bytes: usize,
    rolls: Rolls,
    accepted: bool,
    together: usize,
}

impl Case {
    fn name(self) -> String {
        let root = if self.rolls == Rolls::Nonce { "same root" } else { "cold" };
        let verdict = if self.accepted { "accepted" } else { "low difficulty" };
        let bytes = count(self.coinbase_bytes);
        format!("{bytes} B coinbase, {root}, {verdict}, {} at a time", self.together)
    }

    /// The share that a pool sees nearly always.
    fn is_usual(self) -> bool {
        self.rolls == Rolls::Extranonce && self.accepted
    }

    /// Whether it goes into the README.
    fn is_shown(self) -> bool {
        let at_250 = self.accepted && self.coinbase_bytes == COINBASE_BYTES[0];
        (self.is_usual() || at_250) && matches!(self.together, 1 | 4)
    }

    fn twins(self) -> Twins {
        let branch: [[u8; 32]; BRANCHES] = std::array::from_fn(|at| [at.to_le_bytes()[0]; 32]);
        let hard = Pot::try_from(40).expect("a pot");
        Twins::new(self.coinbase_bytes, &branch, if self.accepted { Pot::MIN } else { hard })
    }
}

/// Judges shares that wait together, in their order.
fn judge_all(judge: &mut Judge, shares: &mut Vec<PendingShare>, now: Instant, verdicts: &mut Vec<Verdict>) {
    judge.check_all(shares, now, crate::work::UNIX_MS, verdicts);
}

/// Measures all cases.
///
/// # Errors
/// None.
pub fn run() -> anyhow::Result<Report> {
    let mut rows = Vec::new();
    let mut gist = Vec::new();
    for case in cases() {
        compare(case);
        let figures = measure(case);
        let row = row(case, &figures);
        if case.is_usual() && case.together == 1 {
            rows.push(plain_row(case, &figures));
        }
        if case.is_usual() && case.coinbase_bytes == COINBASE_BYTES[0] && matches!(case.together, 1 | 4) {
            gist.push((row.ours, times(figures.ratio(1))));
        }
        rows.push(if case.is_shown() { row.headline() } else { row });
    }
    let [(one, one_ratio), (four, four_ratio)] = &gist[..] else { unreachable!("both are among the cases") };
    let summary =
        format!("{one:.2} us inline, {four:.2} us at four lanes, {one_ratio} / {four_ratio} the reference");
    Ok(Report::new(NAME, rows, summary))
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for coinbase_bytes in COINBASE_BYTES {
        for rolls in [Rolls::Extranonce, Rolls::Nonce] {
            for accepted in [true, false] {
                let case = |together| Case { coinbase_bytes, rolls, accepted, together };
                cases.extend(TOGETHER.map(case));
            }
        }
    }
    cases
}

fn row(case: Case, figures: &Figures) -> Row {
    let us = |side| figures.ns(side) / 1_000.0 / case.together as f64;
    Row::new(format!("share, {}", case.name()), UNIT, us(0)).beside(PEER, us(1), figures.ratio(1))
}

fn plain_row(case: Case, figures: &Figures) -> Row {
    let us = |side| figures.ns(side) / 1_000.0;
    Row::new(format!("share, {}", case.name()), UNIT, us(0)).beside(PLAIN, us(2), figures.ratio(2))
}

/// Both sides, and the plain hash too, say the same of the same shares.
fn compare(case: Case) {
    let mut twins = case.twins();
    let (ours, theirs, plain) = (twins.ours(case.rolls), twins.theirs(case.rolls), twins.plain());
    // One that was sent before at the end: that must be seen on both sides.
    let all: Vec<u32> = (0..COMPARED).chain([0]).collect();
    let mut verdicts = Vec::new();
    for nths in all.chunks(case.together) {
        let mut shares = nths.iter().copied().map(&ours).collect();
        judge_all(&mut twins.judge, &mut shares, twins.now, &mut verdicts);
    }
    assert_eq!(verdicts.len(), all.len(), "each share has a verdict");
    for (place, (nth, verdict)) in (0..).zip(all.into_iter().zip(verdicts)) {
        let again = place == COMPARED && case.accepted;
        let (extranonce2, nonce) = rolled(case.rolls, nth);
        let (hash, met) = plain(extranonce2, nonce);
        assert_eq!(met, case.accepted, "{}", case.name());
        assert!(verdict.block.is_none(), "the network target is hard");
        match (verdict.outcome, twins.channel.validate_share(theirs(nth))) {
            (Outcome::Accepted(share), Ok(ShareValidationResult::Valid(their_hash))) => {
                assert!(case.accepted && !again, "{}", case.name());
                assert_eq!((share.hash(), hash.to_raw_hash()), (hash, their_hash));
            }
            (Outcome::Rejected(Reject::Duplicate), Err(ShareValidationError::DuplicateShare(_))) => {
                assert!(again, "{}", case.name());
            }
            (Outcome::Rejected(Reject::LowDifficulty), Err(ShareValidationError::DoesNotMeetTarget(_))) => {
                assert!(!case.accepted, "{}", case.name());
            }
            (ours, theirs) => panic!("{}: ours {ours:?}, theirs {theirs:?}", case.name()),
        }
    }
}

/// Ours, theirs, and the plain hash, for as many shares each as are judged together.
fn measure(case: Case) -> Figures {
    let twins = case.twins();
    let (ours, theirs, plain) = (twins.ours(case.rolls), twins.theirs(case.rolls), twins.plain());
    let Twins { mut judge, mut channel, now, .. } = twins;
    let together = case.together;
    let (mut our_next, mut their_next, mut plain_next) = (0..u32::MAX, 0..u32::MAX, 0..u32::MAX);
    let mut verdicts = Vec::new();
    let ours = Side::new(
        move |items| {
            let batch = |_| our_next.by_ref().take(together).map(&ours).collect();
            (0..items).map(batch).collect::<Vec<Vec<PendingShare>>>()
        },
        move |batches| {
            for batch in batches {
                judge_all(&mut judge, batch, now, &mut verdicts);
                black_box(&verdicts);
                verdicts.clear();
            }
        },
    );
    let theirs = Side::new(
        move |items| their_next.by_ref().take(items * together).map(&theirs).collect::<Vec<_>>(),
        move |shares| {
            for share in shares.drain(..) {
                // Dropped here, as our verdicts are.
                let _ = black_box(channel.validate_share(share));
            }
        },
    );
    let plain = Side::new(
        move |items| plain_next.by_ref().take(items * together).collect::<Vec<_>>(),
        move |shares| {
            for nth in shares.drain(..) {
                let (extranonce2, nonce) = rolled(case.rolls, nth);
                black_box(plain(extranonce2, nonce));
            }
        },
    );
    in_turns(if case.is_usual() && together == 1 { vec![ours, theirs, plain] } else { vec![ours, theirs] })
}
