//! Follows a log that is being written: the bytes of each entry, once it is durable.

use super::reader::{list, read_header, segment_path};
use super::segment::{BLOCK_HEADER_BYTES, BlockHeader, SEGMENT_HEADER_BYTES, block_at};
use super::{Corruption, LogError};
use bitcoin::Network;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Reads entries in order, up to where its caller knows that they are committed.
///
/// What stands behind that is never looked at: it may be the rest of a commit that failed.
#[derive(Debug)]
pub struct Follower {
    dir: PathBuf,
    network: Network,
    segment: u32,
    file: File,
    /// Of the next block in the file.
    offset: u64,
    /// Index of the first entry of that block.
    index: u64,
    /// Entries before this one are not wanted.
    wanted: u64,
}

impl Follower {
    /// Starts at an entry, which may be one that is still to come.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn new(dir: &Path, wanted: u64) -> Result<Self, LogError> {
        let segments = list(dir)?.segments;
        let first = segments.iter().rev().find(|segment| segment.header.start.index <= wanted);
        let header = &first.ok_or(LogError::Missing(0))?.header;
        let mut follower = Self {
            dir: dir.to_owned(),
            network: header.network,
            segment: header.number,
            file: open(dir, header.number)?,
            offset: SEGMENT_HEADER_BYTES as u64,
            index: header.start.index,
            wanted,
        };
        while follower.skip_block()? {}
        Ok(follower)
    }

    /// The log's chain.
    pub fn network(&self) -> Network {
        self.network
    }

    /// Index of the next entry.
    pub fn next(&self) -> u64 {
        self.wanted
    }

    /// Gives out the bytes of the entries from the next one up to `size`, a number of entries behind which a commit
    /// ended, one block after the other, as long as `visit` wants more.
    ///
    /// # Errors
    /// The log cannot be read, or its bytes are wrong: those of blocks before were given out.
    pub fn follow(&mut self, size: u64, mut visit: impl FnMut(&[&[u8]]) -> bool) -> Result<(), LogError> {
        while self.wanted < size {
            if self.move_on()? {
                continue;
            }
            let header = self.header()?.ok_or_else(|| self.corrupt(Corruption::LastBlockMissing))?;
            let mut bytes = vec![0; BLOCK_HEADER_BYTES + header.length as usize]; // u32 fits usize
            self.file.read_exact_at(&mut bytes, self.offset).map_err(|error| self.io("read", error))?;
            let block = block_at(&bytes, 0).ok_or_else(|| self.corrupt(Corruption::Block))?;
            let (mut of_block, mut entries) = (block.entries(), Vec::new());
            while let Some(decoded) = of_block.next_entry(&bytes).map_err(|(_, what)| self.corrupt(what))? {
                if decoded.index >= self.wanted {
                    entries.push(&bytes[decoded.place]);
                }
            }
            let goes_on = visit(&entries);
            self.step(&header);
            self.wanted = self.index;
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// Passes a block that ends before what is wanted; `false` if the next one does not.
    fn skip_block(&mut self) -> Result<bool, LogError> {
        match self.header()? {
            Some(header) if header.start.index + u64::from(header.count) <= self.wanted => {
                self.step(&header);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Goes on with the next segment if it begins here: what this one holds behind was never committed.
    fn move_on(&mut self) -> Result<bool, LogError> {
        let next = self.segment + 1;
        let header = match read_header(&segment_path(&self.dir, next)) {
            Ok(Some(header)) if header.start.index == self.index => header,
            Ok(_) => return Ok(false),
            Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        self.file = open(&self.dir, next)?;
        (self.segment, self.offset) = (header.number, SEGMENT_HEADER_BYTES as u64);
        Ok(true)
    }

    /// Header of the next block, if it is there and follows the one before.
    fn header(&self) -> Result<Option<BlockHeader>, LogError> {
        let mut bytes = [0; BLOCK_HEADER_BYTES];
        match self.file.read_exact_at(&mut bytes, self.offset) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(self.io("read", error)),
        }
        Ok(BlockHeader::decode(&bytes).filter(|header| header.start.index == self.index))
    }

    fn step(&mut self, header: &BlockHeader) {
        self.offset += BLOCK_HEADER_BYTES as u64 + u64::from(header.length);
        self.index += u64::from(header.count);
    }

    fn corrupt(&self, what: Corruption) -> LogError {
        LogError::Corrupt { segment: self.segment, offset: self.offset, what }
    }

    fn io(&self, action: &'static str, error: io::Error) -> LogError {
        LogError::io(action, &segment_path(&self.dir, self.segment), error)
    }
}

fn open(dir: &Path, segment: u32) -> Result<File, LogError> {
    let path = segment_path(dir, segment);
    File::open(&path).map_err(|error| LogError::io("open", &path, error))
}
