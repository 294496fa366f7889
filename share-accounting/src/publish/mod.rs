//! The log as everybody gets it: files of entries and hashes, a signed head, and proofs.
//!
//! - [`tiles`]: the files
//! - [`key`]: signed heads; [`cosign`]: and those that witnesses have signed, too; [`receipt`]: proofs under one, for miners to keep
//! - [`journal`]: what a proxy writes down, to be held against the log
//! - `head`: what the accounting thread tells; `recall`: what the log had before it told anything
//!
//! A thread of its own follows the log, up to where the accounting thread says that it is durable. The head is signed
//! once for each group of commits that came together, and only when the files and the edge hold all that it covers. If
//! a file cannot be written, heads wait and miners do not: the thread tries again, from what is on disk.
//!
//! A log that does not go on from the head that was signed last is not signed any more: two histories under one key
//! are what the key is there to rule out.
//!
//! Not here: HTTP, and where the key is kept.

pub mod cosign;
mod head;
pub mod journal;
pub mod key;
mod last;
mod recall;
pub mod receipt;
pub mod tiles;

pub(crate) use head::Teller;
pub use head::{Head, Heads, Logged};

use crate::entry::{Entry, Share};
use crate::log::{Follower, LogError};
use crate::tree::TreeHash;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network};
use key::LogKey;
use last::LastSigned;
use receipt::{Receipt, Receipts};
use std::collections::{HashMap, HashSet, VecDeque, hash_map};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fs, mem};
use stratum::hasher::SecretState;
use tiles::{Place, Row, Tiles, WIDTH, split_bundle};
use tlog_tiles::{prove_record, prove_tree, tree_hash};
use tracing::{error, info, warn};

/// Shares that can be asked for by the hash of their header: the newest ones, 32 bytes each.
pub const HASHES_MAX: usize = 1 << 18;
/// Bytes of entries beyond which an answer with receipts ends; the last job may reach over it.
const RECEIPTS_BYTES_MAX: usize = 2 << 20;
/// Pause before what could not be written is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What is published; a handle. Nobody who reads it waits for a disk that the publisher waits for.
#[derive(Debug, Clone)]
pub struct Published(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    public_key: String,
    signed: RwLock<Option<Arc<Signed>>>,
    hashes: RwLock<Hashes>,
    /// The newest head that witnesses have cosigned, too.
    cosigned: RwLock<Option<String>>,
    /// Why nothing is signed any more.
    refused: OnceLock<String>,
}

/// A head, and the log as far as it goes.
#[derive(Debug)]
struct Signed {
    head: Head,
    note: String,
    tiles: Tiles,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoAnswer {
    /// There is no such thing, or it is still to come.
    #[error("there is no {0} yet")]
    NotThere(&'static str),
    /// The files cannot be read.
    #[error("the published log cannot be read: {0}")]
    Unreadable(io::Error),
}

impl From<io::Error> for NoAnswer {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::NotFound {
            Self::NotThere("such file")
        } else {
            Self::Unreadable(error)
        }
    }
}

impl From<tlog_tiles::Error> for NoAnswer {
    fn from(error: tlog_tiles::Error) -> Self {
        Self::Unreadable(io::Error::other(error))
    }
}

/// Log indexes of the newest shares, by the hash of their header.
#[derive(Debug, Default)]
struct Hashes {
    indexes: HashMap<u64, u64, SecretState>,
    oldest_first: VecDeque<u64>,
}

/// Bytes of a hash that tell shares apart: those at the other end are zeros, where the work is.
fn short(hash: &BlockHash) -> u64 {
    u64::from_le_bytes(*hash.as_byte_array().first_chunk().expect("a hash has 32 bytes"))
}

impl Hashes {
    fn add(&mut self, logged: impl IntoIterator<Item = Logged>) {
        for (hash, index) in logged {
            if self.indexes.insert(short(&hash), index).is_none() {
                self.oldest_first.push_back(short(&hash));
            }
        }
        self.forget_beyond();
    }

    /// Adds shares that are older than all that are there, oldest first.
    fn add_older(&mut self, logged: Vec<Logged>) {
        for (hash, index) in logged.into_iter().rev() {
            if let hash_map::Entry::Vacant(place) = self.indexes.entry(short(&hash)) {
                place.insert(index);
                self.oldest_first.push_front(short(&hash));
            }
        }
        self.forget_beyond();
    }

    fn forget_beyond(&mut self) {
        let beyond = self.oldest_first.len().saturating_sub(HASHES_MAX);
        for oldest in self.oldest_first.drain(..beyond) {
            self.indexes.remove(&oldest);
        }
    }
}

impl Published {
    /// Why the log is not signed, for good.
    pub fn refused(&self) -> Option<&str> {
        self.0.refused.get().map(String::as_str)
    }

    fn signed(&self) -> Result<Arc<Signed>, NoAnswer> {
        let signed = self.0.signed.read().unwrap_or_else(PoisonError::into_inner).clone();
        signed.ok_or(NoAnswer::NotThere("checkpoint"))
    }

    /// What heads are signed with, for those who check them.
    pub fn public_key(&self) -> &str {
        &self.0.public_key
    }

    /// The newest signed head, and the note that says it.
    ///
    /// # Errors
    /// [`NoAnswer::NotThere`] at a start, until the log has been read; so of everything else here.
    pub fn checkpoint(&self) -> Result<(Head, String), NoAnswer> {
        let signed = self.signed()?;
        Ok((signed.head, signed.note.clone()))
    }

    /// The newest head that enough witnesses have cosigned, as a note.
    pub fn cosigned(&self) -> Option<String> {
        self.0.cosigned.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// This is it.
    pub fn cosigned_is(&self, note: String) {
        *self.0.cosigned.write().unwrap_or_else(PoisonError::into_inner) = Some(note);
    }

    /// A tile or a bundle of entries.
    ///
    /// # Errors
    /// It is not there yet, or cannot be read.
    pub fn file(&self, place: &Place) -> Result<Vec<u8>, NoAnswer> {
        Ok(self.signed()?.tiles.read(place)?)
    }

    /// Path from an entry to the root of the log's first `size` entries.
    ///
    /// # Errors
    /// The log is not that long, or cannot be read.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<TreeHash>, NoAnswer> {
        self.signed()?.inclusion(index, size)
    }

    /// Proof that the log's first `from` entries have not changed since (RFC 6962 §2.1.2), for a tree of `to` entries.
    ///
    /// # Errors
    /// The log is not that long, or cannot be read.
    pub fn consistency(&self, from: u64, to: u64) -> Result<Vec<TreeHash>, NoAnswer> {
        let signed = self.signed()?;
        if !(1..=to).contains(&from) || to > signed.head.size {
            return Err(NoAnswer::NotThere("log of that size"));
        }
        Ok(prove_tree(to, from, &signed.tiles)?.into_iter().map(|hash| hash.0).collect())
    }

    /// Index of a share by the hash of its header, if it is among the newest [`HASHES_MAX`]. Those from before the start are
    /// there a moment after it, if they were among as many entries.
    pub fn find(&self, hash: &BlockHash) -> Option<u64> {
        let hashes = self.0.hashes.read().unwrap_or_else(PoisonError::into_inner);
        hashes.indexes.get(&short(hash)).copied()
    }

    /// The receipt of an entry.
    ///
    /// # Errors
    /// The log does not reach there, or cannot be read.
    pub fn receipt(&self, index: u64) -> Result<Receipts, NoAnswer> {
        let signed = self.signed()?;
        let entry = signed.entries_from(index)?.swap_remove(0);
        let receipt = signed.receipt(index, entry)?;
        Ok(Receipts { checkpoint: signed.note.clone(), receipts: vec![receipt], next: index + 1 })
    }

    /// Receipts of the shares from an index on that are wanted, and of the jobs that they were hashed on: so the answer
    /// alone says what was hashed. Of at most so many entries, and about so many shares and bytes.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn receipts(
        &self,
        from: u64,
        entries_max: u64,
        shares_max: usize,
        is_wanted: impl Fn(&Share) -> bool,
    ) -> Result<Receipts, NoAnswer> {
        let signed = self.signed()?;
        let end = signed.head.size.min(from.saturating_add(entries_max));
        let mut next = from.min(signed.head.size);
        let (mut receipts, mut bytes, mut shares) = (Vec::new(), 0, 0);
        let mut jobs = HashSet::new();
        while next < end && shares < shares_max && bytes < RECEIPTS_BYTES_MAX {
            for entry in signed.entries_from(next)? {
                next += 1;
                let Ok((Entry::Share(share), _)) = Entry::decode(&entry) else { continue };
                if !is_wanted(&share) {
                    continue;
                }
                if jobs.insert(share.job) {
                    let job = signed.entries_from(share.job)?.swap_remove(0);
                    bytes += job.len();
                    receipts.push(signed.receipt(share.job, job)?);
                }
                bytes += entry.len();
                receipts.push(signed.receipt(next - 1, entry)?);
                shares += 1;
                if bytes >= RECEIPTS_BYTES_MAX {
                    break;
                }
            }
        }
        Ok(Receipts { checkpoint: signed.note.clone(), receipts, next })
    }
}

impl Signed {
    fn inclusion(&self, index: u64, size: u64) -> Result<Vec<TreeHash>, NoAnswer> {
        if index >= size || size > self.head.size {
            return Err(NoAnswer::NotThere("such entry"));
        }
        Ok(prove_record(size, index, &self.tiles)?.into_iter().map(|hash| hash.0).collect())
    }

    fn receipt(&self, index: u64, entry: Vec<u8>) -> Result<Receipt, NoAnswer> {
        Ok(Receipt { index, entry, path: self.inclusion(index, self.head.size)? })
    }

    /// Entries from an index on: at least one and at most those of one bundle.
    fn entries_from(&self, index: u64) -> Result<Vec<Vec<u8>>, NoAnswer> {
        let left = self.head.size.checked_sub(index).filter(|left| *left > 0);
        let left = left.ok_or(NoAnswer::NotThere("such entry"))?;
        let (number, skip) = (index / WIDTH as u64, (index % WIDTH as u64) as usize);
        let width = WIDTH.min(skip.saturating_add(usize::try_from(left).unwrap_or(WIDTH)));
        let bundle = self.tiles.read(&Place { row: Row::Entries, number, width })?;
        Ok(split_bundle(&bundle)?.into_iter().skip(skip).map(<[u8]>::to_vec).collect())
    }
}

/// Why publishing does not go on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("cannot write or read the published files: {0}")]
    Files(#[from] io::Error),
    #[error("the published files do not have the root of the log")]
    OtherRoot,
    #[error(
        "the share log does not go on from the head of {0} entries that was signed last: it is not published. If a backup was \
         restored, bring the newer log back; if that is lost, begin anew with another publish.key_file"
    )]
    Forked(u64),
    /// Told to stop: the rest is published at the next start.
    #[error("stopped")]
    Stopped,
}

/// The thread's own.
struct Publisher {
    log_dir: PathBuf,
    dir: PathBuf,
    network: Network,
    key: LogKey,
    heads: Heads,
    shown: Arc<Shown>,
    tiles: Tiles,
    follower: Follower,
    last: LastSigned,
}

/// Where a published log comes from, and where it goes.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// The log's segments.
    pub log: &'a Path,
    /// The folder for its files: can be lost, it is made anew.
    pub files: &'a Path,
    /// The file for the head that was signed last: must not be lost while the key is used.
    pub last_head: &'a Path,
}

/// Publishes a log for as long as heads come; it is read again only where the files end.
///
/// # Errors
/// A folder, a file or the log cannot be read, or the system has no thread to give.
pub fn start(places: Places<'_>, key: LogKey, heads: Heads) -> io::Result<(Published, JoinHandle<()>)> {
    let Places { log: log_dir, files: dir, last_head } = places;
    let verifier = key.verifier();
    let last = LastSigned::open(last_head.to_owned(), &verifier)?;
    fs::create_dir_all(dir)?;
    let tiles = open_tiles(dir)?;
    let follower = Follower::new(log_dir, tiles.size()).map_err(io::Error::other)?;
    let shown = Arc::new(Shown {
        public_key: key.public().to_owned(),
        signed: RwLock::new(None),
        hashes: RwLock::default(),
        cosigned: RwLock::default(),
        refused: OnceLock::new(),
    });
    let published = Published(Arc::clone(&shown));
    let (log_dir, dir, network) = (log_dir.to_owned(), dir.to_owned(), follower.network());
    let publisher = Publisher { log_dir, dir, network, key, heads, shown, tiles, follower, last };
    let thread = thread::Builder::new().name("publisher".to_owned()).spawn(move || publisher.run())?;
    Ok((published, thread))
}

/// What is damaged is written anew: it is all in the log.
fn open_tiles(dir: &Path) -> io::Result<Tiles> {
    Tiles::open(dir).or_else(|damage| {
        if !matches!(damage.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) {
            return Err(damage);
        }
        warn!(dir = %dir.display(), error = %damage, "the published files are damaged: they are written anew");
        fs::remove_dir_all(dir)?;
        Tiles::open(dir)
    })
}

impl Publisher {
    fn run(mut self) {
        let (mut failing, mut is_first) = (false, true);
        while let Some((head, logged)) = self.heads.next() {
            self.shown.hashes.write().unwrap_or_else(PoisonError::into_inner).add(logged);
            while let Err(failure) = self.publish(&head) {
                if matches!(failure, Failure::Stopped) {
                    return self.write_last();
                }
                if matches!(failure, Failure::Forked(_)) {
                    return self.refuse(&failure);
                }
                if !mem::replace(&mut failing, true) {
                    error!(error = %failure, "the log is not published at the moment: tried again every second");
                }
                thread::sleep(RETRY_PAUSE);
                if self.heads.ended() {
                    return;
                }
                if let Err(failure) = self.begin_again(matches!(failure, Failure::OtherRoot)) {
                    warn!(error = %failure, "the published log cannot be opened");
                }
            }
            if mem::take(&mut failing) {
                info!("the log is published again");
            }
            if mem::take(&mut is_first) {
                self.recall();
            }
        }
        self.write_last();
    }

    /// Takes up the shares that the log had before this process.
    fn recall(&self) {
        let signed = self.shown.signed.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(signed) = signed else { return };
        match recall::newest_shares(&signed, self.heads.tags(), || self.heads.ended()) {
            Ok(older) => self.shown.hashes.write().unwrap_or_else(PoisonError::into_inner).add_older(older),
            Err(error) => warn!(%error, "shares from before the start cannot be asked for by hash"),
        }
    }

    fn write_last(&mut self) {
        if let Err(error) = self.last.write() {
            warn!(%error, "the head that was signed last cannot be written down");
        }
    }

    /// Signs nothing any more, until the end.
    fn refuse(&self, failure: &Failure) {
        error!(error = %failure, "the log is not signed");
        let _ = self.shown.refused.set(failure.to_string());
        while self.heads.next().is_some() {}
    }

    /// Brings the files up to the head, and shows it.
    fn publish(&mut self, head: &Head) -> Result<(), Failure> {
        // The log has been replaced by an older copy of it.
        if let Some(last) = self.last.before().filter(|last| last.size > head.size) {
            return Err(Failure::Forked(last.size));
        }
        if self.tiles.size() > head.size {
            return Err(Failure::OtherRoot);
        }
        let mut written = Ok(());
        let Self { tiles, heads, .. } = self;
        self.follower.follow(head.size, |entries| {
            written = tiles.append(entries);
            written.is_ok() && !heads.ended()
        })?;
        written?;
        if self.follower.next() < head.size {
            return Err(Failure::Stopped);
        }
        let root = tree_hash(head.size, &self.tiles).map_err(io::Error::other)?;
        if root.0 != head.root {
            return Err(Failure::OtherRoot);
        }
        if let Some(last) = self.last.before()
            && (last.size > 0 && tree_hash(last.size, &self.tiles).map_err(io::Error::other)?.0 != last.root)
        {
            return Err(Failure::Forked(last.size));
        }
        let (note, tiles) = (self.key.sign(head, self.network), self.tiles.clone());
        if let Err(error) = self.last.signed(&note) {
            warn!(%error, "the head that was signed last cannot be written down");
        }
        let signed = Arc::new(Signed { head: *head, note, tiles });
        *self.shown.signed.write().unwrap_or_else(PoisonError::into_inner) = Some(signed);
        Ok(())
    }

    /// From what is on disk, or from nothing if that is wrong.
    fn begin_again(&mut self, from_nothing: bool) -> Result<(), Failure> {
        if from_nothing {
            warn!(dir = %self.dir.display(), "the published files do not agree with the log: they are written anew");
            fs::remove_dir_all(&self.dir)?;
        }
        self.tiles = open_tiles(&self.dir)?;
        self.follower = Follower::new(&self.log_dir, self.tiles.size())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
