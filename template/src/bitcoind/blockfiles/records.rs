//! One block file: records of a network's magic, a length and a block, one after the other.
//!
//! The bytes are whatever the file holds. A record that is given out has a length in its bounds, lies in the file, and
//! its header has the work that it names; its transactions are another matter, of [`decode`].

use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::p2p::Magic;
use bitcoin::{Block, BlockHash, TxMerkleNode, Txid, block, merkle_tree};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::RangeInclusive;
use stratum::target::{Target, TargetError};

/// Lengths of a block: a header and a count at least, what consensus allows at most.
pub const BLOCK_BYTES: RangeInclusive<u32> = HEADER_BYTES as u32 + 1..=4_000_000; // the constant is 80

/// Length of a [`Key`].
pub const KEY_BYTES: usize = 8;
const HEADER_BYTES: usize = 80;
const MAGIC_BYTES: usize = 4;
const LENGTH_BYTES: usize = 4;
/// Padding that is looked at in one go.
const PADDING_BYTES: usize = 4_096;

/// What a node has its block files' bytes XORed with, by their place in the file; zeros leave them as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Key(pub [u8; KEY_BYTES]);

impl Key {
    /// Turns bytes that stand at a place of a file into those that are meant, or back.
    pub fn apply(self, at: u64, bytes: &mut [u8]) {
        let start = (at % KEY_BYTES as u64) as usize; // below 8
        for (byte, key) in bytes.iter_mut().zip(self.0.iter().cycle().skip(start)) {
            *byte ^= key;
        }
    }
}

/// A block of a file, as far as its header tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Where the block begins, behind magic and length.
    pub offset: u64,
    /// Its bytes; one of [`BLOCK_BYTES`].
    pub length: u32,
    /// Its name, which meets its target.
    pub hash: BlockHash,
    /// Its header.
    pub header: block::Header,
}

/// Why there is no block at a place of a file.
#[derive(Debug, thiserror::Error)]
#[error("at byte {offset}: {fault}")]
pub struct RecordError {
    /// The place.
    pub offset: u64,
    /// What is wrong there.
    pub fault: Fault,
}

/// What can be wrong with a place of a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Neither a record nor padding.
    #[error("neither a block nor padding")]
    NoRecord,
    /// The file ends before the block does.
    #[error("the file ends within a block")]
    Cut,
    /// No block is so long, or so short.
    #[error("a block of {0} bytes")]
    Length(u32),
    /// The header's target is none.
    #[error("block {0}: {1}")]
    Target(BlockHash, TargetError),
    /// The header's hash is above its target.
    #[error("block {0} has not the work that it names")]
    Work(BlockHash),
    /// Another block than the one that was there.
    #[error("not block {0}")]
    Other(BlockHash),
    /// What follows the header is no list of transactions.
    #[error("block {0}: {1}")]
    Transactions(BlockHash, bitcoin::consensus::encode::Error),
    /// The header is one of other transactions.
    #[error("the transactions of block {0} are not those of its Merkle root")]
    MerkleRoot(BlockHash),
}

impl Fault {
    fn at(self, offset: u64) -> RecordError {
        RecordError { offset, fault: self }
    }
}

/// The records of a file, as they stand in it. Ends at the first error.
#[derive(Debug)]
pub struct Records<R> {
    file: R,
    key: Key,
    magic: Magic,
    /// Where the file is read from next.
    position: u64,
    /// Where the next record begins, or padding before it.
    next: u64,
    length: u64,
}

impl<R: Read + Seek> Records<R> {
    /// From the beginning of a file.
    ///
    /// # Errors
    /// How long it is cannot be found out.
    pub fn new(mut file: R, key: Key, magic: Magic) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        Ok(Self { file, key, magic, position: 0, next: 0, length })
    }

    /// Reads what the file holds at a place, less than wanted only at its end.
    fn read_at<'a>(&mut self, at: u64, bytes: &'a mut [u8]) -> io::Result<&'a mut [u8]> {
        // Within what a buffered reader has, this costs nothing.
        self.file.seek_relative(at.wrapping_sub(self.position).cast_signed())?;
        self.position = at;
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.position += filled as u64; // usize fits u64
        Ok(&mut bytes[..filled])
    }

    /// Where the next magic stands; `None` if nothing but padding follows.
    ///
    /// Padding is zeros as they are on the disk: a node makes room for blocks without its key. A magic may begin with
    /// such a zero, so it is looked for first.
    fn skip_padding(&mut self) -> Result<Option<u64>, RecordError> {
        let mut at = self.next;
        let mut raw = [0; PADDING_BYTES];
        loop {
            let raw = self.read_at(at, &mut raw).map_err(|error| Fault::Io(error).at(at))?;
            let mut plain = raw.to_vec();
            self.key.apply(at, &mut plain);
            let ends = raw.len() < PADDING_BYTES;
            for (place, byte) in raw.iter().enumerate() {
                let here = at + place as u64; // usize fits u64
                match plain.get(place..place + MAGIC_BYTES) {
                    Some(magic) if magic == self.magic.to_bytes() => return Ok(Some(here)),
                    None if !ends => break,
                    _ if *byte == 0 => {}
                    Some(_) => return Err(Fault::NoRecord.at(here)),
                    None => return Err(Fault::Cut.at(here)),
                }
            }
            if ends {
                return Ok(None);
            }
            // The last three bytes are looked at again, with those that follow.
            at += (PADDING_BYTES - MAGIC_BYTES + 1) as u64;
        }
    }

    fn record(&mut self) -> Result<Option<Record>, RecordError> {
        let Some(start) = self.skip_padding()? else { return Ok(None) };
        let mut bytes = [0; LENGTH_BYTES + HEADER_BYTES];
        let at = start + MAGIC_BYTES as u64;
        let read = self.read_at(at, &mut bytes).map_err(|error| Fault::Io(error).at(at))?.len();
        self.key.apply(at, &mut bytes[..read]);
        let (length, header) = bytes.split_first_chunk().expect("more than four bytes");
        let length = u32::from_le_bytes(*length);
        let offset = at + LENGTH_BYTES as u64;
        if read < bytes.len() {
            return Err(Fault::Cut.at(start));
        }
        if !BLOCK_BYTES.contains(&length) {
            return Err(Fault::Length(length).at(start));
        }
        if offset + u64::from(length) > self.length {
            return Err(Fault::Cut.at(start));
        }
        let header = deserialize(header).expect("any 80 bytes are a header");
        let hash = worked(&header).map_err(|fault| fault.at(start))?;
        self.next = offset + u64::from(length);
        Ok(Some(Record { offset, length, hash, header }))
    }
}

impl<R: Read + Seek> Iterator for Records<R> {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next > self.length {
            return None;
        }
        let record = self.record();
        if record.is_err() {
            self.next = u64::MAX;
        }
        record.transpose()
    }
}

/// The hash of a header, if it meets the target that the header names.
fn worked(header: &block::Header) -> Result<BlockHash, Fault> {
    let hash = header.block_hash();
    let target =
        Target::from_nbits(header.bits.to_consensus()).map_err(|error| Fault::Target(hash, error))?;
    match target.is_met_by(&hash.to_byte_array()) {
        true => Ok(hash),
        false => Err(Fault::Work(hash)),
    }
}

/// Takes the bytes of a record, without magic, length and key, for the block that it must be; gives the names of its
/// transactions, too, which its header vouches for.
///
/// # Errors
/// It is another block, or not all of it.
pub fn decode(bytes: &[u8], hash: BlockHash) -> Result<(Block, Vec<Txid>), Fault> {
    let named = bytes.first_chunk::<HEADER_BYTES>();
    if named.is_none_or(|header| BlockHash::hash(header) != hash) {
        return Err(Fault::Other(hash));
    }
    let block: Block = deserialize(bytes).map_err(|error| Fault::Transactions(hash, error))?;
    let names: Vec<_> = block.txdata.iter().map(bitcoin::Transaction::compute_txid).collect();
    let root = merkle_tree::calculate_root(names.iter().map(|name| name.to_raw_hash()));
    match root.map(TxMerkleNode::from_raw_hash) == Some(block.header.merkle_root) {
        true => Ok((block, names)),
        false => Err(Fault::MerkleRoot(hash)),
    }
}
