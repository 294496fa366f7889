//! The share log on disk: segment files of checksummed, hash-chained blocks in one directory.
//!
//! - [`segment`]: byte layouts, and reading one segment's bytes (pure)
//! - [`reader`]: every entry of every segment, in order
//! - [`append`]: opening, from any segment on whose [`Start`] is known, and the one writer; a commit is one block and
//!   one fdatasync
//! - [`follow`]: the bytes of what is durable, while the writer goes on
//!
//! A commit is exactly one block, and the next is written only after the one before is durable. So
//! a crash can tear the last block only: a bad block with nothing valid behind it was never
//! acknowledged and is cut off; a bad block with a valid one behind it is corruption, and opening
//! refuses, naming segment and offset. (A bit that flips inside the very last block cannot be told
//! from a torn write and is cut the same way.)
//!
//! After a write or sync error nothing more goes to that file descriptor: what the kernel still
//! holds of it cannot be trusted. The next segment's header names the last *committed* block, and
//! readers ignore whatever the abandoned segment holds behind that block.

pub mod append;
pub mod follow;
pub mod reader;
pub mod segment;

pub(crate) use append::sync_dir;
pub use append::{Log, Opening, Start};
pub use follow::Follower;
pub use reader::Reader;
pub use segment::recover_bytes;

use crate::entry::DecodeError;
use std::io;
use std::path::{Path, PathBuf};

/// Why the log cannot be opened or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What came back.
        source: io::Error,
    },
    /// Another process has the directory.
    #[error("{0} is in use by another process: stop it, or give this one its own directory")]
    Locked(PathBuf),
    /// Bytes that were once durable are wrong now.
    #[error("share log segment {segment} is corrupt at offset {offset}: {what}; restore it from a backup")]
    Corrupt {
        /// Number of the segment.
        segment: u32,
        /// Byte offset in its file.
        offset: u64,
        /// What is wrong there.
        what: Corruption,
    },
    /// A segment between others is not there.
    #[error("share log segment {0} is missing: restore it from a backup")]
    Missing(u32),
    /// The log belongs to another network.
    #[error("the share log is of network {found}, not {wanted}: use another directory")]
    WrongNetwork {
        /// In the log.
        found: bitcoin::Network,
        /// In the settings.
        wanted: bitcoin::Network,
    },
}

impl LogError {
    fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}

/// What is wrong with a segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Corruption {
    /// Not a segment of this format version.
    #[error("bad segment header")]
    SegmentHeader,
    /// The segment does not go on where the one before ended.
    #[error("the segment does not follow the one before")]
    Unchained,
    /// A block fails its checksum, with valid data behind it.
    #[error("bad block, and valid data follows")]
    Block,
    /// The block that the next segment names as the last committed one is not here.
    #[error("the last committed block is missing")]
    LastBlockMissing,
    /// An intact block breaks the chain of hashes, indexes or sequence numbers.
    #[error("block is out of order")]
    OutOfOrder,
    /// An intact block holds what is no entry.
    #[error("{0}")]
    Entry(#[from] DecodeError),
}

#[cfg(test)]
mod tests;
