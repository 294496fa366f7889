//! Reads the log from its files: every entry in order, or the reason why not.

use super::segment::{
    Blocks, Decoded, End, Entries, Origin, Position, SEGMENT_HEADER_BYTES, SegmentHeader, any_block_from,
};
use super::{Corruption, LogError};
use crate::entry::{Entry, SHARE_BYTES};
use crate::tree::{Tree, TreeHash, leaves};
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Iterates over `(index, Entry)`; holds one segment in memory at a time.
///
/// It may run beside a writer and then ends at what was durable when a segment was read. It ends
/// with an error at the first thing that is wrong, never silently; entries of a block before its first bad one were given by
/// then.
#[derive(Debug)]
pub struct Reader {
    segments: Vec<Segment>,
    next: usize,
    open: Option<OpenSegment>,
    /// Room for the next segment.
    room: Vec<u8>,
    /// Of the last block read.
    origin: Option<Origin>,
    tail: Option<Tail>,
    /// Over the entries up to the last block read, if it was asked for.
    tree: Option<Tree>,
    /// Tree and last origin at the newest segment's start, once that is being read.
    newest: (Option<Tree>, Option<Origin>),
    failed: bool,
}

/// The segment being read.
#[derive(Debug)]
struct OpenSegment {
    number: u32,
    bytes: Vec<u8>,
    blocks: Blocks,
    /// Of the last block, and where those lie that are not in the tree yet, if it was asked for.
    entries: Option<Entries>,
    unhashed: Vec<Range<usize>>,
    /// Where the next segment says that this one ends.
    following: Option<Position>,
}

/// A segment file with an intact header.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub path: PathBuf,
    pub header: SegmentHeader,
}

/// Where the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// Number of the newest segment.
    pub segment: u32,
    /// Behind the last block.
    pub position: Position,
    /// Bytes of the newest segment up to there.
    pub intact_bytes: u64,
    /// Bytes behind: a write that a crash has torn, never acknowledged.
    pub torn_bytes: u64,
    /// Who wrote the last block, if there is one.
    pub origin: Option<Origin>,
}

/// The name of a segment's file.
pub(super) fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}.seg"))
}

/// What the directory holds.
#[derive(Debug)]
pub(super) struct Listing {
    /// Oldest first, without gaps.
    pub segments: Vec<Segment>,
    /// A newest segment that a crash left without a header; nothing was ever committed to it.
    pub unfinished: Option<PathBuf>,
}

/// Lists the segments and checks that each goes on where the headers say.
pub(super) fn list(dir: &Path) -> Result<Listing, LogError> {
    let mut numbers = Vec::new();
    for file in fs::read_dir(dir).map_err(|error| LogError::io("list", dir, error))? {
        let name = file.map_err(|error| LogError::io("list", dir, error))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".seg")?.parse::<u32>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    let mut segments: Vec<Segment> = Vec::new();
    let mut unfinished = None;
    for (expected, &number) in (0..).zip(&numbers) {
        if number != expected {
            return Err(LogError::Missing(expected));
        }
        let path = segment_path(dir, number);
        let corrupt = |what| LogError::Corrupt { segment: number, offset: 0, what };
        let Some(header) = read_header(&path)? else {
            let newest = numbers.last() == Some(&number);
            let bytes = fs::read(&path).map_err(|error| LogError::io("read", &path, error))?;
            if newest && !any_block_from(&bytes, 0) {
                unfinished = Some(path);
                break;
            }
            return Err(corrupt(Corruption::SegmentHeader));
        };
        let log_id = segments.first().map_or(header.log_id, |first| first.header.log_id);
        if (header.number, header.log_id) != (number, log_id) {
            return Err(corrupt(Corruption::Unchained));
        }
        segments.push(Segment { path, header });
    }
    Ok(Listing { segments, unfinished })
}

/// `None` if the file is too short or holds no intact one.
pub(super) fn read_header(path: &Path) -> Result<Option<SegmentHeader>, LogError> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    let mut file = File::open(path).map_err(|error| LogError::io("open", path, error))?;
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(SegmentHeader::decode(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(LogError::io("read", path, error)),
    }
}

impl Reader {
    /// Reads the whole log in a directory.
    ///
    /// # Errors
    /// If the directory cannot be listed, or a segment is missing or has a bad header.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        Self::open_from(dir, 0)
    }

    /// Reads from the start of a segment on.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn open_from(dir: &Path, segment: u32) -> Result<Self, LogError> {
        let next = segment as usize; // u32 fits usize
        Ok(Self::over(list(dir)?.segments, next))
    }

    pub(super) fn over(segments: Vec<Segment>, next: usize) -> Self {
        Self {
            segments,
            next,
            open: None,
            room: Vec::new(),
            origin: None,
            tail: None,
            tree: None,
            newest: (None, None),
            failed: false,
        }
    }

    /// Builds the tree over the entries while it reads them, on top of that over all entries before; `origin` is that
    /// of the last block before.
    pub(super) fn with_tree(self, before: Tree, origin: Option<Origin>) -> Self {
        let begins_at = self.segments.get(self.next).map(|segment| segment.header.start.index);
        assert_eq!(begins_at, Some(before.size()), "the tree is over all entries before");
        Self { tree: Some(before), origin, ..self }
    }

    /// The tree over all entries, and how it and the last origin were where the newest segment begins; if it was asked
    /// for the tree, and has read to the end.
    pub(super) fn into_trees(self) -> Option<(Tree, Tree, Option<Origin>)> {
        Some((self.tree?, self.newest.0?, self.newest.1))
    }

    /// Headers of all segments, oldest first.
    pub fn headers(&self) -> impl Iterator<Item = &SegmentHeader> {
        self.segments.iter().map(|segment| &segment.header)
    }

    /// About how many entries there are: the newest segment's are counted as if all were shares.
    pub fn about_entries(&self) -> u64 {
        let Some(Segment { path, header }) = self.segments.last() else { return 0 };
        let bytes = fs::metadata(path).map_or(0, |file| file.len());
        header.start.index.saturating_add(bytes / SHARE_BYTES as u64)
    }

    /// Where the log ends; known once the iterator has ended without an error.
    pub fn tail(&self) -> Option<Tail> {
        self.tail
    }

    fn next_entry(&mut self) -> Result<Option<(u64, Entry)>, LogError> {
        loop {
            let Some(open) = &mut self.open else {
                if !self.open_next()? {
                    return Ok(None);
                }
                continue;
            };
            if let Some(Decoded { index, entry, place }) = open.next_entry()? {
                if self.tree.is_some() {
                    open.unhashed.push(place);
                }
                return Ok(Some((index, entry)));
            }
            if let Some(tree) = &mut self.tree {
                tree.extend(open.take_leaves());
            }
            if !open.next_block()? {
                self.close()?;
            }
        }
    }

    /// Opens the next segment; `false` if there is none.
    fn open_next(&mut self) -> Result<bool, LogError> {
        let Some(Segment { path, header }) = self.segments.get(self.next) else { return Ok(false) };
        let mut bytes = std::mem::take(&mut self.room);
        bytes.clear();
        let read = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
        read.map_err(|error| LogError::io("read", path, error))?;
        let following = self.segments.get(self.next + 1).map(|next| next.header.start);
        let end = following.map_or(End::Open, |start| End::At(start.last));
        let blocks = Blocks::new(header, end, self.origin);
        if following.is_none() {
            self.newest = (self.tree.clone(), self.origin);
        }
        let (number, unhashed) = (header.number, Vec::new());
        self.open = Some(OpenSegment { number, bytes, blocks, entries: None, unhashed, following });
        self.next += 1;
        Ok(true)
    }

    /// Closes the open segment, which was read to its end.
    fn close(&mut self) -> Result<(), LogError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let (offset, position) = (open.blocks.offset(), open.blocks.position());
        self.origin = open.blocks.origin();
        match open.following {
            Some(start) if start != position => {
                return Err(corrupt(open.number, (offset, Corruption::Unchained)));
            }
            Some(_) => {}
            None => {
                self.tail = Some(Tail {
                    segment: open.number,
                    position,
                    intact_bytes: offset as u64, // usize fits u64
                    torn_bytes: (open.bytes.len() - offset) as u64,
                    origin: self.origin,
                });
            }
        }
        self.room = open.bytes;
        Ok(())
    }
}

impl OpenSegment {
    /// Goes on with the next block; `false` if there is none.
    fn next_block(&mut self) -> Result<bool, LogError> {
        let block = self.blocks.next_block(&self.bytes).map_err(|at| corrupt(self.number, at))?;
        self.entries = block.map(|block| block.entries());
        Ok(self.entries.is_some())
    }

    /// The next entry of the block.
    fn next_entry(&mut self) -> Result<Option<Decoded>, LogError> {
        let Some(entries) = &mut self.entries else { return Ok(None) };
        entries.next_entry(&self.bytes).map_err(|at| corrupt(self.number, at))
    }

    /// Hashes of the entries that are not in the tree yet.
    fn take_leaves(&mut self) -> Vec<TreeHash> {
        let unhashed = std::mem::take(&mut self.unhashed);
        let entries: Vec<_> = unhashed.into_iter().map(|place| &self.bytes[place]).collect();
        leaves(&entries)
    }
}

/// What is wrong at an offset of a segment.
fn corrupt(segment: u32, (offset, what): (usize, Corruption)) -> LogError {
    LogError::Corrupt { segment, offset: offset as u64, what } // usize fits u64
}

impl Iterator for Reader {
    type Item = Result<(u64, Entry), LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let entry = self.next_entry();
        self.failed = entry.is_err();
        entry.transpose()
    }
}
