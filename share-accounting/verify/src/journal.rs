//! A proxy's journal, held against the log: each share that it says was acknowledged is there, and earns.

use crate::holder::Holder;
use crate::mirror::Mirror;
use anyhow::Context;
use bitcoin::BlockHash;
use share_accounting::publish::journal::{Fate, Line};
use share_accounting::verify::listing::Listing;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::SystemTime;

/// What was acknowledged shortly before the newest share of the log may not have been under its head, in milliseconds.
const GRACE_MS: u64 = 300_000;

/// What the journal says.
#[derive(Debug, Default)]
pub struct Journalled {
    /// Acknowledged shares that are in the log, with credit.
    pub included: u64,
    /// Those that are not: their hashes, oldest first.
    pub missing: Vec<BlockHash>,
    /// Those that are there without credit, and their entries.
    pub uncredited: Vec<(u64, BlockHash)>,
    /// Those that are not, and may be newer than the copy.
    pub too_new: u64,
}

/// Reads the journal in a folder, and the log once more.
///
/// # Errors
/// Either cannot be read.
pub fn check(dir: &Path, mirror: &Mirror) -> anyhow::Result<Journalled> {
    let mut acknowledged = acknowledged(dir)?;
    let mut journalled = Journalled::default();
    let (mut listing, mut newest) = (Listing::default(), 0);
    for entry in mirror.entries() {
        let (index, entry) = entry?;
        let Some(listed) = listing.take(index, &entry) else { continue };
        newest = newest.max(listed.share.received_unix_ms);
        let Some(hash) = listed.hash.filter(|hash| acknowledged.contains_key(hash)) else { continue };
        acknowledged.remove(&hash);
        if listed.share.credited {
            journalled.included += 1;
        } else {
            journalled.uncredited.push((index, hash));
        }
    }
    // By the log's own times: the copy may have been made long after its head was signed, or copied since.
    let kept_at = mirror.kept_at()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let until = newest.min(u64::try_from(kept_at.as_millis())?).saturating_sub(GRACE_MS);
    let mut missing: Vec<_> = acknowledged.into_iter().map(|(hash, at)| (at, hash)).collect();
    missing.sort_unstable();
    let old = missing.partition_point(|(at, _)| *at <= until);
    journalled.too_new = (missing.len() - old) as u64; // usize fits u64
    journalled.missing = missing[..old].iter().map(|(_, hash)| *hash).collect();
    Ok(journalled)
}

/// Shares that `shares*.jsonl` call acknowledged, and when they were.
fn acknowledged(dir: &Path) -> anyhow::Result<HashMap<BlockHash, u64>> {
    let (mut acknowledged, mut lines) = (HashMap::new(), 0_u64);
    for file in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if !name.is_some_and(|name| name.starts_with("shares") && name.ends_with(".jsonl")) {
            continue;
        }
        for line in BufReader::new(File::open(&path)?).split(b'\n') {
            // What a crash has torn is none.
            let line = line.with_context(|| path.display().to_string())?;
            let Some(line) = Line::parse(&String::from_utf8_lossy(&line)) else { continue };
            lines += 1;
            if line.fate == Fate::Accepted {
                acknowledged.insert(line.hash, line.at);
            }
        }
    }
    anyhow::ensure!(lines > 0, "there is no journal in {}", dir.display());
    Ok(acknowledged)
}
