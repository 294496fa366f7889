//! `log_append`: what it takes to make shares durable, on the disk under `target`.
//!
//! Ours is the pool's own way: a batch of judged shares to the accounting thread, until it says that they are durable.
//! One batch is under way at a time, as from one shard. In it: encoding, checksums, the write, `fdatasync`, the window,
//! and the way to the thread and back. Beside it the floor, in turns: as many bytes written to a plain file, and
//! `fdatasync`. CPU time is that of the whole process.

use crate::measure::{median, process_cpu, quantile};
use crate::report::{Report, Row, count, figure};
use crate::work;
use anyhow::{Context, ensure};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network, ScriptBuf};
use share_accounting::accounting::{Accounting, Batch, CommitError, Settings};
use share_accounting::entry::Params;
use share_accounting::log::append::SEGMENT_BYTES_DEFAULT;
use share_accounting::payout;
use share_accounting::publish::Logged;
use share_accounting::window::Span;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};
use stratum::job::JobBody;
use stratum::payee::Payee;
use stratum::pot::Pot;
use stratum::share::{Judge, JudgedShare, Outcome};

/// The benchmark's name.
pub const NAME: &str = "log_append";
const FLOOR: &str = "as many bytes, write and fdatasync";
/// Shares of a batch, and batches that are committed.
const BATCHES: [(usize, usize); 4] = [(1, 400), (64, 200), (1_024, 80), (8_192, 30)];
/// Workers of the one payee.
pub const WORKERS: usize = 1_000;

/// Judges made-up shares: only so they may enter the log.
pub struct Miner {
    judge: Judge,
    body: Arc<JobBody>,
    payees: Vec<Arc<Payee>>,
    now: Instant,
    nonce: u32,
}

impl Miner {
    /// Works on a job.
    pub fn of(body: Arc<JobBody>) -> Self {
        let now = Instant::now();
        let mut judge = Judge::new(Duration::ZERO);
        judge.new_tip(BlockHash::from_byte_array(work::PREV_HASH), now);
        let payees = (0..WORKERS).map(|nth| work::payee(&format!("rig{nth}"))).collect();
        Self { judge, body, payees, now, nonce: 0 }
    }

    /// The next shares.
    pub fn shares(&mut self, count: usize) -> Vec<JudgedShare> {
        let mut shares = Vec::with_capacity(count);
        while shares.len() < count {
            self.nonce += 1;
            let payee = &self.payees[self.nonce as usize % WORKERS];
            let job = work::job(&self.body, payee, Pot::MIN);
            let share = work::share(&job, payee, work::roll(u64::from(self.nonce), self.nonce));
            if let Outcome::Accepted(share) = self.judge.check(share, self.now, work::UNIX_MS).outcome {
                shares.push(share);
            }
        }
        shares
    }
}

/// Of batches of one size, what each took.
#[derive(Default)]
struct Took {
    ours_s: Vec<f64>,
    floor_s: Vec<f64>,
    cpu: Duration,
    floor_cpu: Duration,
}

impl Took {
    /// How many times as long as ours the floor takes.
    fn ratio(&self) -> f64 {
        median(self.floor_s.iter().zip(&self.ours_s).map(|(floor, ours)| floor / ours).collect())
    }
}

/// Measures all batch sizes.
///
/// # Errors
/// The disk does not take what is written, or a commit fails.
pub fn run() -> anyhow::Result<Report> {
    fs::create_dir_all("target").context("cannot create target")?;
    let folder = tempfile::tempdir_in("target").context("cannot create a folder under target")?;
    let (accounting, thread) = Accounting::open(settings(folder.path()))?;
    let log = folder.path().join("log");
    let plain = folder.path().join("plain");
    let mut plain = OpenOptions::new().create_new(true).append(true).open(plain)?;
    let mut miner = Miner::of(work::body(work::small_coinbase(), vec![[3; 32]; 12]));
    // Payees and the job are logged with their first shares.
    commit(&accounting, miner.shares(WORKERS))?;

    let mut rows = Vec::new();
    let mut summary = String::new();
    for (shares, batches) in BATCHES {
        let before = bytes(&log)?;
        commit(&accounting, miner.shares(shares))?;
        let bytes = bytes(&log)? - before;
        let took = measure(&accounting, &mut plain, &mut miner, shares, batches, bytes)?;
        let rate = |seconds: &[f64]| shares as f64 / median(seconds.to_vec());
        let (ours, floor) = (rate(&took.ours_s), rate(&took.floor_s));
        let row = Row::new(format!("durable shares, {} in a batch", count(shares)), "shares/s", ours).beside(
            FLOOR,
            floor,
            took.ratio(),
        );
        rows.push(if shares == 1_024 { row.headline() } else { row });
        let us = |cpu: Duration| cpu.as_secs_f64() * 1e6 / (shares * batches) as f64;
        let (cpu, floor_cpu) = (us(took.cpu), us(took.floor_cpu));
        let row = Row::new(format!("CPU, {} in a batch", count(shares)), "us per share", cpu);
        rows.push(row.beside(FLOOR, floor_cpu, floor_cpu / cpu));
        let each = bytes as f64 / shares as f64;
        rows.push(Row::new(format!("log, {} in a batch", count(shares)), "bytes per share", each));
        if shares == 1 {
            let at = |part, times: &[f64]| quantile(times.to_vec(), part) * 1e3;
            for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
                let (ours, floor) = (at(part, &took.ours_s), at(part, &took.floor_s));
                let row = Row::new(format!("a lone share until it is durable, {name}"), "ms", ours).beside(
                    FLOOR,
                    floor,
                    floor / ours,
                );
                rows.push(if name == "p50" { row.headline() } else { row });
                summary.push_str(&format!("a lone share {name} {} ms, ", figure(ours)));
            }
        }
        if shares == 1_024 {
            summary.push_str(&format!("{} shares/s in batches of 1,024", figure(ours)));
        }
    }
    thread.stop().map_err(|_| anyhow::anyhow!("the accounting thread has panicked"))?;
    Ok(Report::new(NAME, rows, summary))
}

fn measure(
    accounting: &Accounting,
    plain: &mut File,
    miner: &mut Miner,
    shares: usize,
    batches: usize,
    bytes: u64,
) -> anyhow::Result<Took> {
    let mut took = Took::default();
    let same = vec![0x5a; usize::try_from(bytes)?];
    for _ in 0..batches {
        let batch = miner.shares(shares);
        let (cpu, start) = (process_cpu(), Instant::now());
        commit(accounting, batch)?;
        took.ours_s.push(start.elapsed().as_secs_f64());
        took.cpu += process_cpu() - cpu;
        let (cpu, start) = (process_cpu(), Instant::now());
        plain.write_all(&same)?;
        plain.sync_data()?;
        took.floor_s.push(start.elapsed().as_secs_f64());
        took.floor_cpu += process_cpu() - cpu;
    }
    Ok(took)
}

/// Commits shares and waits until they are durable.
pub fn commit(accounting: &Accounting, shares: Vec<JudgedShare>) -> anyhow::Result<()> {
    let before = accounting.counters().shares;
    let count = shares.len() as u64; // usize fits u64
    let (send, outcome) = sync_channel(1);
    let done = Box::new(move |result: Result<&[Logged], CommitError>, _| {
        // Whoever waits has either all time or is gone.
        let _ = send.send(result.map(|_| ()));
    });
    let queued = accounting.commit(Batch { shares, done });
    ensure!(queued.is_ok(), "one batch at a time fits the queue");
    outcome.recv().context("the accounting thread has ended")??;
    ensure!(accounting.counters().shares == before + count, "all of them are counted");
    Ok(())
}

/// What the accounting is opened with.
pub fn settings(dir: &Path) -> Settings {
    let own = |n: u8| ScriptBuf::from_bytes([&[0, 20][..], &[n; 20]].concat());
    let split = payout::Params {
        fee_bp: 100,
        fee_script: own(250),
        donations: Vec::new(),
        min_payout: 5_000,
        reserve_script: own(251),
    };
    Settings {
        dir: dir.to_owned(),
        network: Network::Signet,
        params: Params {
            site: 1,
            span: Span::default(),
            stale_credit_ms: 0,
            split,
            settlement_fee_bp: 0,
            settlement_at_least: 0,
            witnesses: Default::default(),
        },
        segment_bytes: SEGMENT_BYTES_DEFAULT,
    }
}

/// Bytes of a log's segments.
pub fn bytes(log: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(log)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "seg") {
            sum += entry.metadata()?.len();
        }
    }
    Ok(sum)
}
