//! What is kept of a log: receipts as they came, and the newest head.

use anyhow::Context;
use share_accounting::publish::Head;
use share_accounting::publish::key::LogVerifier;
use share_accounting::publish::receipt::Receipts;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Receipts are kept for so long.
const KEPT_FOR: Duration = Duration::from_secs(90 * 86_400);
/// How often old ones are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);

/// A folder with `PAYEE.FROM-NEXT.json`, the answers that held receipts, and `checkpoint`.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    pruned: Instant,
}

/// What a file's name says.
struct Name {
    payee: String,
    next: u64,
}

impl Name {
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".json")?;
        let (payee, range) = name.rsplit_once('.')?;
        let (_, next) = range.split_once('-')?;
        Some(Self { payee: payee.to_owned(), next: next.parse().ok()? })
    }
}

impl Folder {
    pub fn open(path: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(Self { path, pruned: Instant::now() })
    }

    /// The newest head that was kept.
    pub fn head(&self, verifier: &LogVerifier) -> anyhow::Result<Option<Head>> {
        let path = self.path.join("checkpoint");
        match fs::read(&path) {
            Ok(note) => {
                let head = verifier.head(&note).with_context(|| {
                    format!("{} is not of upstream.log_key: another log needs another folder", path.display())
                })?;
                Ok(Some(head.0))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Each payee, and how far the log has been looked through for it.
    pub fn seen(&self) -> io::Result<BTreeMap<String, u64>> {
        let mut seen = BTreeMap::new();
        for entry in fs::read_dir(&self.path)? {
            if let Some(Name { payee, next }) = Name::of(&entry?.path()) {
                let reached = seen.entry(payee).or_insert(next);
                *reached = next.max(*reached);
            }
        }
        Ok(seen)
    }

    /// Receipts that were kept since a time, Unix milliseconds, each with its payee. What cannot be read is left out.
    pub fn newest(&self, unix_ms: u64) -> io::Result<Vec<(String, Receipts)>> {
        let since = SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms);
        let mut newest = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Some(Name { payee, .. }) = Name::of(&entry.path()) else { continue };
            if entry.metadata()?.modified()? >= since {
                let receipts = serde_json::from_slice(&fs::read(entry.path())?);
                newest.extend(receipts.ok().map(|receipts| (payee, receipts)));
            }
        }
        Ok(newest)
    }

    /// Keeps an answer.
    pub fn keep(&self, payee: &str, from: u64, next: u64, text: &[u8]) -> io::Result<()> {
        self.write(&format!("{payee}.{from:012}-{next:012}.json"), text).map(drop)
    }

    /// Keeps the newest head.
    pub fn keep_head(&self, note: &str) -> io::Result<()> {
        self.write("checkpoint", note.as_bytes()).map(drop)
    }

    /// Keeps a head that does not go on from it, as evidence; where.
    pub fn keep_other_head(&self, note: &str) -> io::Result<PathBuf> {
        self.write("checkpoint.other", note.as_bytes())
    }

    /// Whole or not at all.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let (path, unfinished) = (self.path.join(name), self.path.join("unfinished"));
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&unfinished, &path)?;
        Ok(path)
    }

    /// Removes what is too old, now and then.
    pub fn prune(&mut self) {
        if self.pruned.elapsed() < PRUNE_EVERY {
            return;
        }
        self.pruned = Instant::now();
        let is_old = |path: &Path| {
            let modified = path.metadata().and_then(|metadata| metadata.modified()).ok()?;
            (modified.elapsed().ok()? > KEPT_FOR && Name::of(path).is_some()).then_some(())
        };
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if is_old(&entry.path()).is_some() {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
