//! `dedup`: the set of shares that were sent before, when it is small, large and full.
//!
//! The set is private to the judge, so the figures are of whole checks, a thousand at a time, of shares with the smallest
//! coinbase and no merkle branch, of which the nonce alone is rolled; on the average from the empty set on. What all but
//! the set takes of that is measured beside: shares that meet no target, with nothing to look up. Each size runs in a
//! process of its own: bytes are the growth of its resident memory, which allocators that remember earlier sizes would
//! hide. Worst is the CPU time of the slowest single share: where the set grows at once, one share pays for all.
//!
//! Beside it the set of `channels_sv2`, which there belongs to a channel and is told the hash; at its own bound of 2^20
//! its channel is to be closed, here it is let on.

use crate::measure::thread_cpu;
use crate::report::{Report, Row, count, figure};
use crate::{machine, work};
use anyhow::{Context, ensure};
use bitcoin::BlockHash;
use bitcoin::hashes::{Hash, sha256d};
use channels_sv2::server::share_accounting::ShareAccounting;
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stratum::job::Job;
use stratum::payee::Payee;
use stratum::pot::Pot;
use stratum::share::{Judge, Outcome, PendingShare, Reject};

/// The benchmark's name.
pub const NAME: &str = "dedup";
/// First argument of the process that measures one size.
pub const CHILD: &str = "dedup-child";
const PEER: &str = "channels_sv2 8.0.0 ShareAccounting";
/// Shares in the set.
const SIZES: [u32; 3] = [100_000, 1_000_000, 10_000_000];
/// Shares that are prepared before they are judged.
const BLOCK: u32 = 1_000;
/// Shares that are sent again.
const AGAIN: u32 = 100_000;

/// What one process found.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    insert_ns: f64,
    again_ns: f64,
    other_ns: f64,
    worst_us: f64,
    bytes: f64,
    their_worst_us: f64,
    their_bytes: f64,
}

/// Measures all sizes.
///
/// # Errors
/// A process cannot be started, or fails.
pub fn run() -> anyhow::Result<Report> {
    let mut rows = Vec::new();
    let mut summary = String::new();
    for size in SIZES {
        let ours: Found = child("ours", size)?;
        let theirs: Found = child("theirs", size)?;
        let (worst, their_worst) = (ours.worst_us, theirs.their_worst_us);
        let (bytes, their_bytes) = (ours.bytes, theirs.their_bytes);
        let at = count(size as usize);
        rows.extend([
            Row::new(format!("{at} shares, one after the other"), "ns per share", ours.insert_ns),
            Row::new(format!("{at} shares, one sent again"), "ns per share", ours.again_ns),
            Row::new(format!("{at} shares, what is not the set in these"), "ns per share", ours.other_ns),
            Row::new(format!("{at} shares, the slowest single one"), "us", worst).beside(
                PEER,
                their_worst,
                their_worst / worst,
            ),
        ]);
        let memory = Row::new(format!("{at} shares remembered, memory"), "bytes per share", bytes).beside(
            PEER,
            their_bytes,
            their_bytes / bytes,
        );
        rows.push(if size == SIZES[2] { memory.headline() } else { memory });
        summary = format!(
            "{at} shares at {} ns, {} us the slowest, {} bytes each",
            figure(ours.insert_ns),
            figure(worst),
            figure(bytes)
        );
    }
    Ok(Report::new(NAME, rows, summary))
}

/// Measures one side at one size in a fresh process.
fn child(side: &str, size: u32) -> anyhow::Result<Found> {
    let program = std::env::current_exe().context("this program's own path is unknown")?;
    let output = Command::new(program).args([CHILD, side, &size.to_string()]).output()?;
    ensure!(output.status.success(), "{side} at {size}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The process that measures one size; writes what it found to standard output.
///
/// # Errors
/// The arguments are not those that [`run`] gives.
#[expect(clippy::print_stdout, reason = "the figures are for the process that started this one")]
pub fn run_child(arguments: &[String]) -> anyhow::Result<()> {
    let [side, size] = arguments else { anyhow::bail!("{CHILD} wants a side and a size") };
    let size: u32 = size.parse()?;
    let mut found = Found {
        insert_ns: 0.0,
        again_ns: 0.0,
        other_ns: 0.0,
        worst_us: 0.0,
        bytes: 0.0,
        their_worst_us: 0.0,
        their_bytes: 0.0,
    };
    if side == "ours" {
        ours(size, &mut found)?
    } else {
        theirs(size, &mut found)?
    }
    println!("{}", serde_json::to_string(&found)?);
    Ok(())
}

/// A judge, and shares for it.
struct Bench {
    judge: Judge,
    job: Job,
    payee: Arc<Payee>,
    now: Instant,
}

impl Bench {
    fn new(pot: Pot) -> Self {
        let payee = work::payee("rig1");
        let job = work::job(&work::body(work::small_coinbase(), Vec::new()), &payee, pot);
        let now = Instant::now();
        let mut judge = Judge::new(Duration::ZERO);
        judge.new_tip(BlockHash::from_byte_array(work::PREV_HASH), now);
        Self { judge, job, payee, now }
    }

    fn share(&self, nonce: u32) -> PendingShare {
        work::share(&self.job, &self.payee, work::roll(0, nonce))
    }

    /// CPU time of judging these shares, and how many of them were accepted and duplicates.
    fn judge(&mut self, nonces: impl Iterator<Item = u32>) -> (Duration, u32, u32) {
        let mut shares: Vec<PendingShare> = nonces.map(|nonce| self.share(nonce)).collect();
        let mut verdicts = Vec::with_capacity(shares.len());
        let (mut accepted, mut duplicates) = (0, 0);
        let before = thread_cpu();
        self.judge.check_all(&mut shares, self.now, work::UNIX_MS, &mut verdicts);
        for verdict in black_box(verdicts) {
            match verdict.outcome {
                Outcome::Accepted(_) => accepted += 1,
                Outcome::Rejected(Reject::Duplicate) => duplicates += 1,
                _ => {}
            }
        }
        (thread_cpu() - before, accepted, duplicates)
    }
}

fn ns(took: Duration, items: u32) -> f64 {
    took.as_secs_f64() * 1e9 / f64::from(items)
}

fn ours(size: u32, found: &mut Found) -> anyhow::Result<()> {
    let mut bench = Bench::new(Pot::MIN);
    // The first block brings in what is allocated once.
    let (_, accepted, _) = Bench::new(Pot::MIN).judge(0..BLOCK);
    ensure!(accepted > BLOCK - 10, "nearly every hash meets the lowest pot");
    let before = machine::resident_bytes().context("no /proc")?;
    let (mut took, mut accepted) = (Duration::ZERO, 0);
    for block in 0..size / BLOCK {
        let (part, good, duplicates) = bench.judge(block * BLOCK..(block + 1) * BLOCK);
        ensure!(duplicates == 0, "no share was sent before");
        took += part;
        accepted += good;
    }
    let after = machine::resident_bytes().context("no /proc")?;
    found.insert_ns = ns(took, size);
    found.bytes = after.saturating_sub(before) as f64 / f64::from(accepted);

    let (mut took, mut duplicates) = (Duration::ZERO, 0);
    let step = size / AGAIN;
    for block in 0..AGAIN / BLOCK {
        let (part, _, again) = bench.judge((block * BLOCK..(block + 1) * BLOCK).map(|nth| nth * step));
        took += part;
        duplicates += again;
    }
    ensure!(duplicates > AGAIN - AGAIN / 1_000, "those were sent before");
    found.again_ns = ns(took, AGAIN);
    drop(bench);

    let mut hopeless = Bench::new(Pot::try_from(40)?);
    let block = |block| hopeless.judge(block * BLOCK..(block + 1) * BLOCK).0;
    found.other_ns = ns((0..AGAIN / BLOCK).map(block).sum(), AGAIN);

    let mut bench = Bench::new(Pot::MIN);
    let mut worst = Duration::ZERO;
    for nonce in 0..size {
        worst = worst.max(bench.judge(std::iter::once(nonce)).0);
    }
    found.worst_us = worst.as_secs_f64() * 1e6;
    Ok(())
}

fn theirs(size: u32, found: &mut Found) -> anyhow::Result<()> {
    let hash = |nonce: u32| sha256d::Hash::hash(&nonce.to_le_bytes());
    let fill = |shares: &mut ShareAccounting| {
        let mut worst = Duration::ZERO;
        for nonce in 0..size {
            let hash = hash(nonce);
            let before = thread_cpu();
            if !shares.is_share_seen(hash) {
                shares.update_share_accounting(1.0, nonce, hash);
            }
            worst = worst.max(thread_cpu() - before);
        }
        worst
    };
    let before = machine::resident_bytes().context("no /proc")?;
    let mut shares = ShareAccounting::new(1, usize::MAX);
    found.their_worst_us = fill(&mut shares).as_secs_f64() * 1e6;
    let after = machine::resident_bytes().context("no /proc")?;
    ensure!(shares.get_shares_accepted() == size, "all are new");
    ensure!(shares.is_share_seen(hash(size / 2)) && !shares.is_share_seen(hash(size)), "they are remembered");
    found.their_bytes = after.saturating_sub(before) as f64 / f64::from(size);
    Ok(())
}
