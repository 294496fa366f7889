//! Receipts that miners kept, held against the log.

use crate::holder::Holder;
use crate::kept::SignedLie;
use anyhow::{Context, bail, ensure};
use share_accounting::publish::Head;
use share_accounting::publish::key::LogVerifier;
use share_accounting::publish::receipt::{Receipt, Receipts};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What the receipts say.
#[derive(Debug, Default)]
pub struct Checked {
    /// Receipts whose entry is in the log.
    pub included: u64,
    /// Entries that were receipted and are not in the log.
    pub dropped: Vec<Dropped>,
}

/// The pool has signed that an entry is in its log, and it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// Where it was.
    pub index: u64,
    /// Entries under the head that the pool signed.
    pub size: u64,
}

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { size, .. } = self;
        write!(
            f,
            "share dropped after its receipt: it was there under the signed head of {size} entries, and is not in the log"
        )
    }
}

/// The receipts in a folder: `*.json`.
///
/// # Errors
/// There is none, or the folder cannot be read.
pub fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for file in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    ensure!(!files.is_empty(), "there is no receipt in {}: files in .json are wanted", dir.display());
    Ok(files)
}

/// Checks receipts against the log.
///
/// # Errors
/// [`SignedLie`] if one is under a head that no log with these entries has; or a file is no receipt of this log, which
/// says nothing about the log.
pub fn check(files: Vec<PathBuf>, log: &mut impl Holder, verifier: &LogVerifier) -> anyhow::Result<Checked> {
    let mut checked = Checked::default();
    let mut heads = BTreeMap::new();
    for path in files {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let head = check_file(&text, log, verifier, &mut checked);
        let head = head.with_context(|| path.display().to_string())?;
        heads.entry((head.size, head.root)).or_insert(path);
    }
    checked.dropped.sort_by_key(|dropped| dropped.index);
    let sizes = heads.keys().map(|(size, _)| *size).filter(|size| *size <= log.size()).collect();
    let roots = log.roots(&sizes)?;
    // One that names what was dropped says more.
    let other = heads.iter().find(|((size, root), _)| roots.get(size).is_some_and(|ours| ours != root));
    match other {
        Some(((size, _), path)) if checked.dropped.is_empty() => {
            let (kept, now) = (path.display().to_string(), "checkpoint of the copy".to_owned());
            Err(SignedLie::TwoLogs { size: *size, kept, now }.into())
        }
        _ => Ok(checked),
    }
}

/// Notes what a file's receipts say; the head that they are under.
fn check_file(
    text: &str,
    log: &mut impl Holder,
    verifier: &LogVerifier,
    checked: &mut Checked,
) -> anyhow::Result<Head> {
    let receipts: Receipts = serde_json::from_str(text).context("it is no receipt")?;
    let head = receipts.head(verifier)?;
    for Receipt { index, entry, .. } in &receipts.receipts {
        // The head of the receipt may be newer than the log at hand, as long as this goes on to it.
        if *index < log.size() && log.holds(*index, entry)? {
            checked.included += 1;
        } else if *index < log.size() || head.size <= log.size() {
            checked.dropped.push(Dropped { index: *index, size: head.size });
        } else {
            bail!("it is newer than the log at hand: bring that up to date");
        }
    }
    Ok(head)
}
