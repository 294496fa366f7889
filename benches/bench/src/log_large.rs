//! `log_large`: what 50 million shares take of the memory of who checks them. It runs for minutes and fills 4 GB of disk, so
//! only if it is named.
//!
//! The log of [`crate::log_read`], ten times as long: all on one block, each share another worker's than the one before,
//! so that nothing of it can be forgotten or put together. All but the first are written without the accounting: one
//! differs from the next by its nonce and its worker. `sluice-verify log` reads it, as a program of its own.

use crate::log_append::{WORKERS, settings};
use crate::log_read::write;
use crate::machine::peak_bytes;
use crate::report::{Report, Row, count, figure};
use crate::stage::Stage;
use anyhow::{Context, ensure};
use share_accounting::entry::{Encoded, Entry, Share};
use share_accounting::log::Reader;
use share_accounting::log::append::{Log, LogSettings};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};
use stratum::target::Work;

/// The benchmark's name.
pub const NAME: &str = "log_large";
const SHARES: usize = 50_000_000;
/// Shares that are judged and booked: each worker's first ones.
const BOOKED: usize = 8 * WORKERS;
/// Shares that are written at once.
const TOGETHER: usize = 8_192;
const GIB: f64 = 1_073_741_824.0;
const VERIFY: &str = "sluice-verify";

/// Writes the log, has it checked, and looks at the program meanwhile.
///
/// # Errors
/// The disk does not take what is written, or the log is not what it should be.
pub fn run() -> anyhow::Result<Report> {
    fs::create_dir_all("target").context("cannot create target")?;
    let folder = tempfile::tempdir_in("target").context("cannot create a folder under target")?;
    let stage = Stage::new(folder.path(), &[VERIFY])?;
    write(folder.path(), BOOKED)?;
    append(folder.path(), SHARES - BOOKED)?;

    let started = Instant::now();
    let mut command = stage.program(VERIFY)?;
    command.arg("log").arg(folder.path().join("log")).arg("--json");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut peak = 0;
    let status = loop {
        peak = peak.max(peak_bytes(child.id()).unwrap_or(0));
        match child.try_wait()? {
            Some(status) => break status,
            None => thread::sleep(Duration::from_millis(10)),
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    let mut answer = String::new();
    child.stdout.take().context("it is piped")?.read_to_string(&mut answer)?;
    ensure!(status.success(), "the log is right: {answer}");
    ensure!(answer.contains(&format!("\"shares\": {SHARES}")), "all of it was read: {answer}");

    let gib = peak as f64 / GIB;
    let rows = vec![
        Row::new("50,000,000 shares audited: memory", "GiB", gib).headline(),
        Row::new("50,000,000 shares audited: time", "s", seconds),
    ];
    let shares = count(SHARES);
    let summary = format!("{shares} shares audited within {} GiB, in {} s", figure(gib), figure(seconds));
    Ok(Report::new(NAME, rows, summary))
}

/// Writes so many further shares.
fn append(dir: &Path, count: usize) -> anyhow::Result<()> {
    let log = dir.join("log");
    let last = Reader::open(&log)?.last().context("the log has entries")??;
    let (_, Entry::Share(mut share)) = last else { anyhow::bail!("the last entry is a share") };
    let settings = settings(dir);
    let (network, site, segment_bytes) = (settings.network, settings.params.site, settings.segment_bytes);
    let mut log = Log::open(LogSettings { dir: log, network, site, segment_bytes }, |_, _| {})?;
    let (mut entries, work, mut left) = (Encoded::default(), share.pot.work(), count);
    while left > 0 {
        entries.clear();
        let before = share.total_work;
        for _ in 0..left.min(TOGETHER) {
            let payee = (share.payee + 1) % WORKERS as u32; // 1,000
            let total_work = Work(share.total_work.0 + work.0);
            share = Share { nonce: share.nonce + 1, payee, total_work, ..share };
            entries.push(&Entry::Share(share.clone()));
        }
        left -= left.min(TOGETHER);
        log.commit(&entries, before.0)?;
    }
    Ok(())
}
