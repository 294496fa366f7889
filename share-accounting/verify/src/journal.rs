//! A proxy's journal, held against the log: each share that it says was acknowledged is there, and earns.

use crate::mirror::Mirror;
use anyhow::Context;
use bitcoin::BlockHash;
use share_accounting::publish::journal::{Fate, Line};
use share_accounting::verify::listing::Listing;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// What was acknowledged shortly before the copy was made may not have been under its head.
const GRACE: Duration = Duration::from_secs(300);

/// What the journal says.
#[derive(Debug, Default)]
pub struct Journalled {
    /// Acknowledged shares that are in the log, with credit.
    pub included: u64,
    /// Those that are not: their hashes, oldest first.
    pub missing: Vec<BlockHash>,
    /// Those that are there without credit, and their entries.
    pub uncredited: Vec<(u64, BlockHash)>,
    /// Acknowledged after the copy was made, or just before.
    pub too_new: u64,
}

/// Reads the journal in a folder, and the log once more.
///
/// # Errors
/// Either cannot be read.
pub fn check(dir: &Path, mirror: &Mirror) -> anyhow::Result<Journalled> {
    let until = mirror.kept_at()?.checked_sub(GRACE).unwrap_or(SystemTime::UNIX_EPOCH);
    let until = until.duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
    let mut journalled = Journalled::default();
    let mut acknowledged = HashMap::new();
    for line in lines(dir)? {
        if line.fate != Fate::Accepted {
            continue;
        }
        if u128::from(line.at) > until {
            journalled.too_new += 1;
        } else {
            acknowledged.insert(line.hash, line.at);
        }
    }
    let mut listing = Listing::default();
    for entry in mirror.entries() {
        let (index, entry) = entry?;
        let Some(listed) = listing.take(index, &entry) else { continue };
        let Some(hash) = listed.hash.filter(|hash| acknowledged.contains_key(hash)) else { continue };
        if listed.share.credited {
            acknowledged.remove(&hash);
            journalled.included += 1;
        } else {
            journalled.uncredited.push((index, hash));
        }
    }
    for (_, hash) in &journalled.uncredited {
        acknowledged.remove(hash);
    }
    let mut missing: Vec<_> = acknowledged.into_iter().map(|(hash, at)| (at, hash)).collect();
    missing.sort_unstable();
    journalled.missing = missing.into_iter().map(|(_, hash)| hash).collect();
    Ok(journalled)
}

/// All lines of `shares*.jsonl`.
fn lines(dir: &Path) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for file in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if !name.is_some_and(|name| name.starts_with("shares") && name.ends_with(".jsonl")) {
            continue;
        }
        for line in BufReader::new(File::open(&path)?).lines() {
            // What a crash has torn is none.
            lines.extend(Line::parse(&line.with_context(|| path.display().to_string())?));
        }
    }
    anyhow::ensure!(!lines.is_empty(), "there is no journal in {}", dir.display());
    Ok(lines)
}
