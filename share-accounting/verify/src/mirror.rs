//! A copy of a published log: brought up to date from its address, and read.
//!
//! Nothing of it is believed but what the signed head covers. A head that was once seen stays in the folder: the next
//! one must go on from it.

use anyhow::{Context, anyhow, bail, ensure};
use share_accounting::entry::Entry;
use share_accounting::publish::Head;
use share_accounting::publish::key::LogVerifier;
use share_accounting::publish::tiles::{Place, Row, WIDTH, split_bundle};
use share_accounting::tree::{Tree, TreeHash, leaves};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Longest answer of a server: a full bundle of the longest entries has less.
const ANSWER_BYTES_MAX: usize = 20 << 20;
const PATIENCE_S: u64 = 30;

/// The copy, with a head that is signed.
pub struct Mirror {
    dir: PathBuf,
    head: Head,
}

/// Heads that contradict each other: proof that two logs were shown.
#[derive(Debug, thiserror::Error)]
pub enum TwoLogs {
    /// The log has become shorter.
    #[error(
        "a signed head of {seen} entries was shown before, and now one of {now}: entries were taken back"
    )]
    Shorter { seen: u64, now: u64 },
    /// It has become another.
    #[error(
        "another log was shown before: its first {seen} entries, under a signed head, are not the first {seen} of this one"
    )]
    Other { seen: u64 },
}

impl Mirror {
    /// Opens a folder, after bringing it up to date if there is an address.
    ///
    /// # Errors
    /// [`TwoLogs`] if the head does not go on from the one that was seen before; else what could not be had, or what
    /// does not fit together.
    pub fn open(dir: &Path, url: Option<&str>, verifier: &LogVerifier) -> anyhow::Result<Self> {
        let kept = dir.join("checkpoint");
        let seen = match fs::read(&kept) {
            Ok(note) => Some(verifier.head(&note).with_context(|| kept.display().to_string())?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| kept.display().to_string()),
        };
        let damaged = || format!("the entries in {} are not those of the signed head", dir.display());
        let Some(url) = url else {
            let head = seen.ok_or_else(|| anyhow!("there is no published log in {}", dir.display()))?;
            let mirror = Self { dir: dir.to_owned(), head };
            ensure!(mirror.roots(head.size)?[1] == head.root, "{}", damaged());
            return Ok(mirror);
        };
        let note = fetch(url, "checkpoint")?;
        let head = verifier.head(&note).with_context(|| format!("{url}/checkpoint"))?;
        if let Some(seen) = seen.filter(|seen| seen.size > head.size) {
            bail!(TwoLogs::Shorter { seen: seen.size, now: head.size });
        }
        let mirror = Self { dir: dir.to_owned(), head };
        let seen = seen.unwrap_or(Head { size: 0, root: Tree::default().root() });
        mirror.fetch_entries(url)?;
        let mut roots = mirror.roots(seen.size)?;
        if roots[1] != head.root {
            // The copy is damaged, or of another log: what is under the new head decides.
            fs::remove_dir_all(dir.join("tile")).with_context(damaged)?;
            mirror.fetch_entries(url)?;
            roots = mirror.roots(seen.size)?;
        }
        ensure!(roots[1] == head.root, "{}, even those that were just fetched", damaged());
        ensure!(roots[0] == seen.root, TwoLogs::Other { seen: seen.size });
        write(&kept, &note)?;
        Ok(mirror)
    }

    /// What is signed.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The entries under the head, one after the other, each as its bytes.
    pub fn bytes(&self) -> impl Iterator<Item = anyhow::Result<Vec<u8>>> {
        self.bundles().flat_map(|place| match self.bundle(&place) {
            Ok(entries) => entries.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        })
    }

    /// The entries under the head.
    pub fn entries(&self) -> impl Iterator<Item = anyhow::Result<(u64, Entry)>> {
        (0..).zip(self.bytes()).map(|(index, bytes)| {
            let bytes = bytes?;
            match Entry::decode(&bytes) {
                Ok((entry, length)) if length == bytes.len() => Ok((index, entry)),
                Ok(_) => bail!("entry {index} goes on behind its end"),
                Err(error) => bail!("entry {index}: {error}"),
            }
        })
    }

    /// The bytes of one entry under the head.
    ///
    /// # Errors
    /// Its bundle cannot be read.
    pub fn entry(&self, index: u64) -> anyhow::Result<Vec<u8>> {
        let number = index / WIDTH as u64;
        let place = self.bundles().nth(usize::try_from(number)?).context("it is not under the head")?;
        let entries = self.bundle(&place)?;
        let at = (index % WIDTH as u64) as usize; // below 256
        entries.into_iter().nth(at).context("it is not under the head")
    }

    /// Bundles under the head, the last one as far as it goes.
    fn bundles(&self) -> impl Iterator<Item = Place> + use<> {
        let size = self.head.size;
        (0..size.div_ceil(WIDTH as u64)).map(move |number| {
            let left = size - number * WIDTH as u64;
            let width = usize::try_from(left).unwrap_or(WIDTH).min(WIDTH);
            Place { row: Row::Entries, number, width }
        })
    }

    fn bundle(&self, place: &Place) -> anyhow::Result<Vec<Vec<u8>>> {
        let path = self.dir.join(place.path());
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let entries = split_bundle(&bytes).with_context(|| path.display().to_string())?;
        if entries.len() != place.width {
            bail!("{} has {} entries instead of {}", path.display(), entries.len(), place.width);
        }
        Ok(entries.into_iter().map(<[u8]>::to_vec).collect())
    }

    fn fetch_entries(&self, url: &str) -> anyhow::Result<()> {
        for place in self.bundles() {
            let path = self.dir.join(place.path());
            if !path.exists() {
                let bundle = fetch(url, &place.path())?;
                // What it goes on from is in it.
                let parts = Place { width: WIDTH, ..place }.path() + ".p";
                let _ = fs::remove_dir_all(self.dir.join(parts));
                write(&path, &bundle)?;
            }
        }
        Ok(())
    }

    /// Roots over the first `size` entries, and over all under the head.
    fn roots(&self, size: u64) -> anyhow::Result<[TreeHash; 2]> {
        let mut tree = Tree::default();
        let mut first = None;
        for place in self.bundles() {
            let entries = self.bundle(&place)?;
            let entries: Vec<_> = entries.iter().map(Vec::as_slice).collect();
            let leaves = leaves(&entries);
            // A head ends anywhere.
            let left = usize::try_from(size - size.min(tree.size())).unwrap_or(usize::MAX);
            let (before, behind) = leaves.split_at(left.min(leaves.len()));
            tree.extend(before.iter().copied());
            if tree.size() == size {
                first.get_or_insert_with(|| tree.root());
            }
            tree.extend(behind.iter().copied());
        }
        let root = tree.root();
        Ok([first.unwrap_or(root), root])
    }
}

fn fetch(url: &str, path: &str) -> anyhow::Result<Vec<u8>> {
    let address = format!("{}/{path}", url.trim_end_matches('/'));
    let request = minreq::get(&address).with_timeout(PATIENCE_S);
    let mut answer = request.send_lazy().with_context(|| address.clone())?;
    if answer.status_code != 200 {
        bail!("{address} answers {} {}", answer.status_code, answer.reason_phrase);
    }
    let mut bytes = Vec::new();
    for byte in answer.by_ref() {
        bytes.push(byte.with_context(|| address.clone())?.0);
        if bytes.len() > ANSWER_BYTES_MAX {
            bail!("{address} answers more than {ANSWER_BYTES_MAX} bytes");
        }
    }
    Ok(bytes)
}

/// Whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(context)?;
    }
    let unfinished = path.with_extension("new");
    fs::write(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, path)).with_context(context)
}
