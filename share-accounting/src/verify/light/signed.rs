//! The log under a signed head, of which only what is asked for is fetched: nothing of it is believed before hashes lead
//! from it to the head's root.

use crate::entry::{DecodeError, Entry};
use crate::publish::Head;
use crate::publish::tiles::{Place, Row, WIDTH, split_bundle};
use crate::tree::{Tree, TreeHash, leaves};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::{Debug, Display};
use std::rc::Rc;
use tlog_tiles::{
    Hash, HashReader, Tile, TileHashReader, TileReader, record_hash, stored_hash_index, tree_hash,
};

/// A log of so many entries would take all disks there are; more would not fit the numbers that name places in its tree.
const ENTRIES_MAX: u64 = 1 << 48;
/// Levels of the tree in one level of tiles.
const HEIGHT: u8 = 8;
/// Bytes of bundles that are kept; beyond it all are fetched again when they are asked for.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// Bytes that are fetched at most: for so many the whole log had better be read.
const FETCHED_BYTES_MAX: u64 = 4 << 30;

/// Gives a file of the published log, which nobody has checked.
pub type Fetch<'a, E> = dyn Fn(&Place) -> Result<Vec<u8>, E> + 'a;

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LightError<E> {
    /// It cannot be fetched.
    #[error("{0}")]
    Fetch(E),
    /// Signed, but nothing that can be.
    #[error("the signed head is of {0} entries, which no log has, or of none and yet has a root")]
    Head(u64),
    /// Not what was signed: who has changed it is not known.
    #[error("{0} is not what the signed head covers")]
    NotSigned(String),
    /// Signed, and no entry.
    #[error("entry {index} under the signed head is none: {what}")]
    NoEntry {
        /// Its index.
        index: u64,
        /// What is wrong with it.
        what: DecodeError,
    },
    /// There is no such entry under the head.
    #[error("entry {0} is not under the signed head")]
    Beyond(u64),
    /// Who answers for the pool names another entry than the one that was asked for.
    #[error("entry {entry} was named as the one that registers payee index {payee}, and is not")]
    Payee {
        /// The index.
        payee: u32,
        /// What was named.
        entry: u64,
    },
    /// The search goes on for too long.
    #[error(
        "{} bytes were fetched and more would be needed: the whole log had better be read",
        FETCHED_BYTES_MAX
    )]
    TooMuch,
}

/// A log under a signed head.
pub struct SignedLog<'a, E> {
    head: Head,
    tiles: HashTiles<'a, E>,
    bundles: RefCell<Bundles>,
}

#[derive(Default)]
struct Bundles {
    by_number: HashMap<u64, Rc<Vec<Entry>>>,
    bytes: usize,
}

/// The tiles of hashes, as fetched; those that were found to lead to the root are kept.
struct HashTiles<'a, E> {
    fetch: &'a Fetch<'a, E>,
    fetched: Cell<u64>,
    authentic: RefCell<HashMap<Tile, Vec<u8>>>,
    /// Why the last reading has failed: the library's own error has no room for it.
    failed: RefCell<Option<LightError<E>>>,
}

impl<'a, E: Debug + Display> SignedLog<'a, E> {
    /// The log under a head, which the caller has seen to be signed.
    ///
    /// # Errors
    /// There is no such log.
    pub fn new(head: Head, fetch: &'a Fetch<'a, E>) -> Result<Self, LightError<E>> {
        // Of an empty one there is nothing to fetch that would show it.
        let is_empty = head.size == 0 && head.root == Tree::default().root();
        if !is_empty && !(1..=ENTRIES_MAX).contains(&head.size) {
            return Err(LightError::Head(head.size));
        }
        let tiles = HashTiles {
            fetch,
            fetched: Cell::new(0),
            authentic: RefCell::default(),
            failed: RefCell::default(),
        };
        Ok(Self { head, tiles, bundles: RefCell::default() })
    }

    /// What the same place has under another head.
    ///
    /// # Errors
    /// As [`SignedLog::new`].
    pub fn under(&self, head: Head) -> Result<Self, LightError<E>> {
        Self::new(head, self.tiles.fetch)
    }

    /// What is signed.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Bytes that were fetched.
    pub fn fetched_bytes(&self) -> u64 {
        self.tiles.fetched.get()
    }

    /// Root over the first entries: that of each earlier head of the same log.
    ///
    /// # Errors
    /// The head has fewer, or hashes cannot be had.
    pub fn root(&self, size: u64) -> Result<TreeHash, LightError<E>> {
        if size > self.head.size {
            return Err(LightError::Beyond(size.saturating_sub(1)));
        }
        self.read(|hashes| tree_hash(size, hashes)).map(|root| root.0)
    }

    /// Whether an entry of the log is these bytes.
    ///
    /// # Errors
    /// There is no such entry, or hashes cannot be had.
    pub fn holds(&self, index: u64, entry: &[u8]) -> Result<bool, LightError<E>> {
        if index >= self.head.size {
            return Err(LightError::Beyond(index));
        }
        let leaf = self.read(|hashes| hashes.read_hashes(&[stored_hash_index(0, index)]))?;
        Ok(leaf == [record_hash(entry)])
    }

    /// An entry.
    ///
    /// # Errors
    /// There is no such entry, or its bundle cannot be had.
    pub fn entry(&self, index: u64) -> Result<Entry, LightError<E>> {
        let at = (index % WIDTH as u64) as usize; // below 256
        let bundle = self.bundle(index / WIDTH as u64)?;
        bundle.get(at).cloned().ok_or(LightError::Beyond(index))
    }

    /// Number of bundles.
    pub(super) fn bundles(&self) -> u64 {
        self.head.size.div_ceil(WIDTH as u64)
    }

    /// The entries of a bundle, as far as the head goes.
    pub(super) fn bundle(&self, number: u64) -> Result<Rc<Vec<Entry>>, LightError<E>> {
        if let Some(known) = self.bundles.borrow().by_number.get(&number) {
            return Ok(Rc::clone(known));
        }
        let first = number.saturating_mul(WIDTH as u64);
        let left = self.head.size.checked_sub(first).filter(|left| *left > 0);
        let left = left.ok_or(LightError::Beyond(first))?;
        let width = usize::try_from(left).unwrap_or(WIDTH).min(WIDTH);
        let place = Place { row: Row::Entries, number, width };
        let bytes = self.tiles.fetch(&place)?;
        let entries = split_bundle(&bytes).ok().filter(|entries| entries.len() == width);
        let entries = entries.ok_or_else(|| LightError::NotSigned(place.path()))?;
        if !self.covers(first, &leaves(&entries))? {
            return Err(LightError::NotSigned(place.path()));
        }
        let decoded = (first..).zip(entries).map(|(index, bytes)| decode(index, bytes));
        let decoded = Rc::new(decoded.collect::<Result<Vec<_>, _>>()?);
        let mut bundles = self.bundles.borrow_mut();
        if bundles.bytes.saturating_add(bytes.len()) > KEPT_BYTES_MAX {
            *bundles = Bundles::default();
        }
        bundles.bytes += bytes.len();
        bundles.by_number.insert(number, Rc::clone(&decoded));
        Ok(decoded)
    }

    /// Whether these are the leaves from `first` on, which begins a bundle.
    fn covers(&self, first: u64, leaves: &[TreeHash]) -> Result<bool, LightError<E>> {
        if leaves.len() == WIDTH {
            let root =
                self.read(|hashes| hashes.read_hashes(&[stored_hash_index(HEIGHT, first >> HEIGHT)]))?;
            return Ok(root == [Tile::subtree_hash(leaves.as_flattened())]);
        }
        let indexes: Vec<u64> =
            (first..).take(leaves.len()).map(|index| stored_hash_index(0, index)).collect();
        let signed = self.read(|hashes| hashes.read_hashes(&indexes))?;
        Ok(signed.iter().map(|hash| &hash.0).eq(leaves))
    }

    /// Reads hashes that lead to the head's root.
    fn read<T>(
        &self,
        of: impl FnOnce(&TileHashReader<'_>) -> Result<T, tlog_tiles::Error>,
    ) -> Result<T, LightError<E>> {
        let reader = TileHashReader::new(self.head.size, Hash(self.head.root), &self.tiles);
        of(&reader).map_err(|error| {
            let failed = self.tiles.failed.borrow_mut().take();
            failed.unwrap_or_else(|| LightError::NotSigned(format!("a tile of hashes ({error})")))
        })
    }
}

fn decode<E>(index: u64, bytes: &[u8]) -> Result<Entry, LightError<E>> {
    match Entry::decode(bytes) {
        Ok((entry, length)) if length == bytes.len() => Ok(entry),
        Ok((_, length)) => {
            let what = DecodeError::TrailingBytes(bytes.len() - length);
            Err(LightError::NoEntry { index, what })
        }
        Err(what) => Err(LightError::NoEntry { index, what }),
    }
}

impl<E> HashTiles<'_, E> {
    fn fetch(&self, place: &Place) -> Result<Vec<u8>, LightError<E>> {
        if self.fetched.get() > FETCHED_BYTES_MAX {
            return Err(LightError::TooMuch);
        }
        let bytes = (self.fetch)(place).map_err(LightError::Fetch)?;
        self.fetched.set(self.fetched.get() + bytes.len() as u64); // usize fits u64
        Ok(bytes)
    }

    fn tile(&self, tile: &Tile) -> Result<Vec<u8>, LightError<E>> {
        if let Some(known) = self.authentic.borrow().get(tile) {
            return Ok(known.clone());
        }
        let width = tile.width() as usize; // at most 256
        let place = Place { row: Row::Level(tile.level()), number: tile.level_index(), width };
        let bytes = self.fetch(&place)?;
        if bytes.len() != width * size_of::<TreeHash>() {
            return Err(LightError::NotSigned(place.path()));
        }
        Ok(bytes)
    }
}

impl<E> TileReader for HashTiles<'_, E> {
    fn height(&self) -> u8 {
        HEIGHT
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        tiles.iter().map(|tile| self.tile(tile)).collect::<Result<_, _>>().map_err(|error| {
            *self.failed.borrow_mut() = Some(error);
            tlog_tiles::Error::InvalidTile
        })
    }

    fn save_tiles(&self, tiles: &[Tile], data: &[Vec<u8>]) {
        let mut authentic = self.authentic.borrow_mut();
        for (tile, bytes) in tiles.iter().zip(data) {
            authentic.entry(*tile).or_insert_with(|| bytes.clone());
        }
    }
}
