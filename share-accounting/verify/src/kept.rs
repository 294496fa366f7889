//! The head that was seen last, kept in a folder: the next one must go on from it.

use anyhow::{Context, anyhow};
use bitcoin::Network;
use share_accounting::publish::Head;
use share_accounting::publish::key::LogVerifier;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What a pool has signed, and what cannot be.
#[derive(Debug, thiserror::Error)]
pub enum SignedLie {
    /// Two heads that no one log has.
    #[error(
        "two logs were shown: the first {size} entries under a signed head, kept in {kept}, are not the first {size} under \
         the one that is shown now, kept in {now}"
    )]
    TwoLogs {
        /// Entries under the smaller one.
        size: u64,
        /// Where the head that was seen before is.
        kept: String,
        /// Where the other is.
        now: String,
    },
    /// No entry.
    #[error("entry {index} under the signed head is none: {what}")]
    NoEntry {
        /// Its index.
        index: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// A folder with a head.
pub struct Kept {
    dir: PathBuf,
}

impl Kept {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("checkpoint")
    }

    /// The head that was seen last, if one was.
    ///
    /// # Errors
    /// It cannot be read, or is of another log.
    pub fn seen(&self, verifier: &LogVerifier) -> anyhow::Result<Option<(Head, Network)>> {
        let path = self.path();
        match fs::read(&path) {
            Ok(note) => Ok(Some(verifier.head(&note).with_context(|| path.display().to_string())?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Keeps a head that goes on from the one before.
    pub fn keep(&self, note: &[u8]) -> anyhow::Result<()> {
        write(&self.path(), note)
    }

    /// Keeps one that does not beside it, as evidence.
    pub fn two_logs(&self, size: u64, note: &[u8]) -> anyhow::Result<SignedLie> {
        let now = self.dir.join("checkpoint.other");
        write(&now, note)?;
        Ok(SignedLie::TwoLogs {
            size,
            kept: self.path().display().to_string(),
            now: now.display().to_string(),
        })
    }
}

/// What is shown goes no further than what was seen, which proves nothing.
pub fn old_head(shown: &Head, seen: &Head) -> anyhow::Error {
    anyhow!(
        "an old head of {} entries is shown, although there were {} before: ask again, or elsewhere",
        shown.size,
        seen.size
    )
}

/// Whole or not at all.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(context)?;
    }
    let unfinished = path.with_extension("new");
    fs::write(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, path)).with_context(context)
}
