//! The tree and its entries in files of 256, as c2sp.org/tlog-tiles lays them out: any server of static files can carry
//! them.
//!
//! `tile/0/N` holds leaves, `tile/1/N` roots of 256 of them, and so on; `tile/entries/N` the entries themselves, each
//! behind its length. A full file never changes. What is not full yet is in memory alone: at a start it is read from
//! the log again. All of it is: who loses the folder, or finds a file in it damaged, removes it.

use crate::tree::{TreeHash, leaves};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use tlog_tiles::{Hash, HashReader, Tile, tree_hash};

/// Hashes of a full tile, and entries of a full bundle.
pub const WIDTH: usize = 256;
/// Levels of the tree in one level of tiles.
const HEIGHT: u8 = 8;
const HASH_BYTES: usize = 32;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// Entries.
    Entries,
    /// Hashes, of leaves on level 0.
    Level(u8),
}

impl Row {
    /// The files of a row with so much in it: all of them full, but for the last one as it may be.
    pub fn places(self, count: u64) -> impl Iterator<Item = Place> {
        let width = WIDTH as u64;
        (0..count.div_ceil(width)).map(move |number| {
            let left = (count - number * width).min(width);
            Place { row: self, number, width: left as usize } // at most 256
        })
    }
}

/// Names a file, or its first lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// What is in it.
    pub row: Row,
    /// Its number in the row.
    pub number: u64,
    /// How much of it, 1 to [`WIDTH`].
    pub width: usize,
}

impl Place {
    /// The path below the log's address: `tile/0/x001/x234/067`, `tile/entries/000.p/17`.
    pub fn path(&self) -> String {
        let row = match self.row {
            Row::Entries => "entries".to_owned(),
            Row::Level(level) => level.to_string(),
        };
        let mut groups = vec![format!("{:03}", self.number % 1000)];
        let mut rest = self.number / 1000;
        while rest > 0 {
            groups.push(format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        groups.reverse();
        let part = if self.width < WIDTH { format!(".p/{}", self.width) } else { String::new() };
        format!("tile/{row}/{}{part}", groups.join("/"))
    }

    /// Reads a path; `None` if it is not exactly the one of a place.
    pub fn parse(path: &str) -> Option<Self> {
        let (row, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let row = if row == "entries" { Row::Entries } else { Row::Level(row.parse().ok()?) };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().ok()?),
            None => (rest, WIDTH),
        };
        let groups = number.split('/').map(|group| group.strip_prefix('x').unwrap_or(group));
        let digits = groups.into_iter().try_fold(0_u64, |sum, group| {
            sum.checked_mul(1000)?.checked_add(group.parse().ok().filter(|group| *group < 1000)?)
        })?;
        let place = Self { row, number: digits, width };
        // What is written in another way, and widths outside, are told by this.
        ((1..=WIDTH).contains(&width) && place.path() == path).then_some(place)
    }
}

/// The files of a log and what fills none yet. A clone shows the log as it is now, whatever is added later.
#[derive(Debug, Clone)]
pub struct Tiles {
    dir: PathBuf,
    /// Number of entries.
    size: u64,
    /// Of each level the hashes that fill no tile yet.
    edge: Vec<Vec<TreeHash>>,
    /// Entries that fill no bundle yet, as they stand in one.
    bundle: Vec<u8>,
}

impl Tiles {
    /// Goes on where the full files in `dir` end.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let mut tiles = Self { dir: dir.to_owned(), size: 0, edge: vec![Vec::new()], bundle: Vec::new() };
        let mut full = tiles.count_full(0)?;
        tiles.size = full * WIDTH as u64;
        for level in 1.. {
            if full == 0 {
                break;
            }
            let below = |number| tiles.hashes(level - 1, number, WIDTH).map(|hashes| root(&hashes));
            let above = full / WIDTH as u64;
            // A crash may have come between a tile and the one above that it fills.
            if above > 0 && tiles.is_missing(level, above - 1)? {
                let hashes = ((above - 1) * WIDTH as u64..above * WIDTH as u64).map(below);
                let hashes: Vec<TreeHash> = hashes.collect::<io::Result<_>>()?;
                tiles.write(Row::Level(level), above - 1, hashes.as_flattened())?;
            }
            let edge = (above * WIDTH as u64..full).map(below).collect::<io::Result<_>>()?;
            tiles.edge.push(edge);
            full = above;
        }
        Ok(tiles)
    }

    /// Number of entries.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root of the tree over them.
    ///
    /// # Errors
    /// A tile cannot be read.
    pub fn root(&self) -> io::Result<TreeHash> {
        tree_hash(self.size, self).map(|root| root.0).map_err(io::Error::other)
    }

    /// Adds entries and writes the files that they fill. After an error these tiles are of no use: open them again.
    ///
    /// # Errors
    /// A file cannot be written.
    ///
    /// # Panics
    /// If an entry is longer than 65,535 bytes: jobs, the longest, end before 32,000.
    pub fn append(&mut self, entries: &[&[u8]]) -> io::Result<()> {
        for (entry, leaf) in entries.iter().zip(leaves(entries)) {
            let length = u16::try_from(entry.len()).expect("no entry is that long");
            self.bundle.extend(length.to_be_bytes());
            self.bundle.extend_from_slice(entry);
            self.edge[0].push(leaf);
            self.size += 1;
            if self.edge[0].len() == WIDTH {
                let number = self.size / WIDTH as u64 - 1;
                self.write(Row::Entries, number, &self.bundle)?;
                self.bundle.clear();
                self.close(0, number)?;
            }
        }
        Ok(())
    }

    /// Writes a level's tile, which is full, and passes its root on.
    fn close(&mut self, level: u8, number: u64) -> io::Result<()> {
        let at = usize::from(level);
        self.write(Row::Level(level), number, self.edge[at].as_flattened())?;
        let root = root(self.edge[at].as_flattened());
        self.edge[at].clear();
        if self.edge.len() == at + 1 {
            self.edge.push(Vec::new());
        }
        self.edge[at + 1].push(root);
        if self.edge[at + 1].len() == WIDTH {
            return self.close(level + 1, number / WIDTH as u64);
        }
        Ok(())
    }

    /// What stands at a place.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if these entries do not reach there; or the file cannot be read.
    pub fn read(&self, place: &Place) -> io::Result<Vec<u8>> {
        let level = match place.row {
            Row::Level(level) => level,
            Row::Entries => 0,
        };
        let nodes = self.size.checked_shr(u32::from(HEIGHT) * u32::from(level)).unwrap_or(0);
        let end =
            place.number.checked_mul(WIDTH as u64).and_then(|start| start.checked_add(place.width as u64));
        // What is on disk behind that is no part of what was signed.
        if end.is_none_or(|end| end > nodes) {
            return Err(ErrorKind::NotFound.into());
        }
        match place.row {
            Row::Level(level) => self.hashes(level, place.number, place.width),
            Row::Entries => self.entries(place.number, place.width),
        }
    }

    fn entries(&self, number: u64, width: usize) -> io::Result<Vec<u8>> {
        let mut bundle = if number == self.size / WIDTH as u64 {
            self.bundle.clone()
        } else {
            fs::read(self.path(Row::Entries, number))?
        };
        let end = split_bundle(&bundle)?.iter().take(width).map(|entry| entry.len() + 2).sum();
        if split_bundle(&bundle)?.len() < width {
            return Err(ErrorKind::NotFound.into());
        }
        bundle.truncate(end);
        Ok(bundle)
    }

    fn hashes(&self, level: u8, number: u64, width: usize) -> io::Result<Vec<u8>> {
        let in_tiles = self.size.checked_shr(u32::from(HEIGHT) * (u32::from(level) + 1)).unwrap_or(0);
        let mut hashes = match self.edge.get(usize::from(level)) {
            Some(edge) if number == in_tiles => edge.as_flattened().to_vec(),
            _ => fs::read(self.path(Row::Level(level), number))?,
        };
        if hashes.len() < width * HASH_BYTES {
            return Err(ErrorKind::NotFound.into());
        }
        hashes.truncate(width * HASH_BYTES);
        Ok(hashes)
    }

    /// How many full tiles a level has, from its first one on without a gap.
    fn count_full(&self, level: u8) -> io::Result<u64> {
        let is_full = |number: u64| self.is_missing(level, number).map(|missing| !missing);
        let mut beyond = 1;
        while is_full(beyond - 1)? {
            beyond *= 2;
        }
        let (mut full, mut missing) = (beyond / 2, beyond - 1);
        while full < missing {
            let middle = full + (missing - full) / 2;
            if is_full(middle)? { full = middle + 1 } else { missing = middle }
        }
        Ok(full)
    }

    fn is_missing(&self, level: u8, number: u64) -> io::Result<bool> {
        match fs::metadata(self.path(Row::Level(level), number)) {
            Ok(file) => Ok(file.len() != (WIDTH * HASH_BYTES) as u64),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn path(&self, row: Row, number: u64) -> PathBuf {
        self.dir.join(Place { row, number, width: WIDTH }.path())
    }

    /// Whole or not at all, also after a crash.
    fn write(&self, row: Row, number: u64, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(row, number);
        let unfinished = path.with_extension("new");
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(unfinished, path)
    }
}

impl HashReader for Tiles {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        let read = |index: &u64| {
            let tile = Tile::from_index(HEIGHT, *index);
            let width = tile.width() as usize; // at most 256
            let hashes = self.hashes(tile.level(), tile.level_index(), width);
            let hashes = hashes.map_err(|error| tlog_tiles::Error::InvalidInput(error.to_string()))?;
            tile.hash_at_index(&hashes, *index)
        };
        indexes.iter().map(read).collect()
    }
}

/// The root over a full tile.
fn root(hashes: &[u8]) -> TreeHash {
    Tile::subtree_hash(hashes).0
}

/// The entries of a bundle.
///
/// # Errors
/// [`ErrorKind::InvalidData`] if the lengths do not add up.
pub fn split_bundle(mut bundle: &[u8]) -> io::Result<Vec<&[u8]>> {
    let mut entries = Vec::new();
    while !bundle.is_empty() {
        let split = bundle
            .split_first_chunk()
            .and_then(|(length, rest)| rest.split_at_checked(usize::from(u16::from_be_bytes(*length))));
        let (entry, rest) = split.ok_or(ErrorKind::InvalidData)?;
        entries.push(entry);
        bundle = rest;
    }
    Ok(entries)
}
