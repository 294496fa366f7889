//! The block files of a node (`blocks/blk*.dat`), read without asking it.
//!
//! - [`records`]: what one file holds; [`tree`]: which chain that is
//!
//! What is checked: that each block has the work that it names, that it names the target which the network's rules
//! give (on testnet3 and testnet4: none easier than any), that blocks go back to the network's first one, and, of a
//! block that is looked into, that its transactions are those of its header. What is trusted: that the node has judged
//! the rest, scripts and amounts and times, and on a signet its signature, before it wrote a block down; and that no
//! better chain is missing. A branch that the node refuses for such a reason is not known as one.
//!
//! A node writes at the end of its last file: from the first place of it that holds no whole block, it counts as not
//! written yet. Anywhere else such a place is an error.

pub mod records;
#[cfg(test)]
mod tests;
pub mod tree;

use bitcoin::p2p::Magic;
use bitcoin::{Block, BlockHash, Network, OutPoint, Txid};
use records::{Fault, KEY_BYTES, Key, Record, RecordError, Records, decode};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tree::{Found, HeaderTree, Place, Spot, TreeError};

/// Name of the file with the key, in the folder of the block files; older nodes have none.
const KEY_FILE: &str = "xor.dat";

/// Why block files say nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockFilesError {
    /// Something cannot be read.
    #[error("{}: {error}", .path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It has none.
    #[error("{} holds no block files (blk00000.dat and further ones)", .0.display())]
    Empty(PathBuf),
    /// Files are numbered without gaps.
    #[error("{} is missing; a node that prunes deletes its oldest block files, and its others tell nothing without them", .0.display())]
    Missing(PathBuf),
    /// A key has another size.
    #[error("{} is no key, which has 8 bytes", .0.display())]
    Key(PathBuf),
    /// A file of another network, or obfuscated with another key.
    #[error("{} begins with {found}, {}; blocks of {expected} begin with {}", .path.display(), whose(*.found), .magic)]
    Network {
        /// The file.
        path: PathBuf,
        /// The bytes that it begins with.
        found: Magic,
        /// The network that it should be of.
        expected: Network,
        /// The bytes that it should begin with.
        magic: Magic,
    },
    /// A place of a file that is no block.
    #[error("{}, {error}", .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The place, and what is wrong there.
        error: RecordError,
    },
    /// The blocks are no chain of the network.
    #[error("{}: {error}", .dir.display())]
    Tree {
        /// The folder.
        dir: PathBuf,
        /// What is wrong.
        error: TreeError,
    },
}

fn whose(magic: Magic) -> String {
    match Network::try_from(magic) {
        Ok(network) => format!("as {network} does"),
        Err(_) => format!("as no network does; perhaps {KEY_FILE} is not theirs"),
    }
}

/// The blocks of a folder, as they stood when it was opened. Nothing but headers is held in memory, and one block at a
/// time.
#[derive(Debug)]
pub struct BlockFiles {
    dir: PathBuf,
    key: Key,
    tree: HeaderTree,
}

impl BlockFiles {
    /// Reads the headers of all blocks. The node may be running. Before each file it tells how many are read, and how many
    /// there are.
    ///
    /// Every signet has a magic of its own: that of the first file is the one.
    ///
    /// # Errors
    /// A file cannot be read, is missing or damaged, or is of another network.
    pub fn open(
        dir: &Path,
        network: Network,
        mut tell: impl FnMut(u32, u32),
    ) -> Result<Self, BlockFilesError> {
        let files = count(dir)?;
        let mut folder = Folder { dir, key: key(dir)?, network, magic: None };
        let mut found = Vec::new();
        for file in 0..files {
            tell(file, files);
            folder.read(file, file + 1 == files, &mut found)?;
        }
        let key = folder.key;
        let tree = HeaderTree::connect(found, network);
        let tree = tree.map_err(|error| BlockFilesError::Tree { dir: dir.to_owned(), error })?;
        Ok(Self { dir: dir.to_owned(), key, tree })
    }

    /// The last block of the branch that has the most work.
    pub fn best_block(&self) -> BlockHash {
        self.tree.tip().hash
    }

    /// Where a block is; `None` if it is not there, or does not go back to the first one.
    pub fn place(&self, hash: BlockHash) -> Option<Place> {
        self.tree.get(hash).map(|(_, place)| place)
    }

    /// A block, of whatever branch; `None` as for [`BlockFiles::place`].
    ///
    /// # Errors
    /// It cannot be read, or its transactions are not those of its header.
    pub fn block(&self, hash: BlockHash) -> Result<Option<Block>, BlockFilesError> {
        let Some((found, _)) = self.tree.get(hash) else { return Ok(None) };
        read_block(&self.dir, self.key, found).map(|(block, _)| Some(block))
    }

    /// Which of some outputs the best chain makes at or above a height, and has not spent. All blocks from there on are
    /// read, if there is anything to look for.
    ///
    /// # Errors
    /// As of [`BlockFiles::block`].
    pub fn unspent(
        &self,
        outpoints: &HashSet<OutPoint>,
        from: u32,
    ) -> Result<HashSet<OutPoint>, BlockFilesError> {
        let makers: HashSet<Txid> = outpoints.iter().map(|outpoint| outpoint.txid).collect();
        let mut unspent = HashSet::new();
        if outpoints.is_empty() {
            return Ok(unspent);
        }
        for found in (from..u32::MAX).map_while(|height| self.tree.at(height)) {
            let (block, names) = read_block(&self.dir, self.key, found)?;
            for (transaction, txid) in block.txdata.iter().zip(names) {
                for input in &transaction.input {
                    unspent.remove(&input.previous_output);
                }
                if makers.contains(&txid) {
                    let made = (0..).zip(&transaction.output);
                    let made = made.filter(|(_, output)| !output.script_pubkey.is_op_return());
                    let made = made.map(|(vout, _)| OutPoint { txid, vout });
                    unspent.extend(made.filter(|outpoint| outpoints.contains(outpoint)));
                }
            }
        }
        Ok(unspent)
    }
}

/// What is needed to read the files one by one.
struct Folder<'a> {
    dir: &'a Path,
    key: Key,
    network: Network,
    /// Not known of a signet before its first file.
    magic: Option<Magic>,
}

impl Folder<'_> {
    /// Finds the blocks of a file.
    fn read(&mut self, number: u32, is_last: bool, found: &mut Vec<Found>) -> Result<(), BlockFilesError> {
        let path = path(self.dir, number);
        let io_error = |error| BlockFilesError::Io { path: path.clone(), error };
        let mut file = File::open(&path).map_err(io_error)?;
        let Some(magic) = self.magic(&mut file, &path)? else { return Ok(()) };
        let before = found.len();
        for record in Records::new(BufReader::new(file), self.key, magic).map_err(io_error)? {
            match record {
                Ok(Record { offset, length, hash, header }) => found.push(Found {
                    hash,
                    prev_hash: header.prev_blockhash,
                    time: header.time,
                    nbits: header.bits.to_consensus(),
                    spot: Spot { file: number, offset, length },
                }),
                Err(RecordError { fault: Fault::Io(error), .. }) => return Err(io_error(error)),
                Err(_) if is_last => break,
                Err(error) => return Err(BlockFilesError::Record { path, error }),
            }
        }
        // Of the block that is being written the header may be there, and room for the rest.
        let newest = found[before..].last().filter(|_| is_last);
        if let Some(newest) = newest
            && let Err(BlockFilesError::Record { .. }) = read_block(self.dir, self.key, newest)
        {
            found.pop();
        }
        Ok(())
    }

    /// What the blocks of a file begin with; `None` if there is none in it yet.
    fn magic(&mut self, file: &mut File, path: &Path) -> Result<Option<Magic>, BlockFilesError> {
        let mut bytes = [0; 4];
        match file.read_exact(&mut bytes).and_then(|()| file.rewind()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(BlockFilesError::Io { path: path.to_owned(), error }),
        }
        if bytes == [0; 4] {
            return Ok(None);
        }
        self.key.apply(0, &mut bytes);
        let found = Magic::from_bytes(bytes);
        let magic = *self.magic.get_or_insert_with(|| match (self.network, Network::try_from(found)) {
            (Network::Signet, Err(_)) => found,
            (network, _) => network.magic(),
        });
        if magic != found {
            let (path, expected) = (path.to_owned(), self.network);
            return Err(BlockFilesError::Network { path, found, expected, magic });
        }
        Ok(Some(magic))
    }
}

fn path(dir: &Path, file: u32) -> PathBuf {
    dir.join(format!("blk{file:05}.dat"))
}

/// How many block files there are.
fn count(dir: &Path) -> Result<u32, BlockFilesError> {
    let io_error = |error| BlockFilesError::Io { path: dir.to_owned(), error };
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error)? {
        let name = entry.map_err(io_error)?.file_name();
        let name = name.to_str().and_then(|name| name.strip_prefix("blk")?.strip_suffix(".dat"));
        numbers.extend(name.filter(|digits| digits.len() >= 5).and_then(|digits| digits.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    match (0..).zip(&numbers).find(|(expected, number)| expected != *number) {
        Some((missing, _)) => Err(BlockFilesError::Missing(path(dir, missing))),
        None if numbers.is_empty() => Err(BlockFilesError::Empty(dir.to_owned())),
        None => Ok(u32::try_from(numbers.len()).expect("each has a number of its own")),
    }
}

fn key(dir: &Path) -> Result<Key, BlockFilesError> {
    let path = dir.join(KEY_FILE);
    let mut bytes = Vec::new();
    // One byte more, to see that there are not more.
    match File::open(&path).and_then(|file| file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes)) {
        Ok(_) => match bytes.try_into() {
            Ok(key) => Ok(Key(key)),
            Err(_) => Err(BlockFilesError::Key(path)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Key::default()),
        Err(error) => Err(BlockFilesError::Io { path, error }),
    }
}

/// A whole block, and the names of its transactions.
fn read_block(dir: &Path, key: Key, found: &Found) -> Result<(Block, Vec<Txid>), BlockFilesError> {
    let Spot { file, offset, length } = found.spot;
    let path = path(dir, file);
    let mut bytes = vec![0; length as usize]; // u32 fits usize
    let read = File::open(&path).and_then(|mut file| {
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut bytes)
    });
    if let Err(error) = read {
        return Err(BlockFilesError::Io { path, error });
    }
    key.apply(offset, &mut bytes);
    decode(&bytes, found.hash)
        .map_err(|fault| BlockFilesError::Record { path, error: RecordError { offset, fault } })
}
