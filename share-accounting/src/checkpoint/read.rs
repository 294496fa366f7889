//! Reads a checkpoint, of which every byte may be wrong: no allocation by a declared length that is not there.

use super::{CRC_BYTES, FORMAT_VERSION, HEAD_BYTES, MAGIC};
use crate::books::{Books, JournalError};
use crate::commitment::weights_root;
use crate::entry::{DecodeError, Fields};
use crate::log::Start;
use crate::log::segment::{Origin, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::tree::{Tree, TreeHash};
use crate::window::{Kept, RUN_BYTES, Run, Runs, Span, Window};
use std::io::{self, Read};
use stratum::target::Work;

/// Runs that are read at once.
const RUNS_AT_ONCE: usize = 1 << 15;

/// Why a checkpoint is of no use; the log is then read from further back.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Unusable(#[from] Reason);

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is no checkpoint of this version")]
    Version,
    #[error("its length is not what it says")]
    Length,
    #[error("its checksum is wrong")]
    Checksum,
    #[error(transparent)]
    Field(#[from] DecodeError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("its {0} is wrong")]
    Wrong(&'static str),
}

/// What a checkpoint holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Header of the segment that begins with these books.
    pub header: SegmentHeader,
    /// Payee indexes.
    pub payees: usize,
    /// Work within the window.
    pub total: Work,
}

/// Reads a checkpoint's bytes, as a start does; for any bytes it returns.
///
/// # Errors
/// A start would not use it.
pub fn check(bytes: &[u8]) -> Result<Contents, Unusable> {
    let (head, rest) = Head::read(bytes, bytes.len() as u64)?; // usize fits u64
    let (books, Start { header, .. }) = head.books(rest)?;
    Ok(Contents { header, payees: books.registry.len(), total: books.window.total() })
}

/// What stands at the front of a checkpoint: enough to see whether the rest is wanted.
#[derive(Debug)]
pub(crate) struct Head {
    /// Of its segment.
    pub header: SegmentHeader,
    /// Of its window.
    pub span: Span,
    origin: Option<Origin>,
    root: TreeHash,
    weights_root: TreeHash,
    kept: Kept,
    journal_bytes: u64,
    runs: u64,
}

impl Head {
    /// Reads it from a file of `length` bytes; gives back what reads the rest.
    ///
    /// # Errors
    /// It cannot be read, is none, or does not agree with the length.
    pub fn read<R: Read>(from: R, length: u64) -> Result<(Self, Summed<R>), Unusable> {
        let mut from = Summed { from, crc: 0 };
        let mut bytes = [0; HEAD_BYTES];
        from.read(&mut bytes).map_err(Reason::from)?;
        let head = Self::decode(&bytes)?;
        let peaks = u64::from(head.header.start.index.count_ones()) * 32;
        let front = HEAD_BYTES as u64 + peaks + CRC_BYTES as u64;
        let runs = head.runs.checked_mul(RUN_BYTES as u64);
        let all = runs.and_then(|runs| front.checked_add(head.journal_bytes)?.checked_add(runs));
        if all == Some(length) { Ok((head, from)) } else { Err(Reason::Length.into()) }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Reason> {
        let mut fields = Fields::new(bytes);
        if (fields.array()?, fields.u16()?) != (MAGIC, FORMAT_VERSION) {
            return Err(Reason::Version);
        }
        let header = SegmentHeader::decode(fields.bytes(SEGMENT_HEADER_BYTES)?);
        let header = header.ok_or(Reason::Wrong("segment header"))?;
        let any = flag(fields.u8()?)?;
        let origin = Origin { site: fields.u16()?, epoch: fields.u16()?, sequence: fields.u64()? };
        if !any && origin != Origin::default() {
            return Err(Reason::Wrong("last block"));
        }
        let (root, weights_root) = (fields.array()?, fields.array()?);
        let span = Span::new(fields.u64()?, fields.u64()?).ok_or(Reason::Wrong("span"))?;
        let (size, largest) = (Work(fields.u128()?), Work(fields.u128()?));
        let kept = Kept { size, largest, dropped: flag(fields.u8()?)? };
        let (journal_bytes, runs) = (fields.u64()?, fields.u64()?);
        fields.end()?;
        Ok(Self {
            header,
            span,
            origin: any.then_some(origin),
            root,
            weights_root,
            kept,
            journal_bytes,
            runs,
        })
    }

    /// Reads the rest, and checks that it adds up to what the head and the segment's header say.
    ///
    /// # Errors
    /// It cannot be read, or does not add up.
    pub fn books<R: Read>(self, mut from: Summed<R>) -> Result<(Books, Start), Unusable> {
        let tree = self.tree(&mut from)?;
        let Self { header, origin, kept, .. } = self;
        // At most as long as the file, which has the length that the head says.
        let mut journal = vec![0; usize::try_from(self.journal_bytes).map_err(|_| Reason::Length)?];
        from.read(&mut journal).map_err(Reason::from)?;
        let mut books = Books::of_journal(header.network, &journal).map_err(Reason::from)?;
        drop(journal);
        if books.size > header.start.index {
            return Err(Reason::Wrong("journal").into());
        }
        let runs = read_runs(self.runs, books.registry.scripts(), &mut from)?;
        let mut crc = [0; CRC_BYTES];
        let expected = from.crc;
        from.read(&mut crc).map_err(Reason::from)?;
        if u32::from_le_bytes(crc) != expected {
            return Err(Reason::Checksum.into());
        }
        books.window = Window::restore(kept, runs).ok_or(Reason::Wrong("window"))?;
        (books.total_work, books.size) = (Work(header.work), header.start.index);
        let expected = if kept.dropped { None } else { Some(books.total_work.min(kept.size)) };
        let total = books.window.total();
        if total > books.total_work || expected.is_some_and(|expected| expected != total) {
            return Err(Reason::Wrong("work").into());
        }
        if weights_root(&books.weights()) != self.weights_root {
            return Err(Reason::Wrong("weights root").into());
        }
        Ok((books, Start { header, tree, origin }))
    }

    fn tree<R: Read>(&self, from: &mut Summed<R>) -> Result<Tree, Reason> {
        let size = self.header.start.index;
        let mut peaks = vec![TreeHash::default(); size.count_ones() as usize]; // at most 64
        peaks.iter_mut().try_for_each(|peak| from.read(peak))?;
        let tree = Tree::restore(size, peaks).filter(|tree| tree.root() == self.root);
        tree.ok_or(Reason::Wrong("tree root"))
    }
}

fn flag(byte: u8) -> Result<bool, Reason> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Reason::Wrong("flag")),
    }
}

/// So many runs, all of scripts with a number below `scripts`.
fn read_runs<R: Read>(count: u64, scripts: u32, from: &mut Summed<R>) -> Result<Runs, Reason> {
    let (mut runs, mut left) = (Runs::default(), count);
    let mut bytes = vec![0; RUNS_AT_ONCE * RUN_BYTES];
    while left > 0 {
        let now = left.min(RUNS_AT_ONCE as u64);
        let bytes = &mut bytes[..now as usize * RUN_BYTES]; // at most RUNS_AT_ONCE
        from.read(bytes)?;
        for bytes in bytes.as_chunks().0 {
            let run = Run::decode(*bytes).filter(|run| run.payee < scripts);
            runs.push(run.ok_or(Reason::Wrong("run"))?);
        }
        left -= now;
    }
    Ok(runs)
}

/// Adds up the checksum of what is read.
#[derive(Debug)]
pub(crate) struct Summed<R> {
    from: R,
    crc: u32,
}

impl<R: Read> Summed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.from.read_exact(bytes)?;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        Ok(())
    }
}
