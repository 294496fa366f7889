//! `log_read`: what a long share log costs once it is there: on disk, at a start, to those who get it published, and to
//! those who check it.
//!
//! 5 million shares of 1,000 workers and one payee, on one job that is right to the last satoshi and commits to the
//! log. Measured, each once: opening the accounting over it, from its checkpoint on and from the first entry on;
//! publishing it anew, until its head is signed; auditing it, which reads it twice, hashes every share again and computes the payout. Beside the audit
//! stands plain reading: each entry decoded, checksums and all, twice.

use crate::log_append::{Miner, bytes, commit, settings};
use crate::measure::thread_cpu;
use crate::report::{Report, Row, count, figure};
use crate::work;
use anyhow::{Context, ensure};
use bitcoin::{Amount, Network, TxOut};
use share_accounting::commitment::{Committed, ParamsHash};
use share_accounting::log::Reader;
use share_accounting::publish::key::LogKey;
use share_accounting::publish::{self, Places, Published};
use share_accounting::verify::audit;
use share_accounting::{Accounting, AccountingThread};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use stratum::class::SizeClass;
use stratum::job::{Basis, JobBody, Payout};
use stratum::target::Target;
use template::coinbase::CoinbaseStyle;

/// The benchmark's name.
pub const NAME: &str = "log_read";
const SHARES: usize = 5_000_000;
const BATCH: usize = 8_192;
const VALUE: u64 = 312_500_000;
const READING: &str = "reading it twice";
const WHOLE_START: &str = "from the first entry on";

/// Measures all of it.
///
/// # Errors
/// The disk does not take what is written, or the log is not what it should be.
pub fn run() -> anyhow::Result<Report> {
    fs::create_dir_all("target").context("cannot create target")?;
    let folder = tempfile::tempdir_in("target").context("cannot create a folder under target")?;
    let log = folder.path().join("log");
    write(folder.path(), SHARES)?;
    let on_disk = bytes(&log)? as f64 / SHARES as f64;

    remove_checkpoints(&log)?;
    let (whole_start_s, _, stopping) = start(folder.path())?;
    stop(stopping)?;
    let (start_s, accounting, stopping) = start(folder.path())?;

    let files = folder.path().join("published");
    let started = Instant::now();
    let (key, _) = LogKey::generate("bench.example/log");
    let last_head = folder.path().join("log.head");
    let places = Places { log: &log, files: &files, last_head: &last_head };
    let (published, publisher) = publish::start(places, key, accounting.heads())?;
    wait_for(&published, accounting.counters().log_entries)?;
    let publishing_s = started.elapsed().as_secs_f64();
    let with_files = on_disk + tree_bytes(&files)? as f64 / SHARES as f64;
    stop(stopping)?;
    publisher.join().map_err(|_| anyhow::anyhow!("the publisher has panicked"))?;

    let cpu = thread_cpu();
    for _ in 0..2 {
        for entry in Reader::open(&log)? {
            entry?;
        }
    }
    let reading = (thread_cpu() - cpu).as_secs_f64();
    let cpu = thread_cpu();
    let report = audit(Network::Signet, None, || Reader::open(&log))?;
    let auditing = (thread_cpu() - cpu).as_secs_f64();
    ensure!(report.is_proven(), "the log is right: {:?}", report.findings);
    ensure!(report.credited == SHARES as u64, "{} shares are credited", report.credited);

    let per_s = |seconds: f64| SHARES as f64 / seconds;
    let rows = vec![
        Row::new("audit of a log, of one core", "shares/s", per_s(auditing))
            .beside(READING, per_s(reading), reading / auditing)
            .headline(),
        Row::new("start with 5,000,000 shares in the log", "s", start_s)
            .beside(WHOLE_START, whole_start_s, whole_start_s / start_s)
            .headline(),
        Row::new("publishing a log anew", "shares/s", per_s(publishing_s)),
        Row::new("log on disk", "bytes per share", on_disk).headline(),
        Row::new("log and what is published of it", "bytes per share", with_files),
    ];
    let summary = format!(
        "{} shares audited in {} s, a start takes {} s, {} bytes per share",
        count(SHARES),
        figure(auditing),
        figure(start_s),
        figure(on_disk)
    );
    Ok(Report::new(NAME, rows, summary))
}

/// A log of one job and its shares.
///
/// # Errors
/// The disk does not take what is written.
pub fn write(dir: &Path, shares: usize) -> anyhow::Result<()> {
    let (accounting, stopping) = Accounting::open(settings(dir))?;
    let mut miner = Miner::of(job(&accounting)?);
    let mut left = shares;
    while left > 0 {
        let shares = left.min(BATCH);
        commit(&accounting, miner.shares(shares))?;
        left -= shares;
    }
    stop(stopping)
}

/// How long a start takes, and what has started.
fn start(dir: &Path) -> anyhow::Result<(f64, Accounting, AccountingThread)> {
    let started = Instant::now();
    let (accounting, stopping) = Accounting::open(settings(dir))?;
    Ok((started.elapsed().as_secs_f64(), accounting, stopping))
}

/// Ends once the checkpoint that the start found missing is written.
fn stop(stopping: AccountingThread) -> anyhow::Result<()> {
    stopping.stop().map_err(|_| anyhow::anyhow!("the accounting thread has panicked"))
}

fn remove_checkpoints(log: &Path) -> anyhow::Result<()> {
    for file in fs::read_dir(log)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "books") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// A job that pays the payee of all shares alone, as is right while nobody has worked.
fn job(accounting: &Accounting) -> anyhow::Result<Arc<JobBody>> {
    let target = Target::from_nbits(work::HARD_NBITS)?;
    let window = accounting.ask_window(target.work())?.wait(Duration::from_secs(10))?;
    let commitment = Committed {
        network: Network::Signet,
        log_size: window.log_size,
        log_root: window.log_root,
        weights: &window.weights,
        credits: &BTreeMap::new(),
        params: ParamsHash::of(&settings(Path::new("")).params),
    };
    let script = work::payee("x").script.clone();
    let outputs = vec![
        TxOut { value: Amount::from_sat(VALUE), script_pubkey: script.clone() },
        commitment.commitment().output(),
    ];
    let class = SizeClass::B755;
    let plain = work::body(work::small_coinbase(), vec![[3; 32]; 12]);
    let witness = TxOut {
        value: Amount::ZERO,
        script_pubkey: [&[0x6a, 36, 0xaa, 0x21, 0xa9, 0xed][..], &[9; 32]].concat().into(),
    };
    let style = CoinbaseStyle::new(1, accounting.epoch(), "/bench/")?;
    let coinbase = style.build(plain.height, class, &outputs, &witness, VALUE)?;
    let basis = Basis::Solo { script, log_size: window.log_size };
    let payout = Arc::new(Payout { outputs, basis });
    let plain = Arc::try_unwrap(plain).map_err(|_| anyhow::anyhow!("nobody else has it"))?;
    Ok(Arc::new(JobBody { coinbase, class, out_bytes: 0, payout, ..plain }))
}

fn wait_for(published: &Published, entries: u64) -> anyhow::Result<()> {
    let late = Instant::now() + Duration::from_secs(600);
    while published.checkpoint().map_or(0, |(head, _)| head.size) < entries {
        ensure!(Instant::now() < late, "the log is not published");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Bytes of all files below a folder.
fn tree_bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() { tree_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(sum)
}
