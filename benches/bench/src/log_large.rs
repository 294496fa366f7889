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
use bitcoin::hashes::Hash;
use share_accounting::entry::{Encoded, Entry};
use share_accounting::log::Reader;
use share_accounting::log::append::{Log, LogSettings};
use share_accounting::verify::listing::Listing;
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
    let mut output = child.stdout.take().context("it is piped")?;
    let reading = thread::spawn(move || {
        let mut answer = String::new();
        output.read_to_string(&mut answer).map(|_| answer)
    });
    let mut peak = 0;
    let status = loop {
        peak = peak.max(peak_bytes(child.id()).unwrap_or(0));
        match child.try_wait()? {
            Some(status) => break status,
            None => thread::sleep(Duration::from_millis(10)),
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    let answer = reading.join().map_err(|_| anyhow::anyhow!("the reader has panicked"))??;
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
    // Knows the job and the payees by then.
    let (mut listing, mut last) = (Listing::default(), None);
    for entry in Reader::open(&log)? {
        let (index, entry) = entry?;
        listing.take(index, &entry);
        last = Some((index, entry));
    }
    let Some((mut index, Entry::Share(mut share))) = last else { anyhow::bail!("the last entry is a share") };
    let settings = settings(dir);
    let (network, site, segment_bytes) = (settings.network, settings.params.site, settings.segment_bytes);
    let mut log = Log::open(LogSettings { dir: log, network, site, segment_bytes }, |_, _| {})?;
    let (mut entries, work, mut left) = (Encoded::default(), share.pot.work(), count);
    while left > 0 {
        entries.clear();
        let (before, together) = (share.total_work, left.min(TOGETHER));
        for _ in 0..together {
            share.payee = (share.payee + 1) % WORKERS as u32; // 1,000
            share.total_work = Work(share.total_work.0 + work.0);
            index += 1;
            let entry = loop {
                share.nonce += 1;
                let entry = Entry::Share(share.clone());
                let hash = listing.take(index, &entry).and_then(|listed| listed.hash);
                let hash = hash.context("its job is there")?;
                // Of 65,536 hashes one does not meet even the easiest target.
                if share.pot.target().is_met_by(hash.as_byte_array()) {
                    break entry;
                }
            };
            entries.push(&entry);
        }
        left -= together;
        log.commit(&entries, before.0)?;
    }
    Ok(())
}
