//! A copy of a published log: brought up to date from its address, and read.
//!
//! Nothing of it is believed but what the signed head covers. A head that was once seen stays in the folder: the next
//! one must go on from it.

use anyhow::{Context, bail, ensure};
use bitcoin::Network;
use share_accounting::entry::Entry;
use share_accounting::publish::Head;
use share_accounting::publish::key::LogVerifier;
use share_accounting::publish::tiles::{Place, Row, WIDTH, split_bundle};
use share_accounting::tree::{Tree, TreeHash, leaves};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Longest answer of a server: a full bundle of the longest entries has less.
const ANSWER_BYTES_MAX: usize = 20 << 20;
const HEADERS_BYTES_MAX: usize = 64 << 10;
const PATIENCE_S: u64 = 30;

/// The copy, with a head that is signed.
pub struct Mirror {
    dir: PathBuf,
    head: Head,
    network: Network,
}

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

impl Mirror {
    /// Opens a folder, after bringing it up to date if there is an address.
    ///
    /// # Errors
    /// [`SignedLie`] if the head does not go on from the one that was seen before; else what could not be had, or what
    /// does not fit together.
    pub fn open(dir: &Path, url: Option<&str>, verifier: &LogVerifier) -> anyhow::Result<Self> {
        let kept = dir.join("checkpoint");
        let seen = match fs::read(&kept) {
            Ok(note) => Some(verifier.head(&note).with_context(|| kept.display().to_string())?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| kept.display().to_string()),
        };
        let at = |(head, network), dir: &Path| Self { dir: dir.to_owned(), head, network };
        match (seen, url) {
            (None, None) => bail!("there is no published log in {}", dir.display()),
            (Some(seen), None) => {
                let mirror = at(seen, dir);
                ensure!(
                    mirror.is_whole(),
                    "the entries in {} are not those of its signed head",
                    dir.display()
                );
                Ok(mirror)
            }
            (_, Some(url)) if !url.starts_with("http://") => {
                bail!(
                    "{url} is no http:// address, which is all that is understood here (what is fetched is signed): fetch the \
                     folder with another program and leave --url out"
                )
            }
            (seen, Some(url)) => {
                let note = fetch(url, "checkpoint")?;
                let shown = verifier.head(&note).with_context(|| format!("{url}/checkpoint"))?;
                let fresh = at(shown, dir);
                match seen {
                    Some(seen) if seen.0.size > shown.0.size => at(seen, dir).judge_older(&shown.0, &note),
                    _ => fresh.bring_up_to_date(url, seen.map(|seen| seen.0), &note),
                }
            }
        }
    }

    /// A head that is smaller than the one that was seen is an old one, or of another log.
    fn judge_older(self, shown: &Head, note: &[u8]) -> anyhow::Result<Self> {
        let roots = self.roots(&[shown.size].into())?;
        ensure!(self.is_whole(), "the entries in {} are not those of its signed head", self.dir.display());
        if roots[&shown.size] == shown.root {
            let (seen, now) = (self.head.size, shown.size);
            bail!(
                "an old head of {now} entries is shown, although there were {seen} before: ask again, or elsewhere"
            );
        }
        Err(self.two_logs(shown.size, note)?.into())
    }

    fn bring_up_to_date(self, url: &str, seen: Option<Head>, note: &[u8]) -> anyhow::Result<Self> {
        self.fetch_entries(url)?;
        if !self.is_whole() {
            // The copy is damaged, or of another log: what is under the new head decides.
            let again = Self { dir: self.dir.join("again"), ..self };
            let _ = fs::remove_dir_all(&again.dir);
            again.fetch_entries(url)?;
            ensure!(again.is_whole(), "the entries at {url} are not those of its signed head");
            self.compare(seen, note, &again)?;
            let (tile, new) = (self.dir.join("tile"), again.dir.join("tile"));
            let replaced = fs::remove_dir_all(&tile).and_then(|()| fs::rename(new, &tile));
            replaced.with_context(|| tile.display().to_string())?;
            let _ = fs::remove_dir_all(&again.dir);
        } else {
            self.compare(seen, note, &self)?;
        }
        write(&self.dir.join("checkpoint"), note)?;
        self.remove_old_parts();
        Ok(self)
    }

    /// That the entries of the new head begin with those of the one before.
    fn compare(&self, seen: Option<Head>, note: &[u8], whole: &Self) -> anyhow::Result<()> {
        match seen {
            Some(seen) if whole.roots(&[seen.size].into())?[&seen.size] != seen.root => {
                Err(self.two_logs(seen.size, note)?.into())
            }
            _ => Ok(()),
        }
    }

    /// Keeps the other head, as evidence.
    fn two_logs(&self, size: u64, note: &[u8]) -> anyhow::Result<SignedLie> {
        let (kept, now) = (self.dir.join("checkpoint"), self.dir.join("checkpoint.other"));
        write(&now, note)?;
        Ok(SignedLie::TwoLogs { size, kept: kept.display().to_string(), now: now.display().to_string() })
    }

    /// What is signed.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The chain that the log is of.
    pub fn network(&self) -> Network {
        self.network
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
                Ok(_) => bail!(SignedLie::NoEntry { index, what: "it goes on behind its end".to_owned() }),
                Err(error) => bail!(SignedLie::NoEntry { index, what: error.to_string() }),
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
                write(&path, &fetch(url, &place.path())?)?;
            }
        }
        Ok(())
    }

    /// Parts of what is whole now, or longer.
    fn remove_old_parts(&self) {
        let Some(last) = self.bundles().last() else { return };
        let parts = |place: &Place| self.dir.join(Place { width: WIDTH, ..*place }.path() + ".p");
        for place in self.bundles().filter(|place| place.width == WIDTH) {
            let _ = fs::remove_dir_all(parts(&place));
        }
        let kept = self.dir.join(last.path());
        for part in fs::read_dir(parts(&last)).into_iter().flatten().flatten() {
            if part.path() != kept {
                let _ = fs::remove_file(part.path());
            }
        }
    }

    /// Whether the entries are those of the head.
    fn is_whole(&self) -> bool {
        let Head { size, root } = self.head;
        self.roots(&[size].into()).is_ok_and(|roots| roots[&size] == root)
    }

    /// Roots over so many of the first entries.
    ///
    /// # Errors
    /// Entries are missing or damaged, or there are fewer.
    pub fn roots(&self, sizes: &BTreeSet<u64>) -> anyhow::Result<BTreeMap<u64, TreeHash>> {
        let mut tree = Tree::default();
        let mut roots = BTreeMap::new();
        let mut left = sizes.iter().copied().peekable();
        let mut note = |tree: &Tree| {
            while left.next_if_eq(&tree.size()).is_some() {
                roots.insert(tree.size(), tree.root());
            }
            left.peek().map(|next| next - tree.size())
        };
        let mut next = note(&tree);
        for place in self.bundles() {
            let entries = self.bundle(&place)?;
            let entries: Vec<_> = entries.iter().map(Vec::as_slice).collect();
            let leaves = leaves(&entries);
            let mut rest = &leaves[..];
            while !rest.is_empty() {
                // A head ends anywhere.
                let count = next.and_then(|next| usize::try_from(next).ok()).unwrap_or(WIDTH).min(rest.len());
                tree.extend(rest[..count].iter().copied());
                rest = &rest[count..];
                next = note(&tree);
            }
        }
        ensure!(next.is_none(), "the log has fewer entries than that");
        Ok(roots)
    }
}

fn fetch(url: &str, path: &str) -> anyhow::Result<Vec<u8>> {
    let address = format!("{}/{path}", url.trim_end_matches('/'));
    let request = minreq::get(&address)
        .with_timeout(PATIENCE_S)
        .with_max_headers_size(HEADERS_BYTES_MAX)
        .with_max_status_line_length(HEADERS_BYTES_MAX);
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
