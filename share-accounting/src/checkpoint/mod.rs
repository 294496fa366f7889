//! The books as they are where a segment of the log begins, so that a start reads little more than one segment.
//!
//! `NNNNNNNN.books` stands beside the segment of that number. The log alone is the truth: a checkpoint that is
//! damaged, of another log or version, or does not agree with its segment's header is removed, and an earlier one is
//! used, or none. The audit and the publisher never look at one.
//!
//! When a segment is full, the accounting thread copies its books for the start of the next one. The copy shares all
//! but the newest shares of the window and the newest entries of the journal, so it takes less than a millisecond for
//! 50 million shares; a thread of its own writes the file, and makes it durable piece by piece, since a sync of the log
//! waits for what other files have pending. If that fails there is a warning, if it takes longer than the next segment
//! that one is left out, and the turn of a later one comes. At a start that had to read more than the newest segment,
//! the same is done for that. Writing at starts alone would need no copy, but then the first start after months of
//! running would read months.
//!
//! The process ends once a file that is being written is there: seconds for a window of hundreds of megabytes.
//!
//! The file, little-endian:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `SLUICBKS` |
//! | 8 | 2 | format version = 1 |
//! | 10 | 96 | header of the segment, as it stands there: log, number, first entry, work and last block before |
//! | 106 | 1 | 1, or 0 if there is no block before: then the next 12 bytes are 0 |
//! | 107 | 12 | site u16, epoch u16, sequence u64 of the last block before |
//! | 119 | 32 | root of the tree over all entries before |
//! | 151 | 32 | weights root, as jobs commit to it |
//! | 183 | 16 | the window's span: numerator u64, denominator u64 |
//! | 199 | 16 | W |
//! | 215 | 16 | the largest W so far |
//! | 231 | 1 | 1 if the window has dropped shares, else 0 |
//! | 232 | 8 | bytes of the journal |
//! | 240 | 8 | runs of the window |
//! | 248 | 32 each | roots of the tree's complete subtrees, largest first |
//! | | | journal: index u64 and entry, for each that is no share and no job and from which the books follow |
//! | | 8 each | runs of equal shares, oldest first: script number u32, pot i8, count u24 |
//! | | 4 | CRC-32C of all before |

mod files;
mod read;

pub(crate) use files::{Keeper, newest};
use read::Head;
pub use read::{Contents, Unusable, check};

use crate::books::{Books, BooksCopy, JournalError};
use crate::commitment::weights_root;
use crate::log::Start;
use crate::log::segment::SEGMENT_HEADER_BYTES;
use crate::window::{Run, Span};
use std::io::{self, Write};
use stratum::target::Work;

const MAGIC: [u8; 8] = *b"SLUICBKS";
const FORMAT_VERSION: u16 = 1;
/// Bytes in front of the subtrees' roots.
const HEAD_BYTES: usize = 248;
const CRC_BYTES: usize = 4;

/// A copy of the books at a segment's start; cheap to make.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    start: Start,
    /// Of the settings that the window follows: with another one it is of no use.
    span: Span,
    books: BooksCopy,
}

impl Checkpoint {
    /// # Panics
    /// If the books are not those at that start.
    pub fn new(start: Start, span: Span, books: BooksCopy) -> Self {
        let header = &start.header;
        assert_eq!((books.size, books.total_work), (header.start.index, Work(header.work)));
        Self { start, span, books }
    }

    /// Number of the segment.
    pub fn segment(&self) -> u32 {
        self.start.header.number
    }

    /// Writes the file, in few and large pieces.
    ///
    /// # Errors
    /// As the writer, or [`io::ErrorKind::InvalidData`] if the journal does not give the books back.
    pub fn write_to(&self, out: impl Write) -> io::Result<()> {
        let mut out = Summed { out, crc: 0 };
        out.write_all(&self.head().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?)?;
        self.books.journal.pieces().try_for_each(|piece| out.write_all(piece))?;
        let (_, runs) = self.books.window.kept();
        let mut bytes = Vec::new();
        for piece in runs.pieces() {
            bytes.clear();
            bytes.extend(piece.iter().copied().flat_map(Run::encode));
            out.write_all(&bytes)?;
        }
        let crc = out.crc;
        out.write_all(&crc.to_le_bytes())
    }

    /// Everything in front of the journal.
    fn head(&self) -> Result<Vec<u8>, JournalError> {
        let Start { header, tree, origin } = &self.start;
        let (kept, runs) = self.books.window.kept();
        let mut head = Vec::with_capacity(HEAD_BYTES + tree.peaks().len() * 32);
        head.extend(MAGIC);
        head.extend(FORMAT_VERSION.to_le_bytes());
        let encoded: [u8; SEGMENT_HEADER_BYTES] = header.encode();
        head.extend(encoded);
        head.push(origin.is_some().into());
        let origin = origin.unwrap_or_default();
        head.extend(origin.site.to_le_bytes());
        head.extend(origin.epoch.to_le_bytes());
        head.extend(origin.sequence.to_le_bytes());
        head.extend(tree.root());
        head.extend(weights_root(&self.books()?.weights()));
        head.extend(self.span.numerator().to_le_bytes());
        head.extend(self.span.denominator().to_le_bytes());
        head.extend(kept.size.0.to_le_bytes());
        head.extend(kept.largest.0.to_le_bytes());
        head.push(kept.dropped.into());
        head.extend(self.books.journal.length().to_le_bytes());
        head.extend((runs.len() as u64).to_le_bytes()); // usize fits u64
        assert_eq!(head.len(), HEAD_BYTES);
        head.extend(tree.peaks().iter().flatten());
        Ok(head)
    }

    /// The books, as whoever reads the file will have them.
    fn books(&self) -> Result<Books, JournalError> {
        let pieces: Vec<_> = self.books.journal.pieces().collect();
        let mut books = Books::of_journal(self.start.header.network, &pieces.concat())?;
        books.window = self.books.window.clone();
        Ok(books)
    }
}

/// Adds up the checksum of what is written.
struct Summed<W> {
    out: W,
    crc: u32,
}

impl<W: Write> Summed<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.out.write_all(bytes)
    }
}

#[cfg(test)]
pub(crate) mod tests;
