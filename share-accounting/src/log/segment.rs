//! Byte layouts of segments and blocks, and the recovery rules on bytes. Little-endian.
//!
//! Segment header, 96 bytes:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `SLUICLOG` |
//! | 8 | 2 | format version = 1 |
//! | 10 | 1 | network: 0 main, 1 testnet3, 2 testnet4, 3 signet, 4 regtest |
//! | 11 | 1 | 0 |
//! | 12 | 4 | segment number |
//! | 16 | 16 | log id |
//! | 32 | 8 | index of the first entry |
//! | 40 | 16 | credited work of all entries before |
//! | 56 | 32 | hash of the last committed block before, zeros in segment 0 |
//! | 88 | 4 | 0 |
//! | 92 | 4 | CRC-32C of bytes 0…91 |
//!
//! Block: header of 72 bytes, then the body: entries one after the other. Its hash is the SHA-256 of
//! header and body.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `SLBK` |
//! | 4 | 4 | body length |
//! | 8 | 4 | entry count |
//! | 12 | 2 | site |
//! | 14 | 2 | epoch |
//! | 16 | 8 | sequence: 0, 1, … within the epoch |
//! | 24 | 8 | index of the first entry |
//! | 32 | 32 | hash of the block before |
//! | 64 | 4 | CRC-32C of the body |
//! | 68 | 4 | CRC-32C of bytes 0…67 |

use super::Corruption;
use crate::entry::Entry;
use bitcoin::Network;
use bitcoin::hashes::{Hash, HashEngine, sha256};
use std::ops::Range;

/// Bytes of a segment header.
pub const SEGMENT_HEADER_BYTES: usize = 96;
/// Bytes of a block header.
pub const BLOCK_HEADER_BYTES: usize = 72;
/// Longest body of a block, in bytes.
pub const BLOCK_BODY_BYTES_MAX: usize = 32 << 20;

const SEGMENT_MAGIC: [u8; 8] = *b"SLUICLOG";
const FORMAT_VERSION: u16 = 1;
const BLOCK_MAGIC: [u8; 4] = *b"SLBK";

/// SHA-256 of a block.
pub type BlockDigest = [u8; 32];

/// What stands at the front of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The chain whose shares these are.
    pub network: Network,
    /// Number of the segment.
    pub number: u32,
    /// Drawn at random when the log was created.
    pub log_id: [u8; 16],
    /// Where the log stands at the segment's start.
    pub start: Position,
    /// Credited work of all entries before.
    pub work: u128,
}

/// A place in the log between two blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Index of the next entry.
    pub index: u64,
    /// Hash of the last block.
    pub last: BlockDigest,
}

/// Who wrote a block, and its number among theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin {
    /// Site that wrote it.
    pub site: u16,
    /// Epoch of the writing process.
    pub epoch: u16,
    /// Counts the blocks of an epoch from 0.
    pub sequence: u64,
}

/// What stands in front of a block's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    /// Body length in bytes.
    pub length: u32,
    /// Number of entries.
    pub count: u32,
    /// Who wrote it.
    pub origin: Origin,
    /// The place that the block continues.
    pub start: Position,
    body_crc: u32,
}

/// The byte that stands for a chain.
pub(crate) fn network_code(network: Network) -> u8 {
    match network {
        Network::Bitcoin => 0,
        Network::Testnet => 1,
        Network::Testnet4 => 2,
        Network::Signet => 3,
        _ => 4,
    }
}

fn network_of(code: u8) -> Option<Network> {
    let all = [Network::Bitcoin, Network::Testnet, Network::Testnet4, Network::Signet, Network::Regtest];
    all.get(usize::from(code)).copied()
}

/// The array at an offset of a header whose length was checked.
fn at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("the slice has N bytes")
}

impl SegmentHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[10] = network_code(self.network);
        bytes[12..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.log_id);
        bytes[32..40].copy_from_slice(&self.start.index.to_le_bytes());
        bytes[40..56].copy_from_slice(&self.work.to_le_bytes());
        bytes[56..88].copy_from_slice(&self.start.last);
        let crc = crc32c::crc32c(&bytes[..92]);
        bytes[92..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header at the front of `bytes`; `None` if there is no intact one of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..SEGMENT_HEADER_BYTES)?;
        let intact = at::<8>(bytes, 0) == SEGMENT_MAGIC
            && u16::from_le_bytes(at(bytes, 8)) == FORMAT_VERSION
            && bytes[11] == 0
            && at::<4>(bytes, 88) == [0; 4]
            && u32::from_le_bytes(at(bytes, 92)) == crc32c::crc32c(&bytes[..92]);
        intact.then_some(())?;
        Some(Self {
            network: network_of(bytes[10])?,
            number: u32::from_le_bytes(at(bytes, 12)),
            log_id: at(bytes, 16),
            start: Position { index: u64::from_le_bytes(at(bytes, 32)), last: at(bytes, 56) },
            work: u128::from_le_bytes(at(bytes, 40)),
        })
    }
}

impl BlockHeader {
    /// The header of a block with this body.
    ///
    /// # Panics
    /// If the body exceeds [`BLOCK_BODY_BYTES_MAX`].
    pub fn new(origin: Origin, start: Position, count: u32, body: &[u8]) -> Self {
        assert!(body.len() <= BLOCK_BODY_BYTES_MAX, "a block of {} bytes", body.len());
        // At most 2^25.
        Self { length: body.len() as u32, count, origin, start, body_crc: crc32c::crc32c(body) }
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; BLOCK_HEADER_BYTES] {
        let mut bytes = [0; BLOCK_HEADER_BYTES];
        bytes[..4].copy_from_slice(&BLOCK_MAGIC);
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.origin.site.to_le_bytes());
        bytes[14..16].copy_from_slice(&self.origin.epoch.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.origin.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.start.index.to_le_bytes());
        bytes[32..64].copy_from_slice(&self.start.last);
        bytes[64..68].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..68]);
        bytes[68..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..BLOCK_HEADER_BYTES)?;
        let intact = at::<4>(bytes, 0) == BLOCK_MAGIC
            && u32::from_le_bytes(at(bytes, 68)) == crc32c::crc32c(&bytes[..68]);
        intact.then_some(())?;
        Some(Self {
            length: u32::from_le_bytes(at(bytes, 4)),
            count: u32::from_le_bytes(at(bytes, 8)),
            origin: Origin {
                site: u16::from_le_bytes(at(bytes, 12)),
                epoch: u16::from_le_bytes(at(bytes, 14)),
                sequence: u64::from_le_bytes(at(bytes, 16)),
            },
            start: Position { index: u64::from_le_bytes(at(bytes, 24)), last: at(bytes, 32) },
            body_crc: u32::from_le_bytes(at(bytes, 64)),
        })
    }
}

/// Hash of a block.
pub(super) fn digest(header: &[u8], body: &[u8]) -> BlockDigest {
    let mut engine = sha256::Hash::engine();
    engine.input(header);
    engine.input(body);
    sha256::Hash::from_engine(engine).to_byte_array()
}

/// An intact block inside a segment's bytes.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// Its header.
    pub header: BlockHeader,
    /// Its entries, encoded.
    pub body: &'a [u8],
    /// Offset of the header in the segment.
    pub offset: usize,
}

/// The intact block at an offset; `None` if a checksum or the length is wrong.
pub(super) fn block_at(bytes: &[u8], offset: usize) -> Option<Block<'_>> {
    let header = BlockHeader::decode(bytes.get(offset..)?)?;
    let start = offset + BLOCK_HEADER_BYTES;
    let body = bytes.get(start..start.checked_add(header.length as usize)?)?;
    (crc32c::crc32c(body) == header.body_crc).then_some(Block { header, body, offset })
}

/// Whether an intact block begins anywhere from an offset on. A body is only read behind a header
/// whose own checksum is right, so that long damaged tails are searched in one pass.
pub(super) fn any_block_from(bytes: &[u8], offset: usize) -> bool {
    let rest = bytes.get(offset..).unwrap_or_default();
    let starts = rest.windows(BLOCK_MAGIC.len()).enumerate().filter(|(_, window)| *window == BLOCK_MAGIC);
    starts.into_iter().any(|(at, _)| block_at(bytes, offset + at).is_some())
}

/// Where a segment's committed blocks end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Newest segment: at the last intact block.
    Open,
    /// At the block with this hash, which the next segment names; what follows was never acknowledged.
    At(BlockDigest),
}

/// Steps through the blocks of one segment's bytes.
#[derive(Debug)]
pub struct Blocks {
    end: End,
    offset: usize,
    position: Position,
    /// Origin of the block before; unknown if reading began at this segment.
    origin: Option<Origin>,
}

impl Blocks {
    /// Starts behind the header of a segment; `origin` is that of the last block before it, if known.
    pub fn new(header: &SegmentHeader, end: End, origin: Option<Origin>) -> Self {
        Self { end, offset: SEGMENT_HEADER_BYTES, position: header.start, origin }
    }

    /// Offset behind the last block returned.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The place behind the last block returned.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Origin of the last block returned.
    pub fn origin(&self) -> Option<Origin> {
        self.origin
    }

    /// The next committed block of the segment's `bytes`; `None` at its end.
    ///
    /// # Errors
    /// The corruption and the offset it is at. A torn tail is no error: see [`Blocks::offset`].
    pub fn next_block<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Block<'a>>, (usize, Corruption)> {
        let offset = self.offset;
        if self.end == End::At(self.position.last) {
            return Ok(None);
        }
        let Some(block) = block_at(bytes, offset) else {
            return match self.end {
                End::At(_) => Err((offset, Corruption::LastBlockMissing)),
                End::Open if any_block_from(bytes, offset) => Err((offset, Corruption::Block)),
                End::Open => Ok(None),
            };
        };
        let (header, origin) = (block.header, block.header.origin);
        let in_sequence = match self.origin {
            Some(before) if before.epoch == origin.epoch => {
                before.sequence.checked_add(1) == Some(origin.sequence)
            }
            Some(_) => origin.sequence == 0,
            None => true,
        };
        let next_index = header.start.index.checked_add(header.count.into());
        let (true, true, Some(index)) = (in_sequence, header.start == self.position, next_index) else {
            return Err((offset, Corruption::OutOfOrder));
        };
        let body_at = offset + BLOCK_HEADER_BYTES;
        self.position = Position { index, last: digest(&bytes[offset..body_at], block.body) };
        self.origin = Some(origin);
        self.offset = body_at + block.body.len();
        Ok(Some(block))
    }
}

impl Block<'_> {
    /// Steps through its entries.
    pub fn entries(&self) -> Entries {
        let (body, index) = (self.offset + BLOCK_HEADER_BYTES, self.header.start.index);
        Entries {
            offset: body,
            end: body + self.body.len(),
            index,
            end_index: index + u64::from(self.header.count),
        }
    }
}

/// Steps through the entries of one block in its segment's bytes.
#[derive(Debug, Clone, Copy)]
pub struct Entries {
    offset: usize,
    end: usize,
    index: u64,
    end_index: u64,
}

impl Entries {
    /// The next entry of the block in the segment's `bytes`; `None` at its end.
    ///
    /// # Errors
    /// The offset in the segment of the first byte that is no entry, and why.
    pub fn next_entry(&mut self, bytes: &[u8]) -> Result<Option<Decoded>, (usize, Corruption)> {
        let (offset, index) = (self.offset, self.index);
        if (offset == self.end) != (index == self.end_index) {
            return Err((offset, Corruption::OutOfOrder));
        }
        if offset == self.end {
            return Ok(None);
        }
        let decoded = Entry::decode(&bytes[offset..self.end]);
        let (entry, length) = decoded.map_err(|error| (offset, error.into()))?;
        self.offset += length;
        self.index += 1;
        Ok(Some(Decoded { index, entry, place: offset..self.offset }))
    }
}

/// An entry of a block.
#[derive(Debug)]
pub struct Decoded {
    /// Its log index.
    pub index: u64,
    /// The entry.
    pub entry: Entry,
    /// Where its bytes lie in the segment.
    pub place: Range<usize>,
}

/// What one segment's bytes hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The segment's header.
    pub header: SegmentHeader,
    /// Entries of all intact blocks.
    pub entries: Vec<(u64, Entry)>,
    /// Offset where the intact blocks end; the rest is a torn write.
    pub intact_bytes: usize,
}

/// Applies the recovery rules to the bytes of a newest segment; for any bytes it returns, quickly.
///
/// # Errors
/// The corruption and the offset it is at.
pub fn recover_bytes(bytes: &[u8]) -> Result<Recovered, (usize, Corruption)> {
    let header = SegmentHeader::decode(bytes).ok_or((0, Corruption::SegmentHeader))?;
    let mut entries = Vec::new();
    let mut blocks = Blocks::new(&header, End::Open, None);
    while let Some(block) = blocks.next_block(bytes)? {
        let mut of_block = block.entries();
        while let Some(Decoded { index, entry, .. }) = of_block.next_entry(bytes)? {
            entries.push((index, entry));
        }
    }
    let intact_bytes = blocks.offset();
    Ok(Recovered { header, entries, intact_bytes })
}
