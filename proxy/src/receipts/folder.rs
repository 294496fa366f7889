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

/// Most files, and most bytes together: where there are more, the oldest are removed.
const FILES_MAX: usize = 100_000;
/// See [`FILES_MAX`].
const BYTES_MAX: u64 = 2 << 30;
/// Receipts are kept for so long.
const KEPT_FOR: Duration = Duration::from_secs(90 * 86_400);
/// How often old ones are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(600);

/// A folder with `PAYEE.FROM-NEXT.json`, the answers that held receipts, `PAYEE.begin`, where the log was looked through
/// first for a payee, and `checkpoint`.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    pruned: Instant,
}

/// How the names of files end that say where a payee was looked for first.
const BEGIN: &str = ".begin";

/// What has been looked through for a payee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Entries before this one.
    pub next: u64,
    /// Since when, Unix milliseconds: older shares may lie before that.
    pub since: u64,
}

fn unix_ms_of(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
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

    /// What has been looked through for each payee.
    pub fn seen(&self) -> io::Result<BTreeMap<String, Seen>> {
        let mut seen = BTreeMap::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(payee) = name.strip_suffix(BEGIN) else { continue };
            let text = fs::read_to_string(&path)?;
            let numbers = text.trim().split_once(' ');
            let numbers = numbers.and_then(|(next, since)| Some((next.parse().ok()?, since.parse().ok()?)));
            let Some((next, since)) = numbers else { continue };
            seen.insert(payee.to_owned(), Seen { next, since });
        }
        for entry in fs::read_dir(&self.path)? {
            if let Some(Name { payee, next }) = Name::of(&entry?.path())
                && let Some(seen) = seen.get_mut(&payee)
            {
                seen.next = next.max(seen.next);
            }
        }
        Ok(seen)
    }

    /// Receipts that were kept since a time, Unix milliseconds, each with its payee. What cannot be read is left out.
    pub fn each_since(&self, unix_ms: u64, mut each: impl FnMut(&str, &Receipts)) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Some(Name { payee, .. }) = Name::of(&entry.path()) else { continue };
            if unix_ms_of(entry.metadata()?.modified()?) >= unix_ms {
                let text = fs::read(entry.path()).unwrap_or_default();
                if let Ok(receipts) = serde_json::from_slice(&text) {
                    each(&payee, &receipts);
                }
            }
        }
        Ok(())
    }

    /// Notes where and when a payee was looked for first.
    pub fn begin(&self, payee: &str, Seen { next, since }: Seen) -> io::Result<()> {
        self.write(&format!("{payee}{BEGIN}"), format!("{next} {since}\n").as_bytes()).map(drop)
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

    /// Removes what is too old or too much, now and then.
    pub fn prune(&mut self) {
        if self.pruned.elapsed() >= PRUNE_EVERY {
            self.pruned = Instant::now();
            self.remove_beyond(FILES_MAX, BYTES_MAX);
        }
    }

    fn remove_beyond(&self, files_max: usize, bytes_max: u64) {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(metadata) = entry.metadata() else { continue };
            if let (Some(_), Ok(modified)) = (Name::of(&path), metadata.modified()) {
                files.push((modified, metadata.len(), path));
            }
        }
        files.sort();
        let (mut count, mut bytes) = (files.len(), files.iter().map(|(_, bytes, _)| bytes).sum::<u64>());
        for (modified, length, path) in files {
            let is_old = modified.elapsed().is_ok_and(|age| age > KEPT_FOR);
            if !is_old && count <= files_max && bytes <= bytes_max {
                break;
            }
            let _ = fs::remove_file(path);
            (count, bytes) = (count - 1, bytes - length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_receipts_go_where_there_are_too_many_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path().to_owned()).unwrap();
        folder.begin("tb1q", Seen { next: 3, since: 77 }).unwrap();
        for n in 0..6 {
            folder.keep("tb1q", n, n + 1, &[b'x'; 100]).unwrap();
            let file = File::open(dir.path().join(format!("tb1q.{n:012}-{:012}.json", n + 1))).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(100 - n)).unwrap();
        }
        let left = |folder: &Folder| {
            let names = fs::read_dir(&folder.path).unwrap().map(|entry| entry.unwrap().path());
            names.filter_map(|path| Name::of(&path)).map(|name| name.next).min()
        };
        folder.remove_beyond(5, 1_000);
        assert_eq!(left(&folder), Some(2));
        folder.remove_beyond(5, 250);
        assert_eq!(left(&folder), Some(5));
        let seen = folder.seen().unwrap()["tb1q"];
        assert_eq!(seen.next, 6);
        folder.remove_beyond(0, 0);
        assert_eq!(folder.seen().unwrap()["tb1q"], Seen { next: 3, since: 77 });
    }
}
