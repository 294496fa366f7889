//! A copy of a published log: brought up to date from its address, and read; or one that was exported to a file.
//!
//! Nothing of it is believed but what the signed head covers. A head that was once seen stays in the folder: the next
//! one must go on from it.

use crate::export::Exported;
use crate::fetch::{check_address, fetch};
use crate::hashes;
use crate::holder::Holder;
use crate::kept::{Kept, SignedLie, old_head, write};
use crate::progress::Bar;
use anyhow::{Context, bail, ensure};
use bitcoin::Network;
use share_accounting::entry::Entry;
use share_accounting::publish::Head;
use share_accounting::publish::key::LogVerifier;
use share_accounting::publish::tiles::{Place, Row, WIDTH, split_bundle};
use share_accounting::tree::{Tree, TreeHash, leaves};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The copy, with a head that is signed.
pub struct Mirror {
    dir: PathBuf,
    /// What is there instead of a folder.
    file: Option<Exported>,
    head: Head,
    network: Network,
}

impl Mirror {
    /// Opens a folder, after bringing it up to date if there is an address.
    ///
    /// # Errors
    /// [`SignedLie`] if the head does not go on from the one that was seen before; else what could not be had, or what
    /// does not fit together.
    pub fn open(dir: &Path, url: Option<&str>, verifier: &LogVerifier) -> anyhow::Result<Self> {
        if dir.is_file() {
            ensure!(
                url.is_none(),
                "{} is a file, and only a folder can be brought up to date",
                dir.display()
            );
            return Self::open_file(dir, verifier);
        }
        let seen = Kept::new(dir).seen(verifier)?;
        let at = |(head, network), dir: &Path| Self { dir: dir.to_owned(), file: None, head, network };
        match (seen, url) {
            (None, None) => bail!("there is no published log in {}", dir.display()),
            (Some(seen), None) => {
                let mirror = at(seen, dir);
                mirror.check_whole().with_context(|| {
                    format!("{} is no whole copy, and --url brings it up to date", dir.display())
                })?;
                Ok(mirror)
            }
            (seen, Some(url)) => {
                check_address(url)?;
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

    fn open_file(path: &Path, verifier: &LogVerifier) -> anyhow::Result<Self> {
        let file = Exported::open(path)?;
        let note = file.about().checkpoint.as_ref();
        let note = note.with_context(|| {
            format!("no signed head is in {}: it was made of a pool's own files", path.display())
        })?;
        let (head, network) =
            verifier.head(note.as_bytes()).with_context(|| format!("the head in {}", path.display()))?;
        let is_whole = file.check()? == head.root && file.size() == head.size;
        ensure!(is_whole, "the entries in {} are not those of its signed head", path.display());
        Ok(Self { dir: path.to_owned(), file: Some(file), head, network })
    }

    /// A head that is smaller than the one that was seen is an old one, or of another log.
    fn judge_older(self, shown: &Head, note: &[u8]) -> anyhow::Result<Self> {
        let roots = self.roots(&[shown.size].into())?;
        self.check_whole()?;
        if roots[&shown.size] == shown.root {
            return Err(old_head(shown, &self.head));
        }
        Err(Kept::new(&self.dir).two_logs(shown.size, note)?.into())
    }

    fn bring_up_to_date(self, url: &str, seen: Option<Head>, note: &[u8]) -> anyhow::Result<Self> {
        self.fetch_entries(url)?;
        if self.check_whole().is_err() {
            // The copy is damaged, or of another log: what is under the new head decides.
            let again = Self { dir: self.dir.join("again"), file: None, ..self };
            let _ = fs::remove_dir_all(&again.dir);
            again.fetch_entries(url)?;
            ensure!(again.check_whole().is_ok(), "the entries at {url} are not those of its signed head");
            self.compare(seen, note, &again)?;
            let (tile, new) = (self.dir.join("tile"), again.dir.join("tile"));
            let replaced = fs::remove_dir_all(&tile).and_then(|()| fs::rename(new, &tile));
            replaced.with_context(|| tile.display().to_string())?;
            let _ = fs::remove_dir_all(&again.dir);
        } else {
            self.compare(seen, note, &self)?;
        }
        Kept::new(&self.dir).keep(note)?;
        hashes::write_missing(&self.dir, self.head.size, |place| self.bundle(place))?;
        self.remove_old_parts();
        Ok(self)
    }

    /// That the entries of the new head begin with those of the one before.
    fn compare(&self, seen: Option<Head>, note: &[u8], whole: &Self) -> anyhow::Result<()> {
        match seen {
            Some(seen) if whole.roots(&[seen.size].into())?[&seen.size] != seen.root => {
                Err(Kept::new(&self.dir).two_logs(seen.size, note)?.into())
            }
            _ => Ok(()),
        }
    }

    /// The note that says its head.
    ///
    /// # Errors
    /// It is not there any more.
    #[cfg(feature = "export")]
    pub fn checkpoint(&self) -> anyhow::Result<Vec<u8>> {
        match self.file.as_ref().and_then(|file| file.about().checkpoint.clone()) {
            Some(note) => Ok(note.into_bytes()),
            None => Ok(fs::read(self.dir.join("checkpoint"))?),
        }
    }

    /// What is signed.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The chain that the log is of.
    pub fn network(&self) -> Network {
        self.network
    }

    /// The bytes of the entries under the head, some at a time.
    fn batches(&self) -> Box<dyn Iterator<Item = anyhow::Result<Vec<Vec<u8>>>> + '_> {
        match &self.file {
            Some(file) => file.batches(),
            None => Box::new(self.bundles().map(|place| self.bundle(&place))),
        }
    }

    /// The entries under the head, one after the other, each as its bytes.
    fn bytes(&self) -> impl Iterator<Item = anyhow::Result<Vec<u8>>> {
        self.batches().flat_map(|batch| match batch {
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
    pub fn entry(&mut self, index: u64) -> anyhow::Result<Vec<u8>> {
        if let Some(file) = &mut self.file {
            return file.entry(index);
        }
        let number = index / WIDTH as u64;
        let place = self.bundles().nth(usize::try_from(number)?).context("it is not under the head")?;
        let entries = self.bundle(&place)?;
        let at = (index % WIDTH as u64) as usize; // below 256
        entries.into_iter().nth(at).context("it is not under the head")
    }

    /// Bundles under the head, the last one as far as it goes.
    fn bundles(&self) -> impl Iterator<Item = Place> + use<> {
        Row::Entries.places(self.head.size)
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
        let mut bar = Bar::new("fetching", "entries", self.head.size);
        for place in self.bundles() {
            bar.is_at(place.number * WIDTH as u64);
            let path = self.dir.join(place.path());
            if !path.exists() {
                write(&path, &fetch(url, &place.path())?)?;
            }
        }
        Ok(())
    }

    /// Parts of what is whole now, or longer.
    fn remove_old_parts(&self) {
        for place in hashes::rows(self.head.size).flat_map(|(row, count)| row.places(count)) {
            let parts = self.dir.join(Place { width: WIDTH, ..place }.path() + ".p");
            if place.width == WIDTH {
                let _ = fs::remove_dir_all(parts);
                continue;
            }
            let kept = self.dir.join(place.path());
            for part in fs::read_dir(parts).into_iter().flatten().flatten() {
                if part.path() != kept {
                    let _ = fs::remove_file(part.path());
                }
            }
        }
    }

    /// That the entries are those of the head.
    fn check_whole(&self) -> anyhow::Result<()> {
        let Head { size, root } = self.head;
        let is_whole = self.roots(&[size].into())?[&size] == root;
        ensure!(is_whole, "the entries in {} are not those of its signed head", self.dir.display());
        Ok(())
    }
}

impl Holder for Mirror {
    fn size(&self) -> u64 {
        self.head.size
    }

    fn holds(&mut self, index: u64, entry: &[u8]) -> anyhow::Result<bool> {
        Ok(self.entry(index)? == entry)
    }

    fn roots(&self, sizes: &BTreeSet<u64>) -> anyhow::Result<BTreeMap<u64, TreeHash>> {
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
        for entries in self.batches() {
            let entries = entries?;
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

    fn kept_at(&self) -> anyhow::Result<SystemTime> {
        match &self.file {
            Some(file) => file.made_at(),
            None => Ok(fs::metadata(self.dir.join("checkpoint"))?.modified()?),
        }
    }

    fn cosigned(&self) -> Option<Vec<u8>> {
        match &self.file {
            Some(file) => Some(file.about().cosigned.clone()?.into_bytes()),
            None => fs::read(self.dir.join("cosigned")).ok(),
        }
    }
}
