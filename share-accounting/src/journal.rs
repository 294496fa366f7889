//! The log without its shares and jobs: the entries that the books need once more to be what they are.
//!
//! They are few and stay for good: payees, rules, settlements. So there is no second layout for what follows from
//! them, and no second copy of the rules by which it follows. Each is kept as `index u64 ‖ entry`, little-endian.

use crate::entry::{DecodeError, Entry};
use std::sync::Arc;

/// Bytes beyond which a piece is full.
const PIECE_BYTES: usize = if cfg!(test) { 64 } else { 1 << 16 };
/// Bytes of an index.
const INDEX_BYTES: usize = 8;

/// Entries with their indexes, in order. A copy shares the pieces, all but the newest for good.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal {
    pieces: Vec<Arc<Vec<u8>>>,
    length: u64,
}

impl Journal {
    /// Adds an entry, which has come after those before.
    pub fn push(&mut self, index: u64, entry: &Entry) {
        if self.pieces.last().is_none_or(|piece| piece.len() >= PIECE_BYTES) {
            self.pieces.push(Arc::default());
        }
        let last = self.pieces.last_mut().expect("one was just added if there was none");
        let piece = Arc::make_mut(last);
        let before = piece.len();
        piece.extend(index.to_le_bytes());
        entry.encode(piece);
        self.length += (piece.len() - before) as u64; // usize fits u64
    }

    /// Number of all bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// All bytes, piece after piece.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(|piece| piece.as_slice())
    }
}

/// Where the pieces end is nobody's affair.
impl PartialEq for Journal {
    fn eq(&self, other: &Self) -> bool {
        self.pieces().flatten().eq(other.pieces().flatten())
    }
}

/// The entry at the front of a journal's bytes, its index, and the bytes behind it.
///
/// # Errors
/// That is no entry.
pub(crate) fn first(bytes: &[u8]) -> Result<(u64, Entry, &[u8]), DecodeError> {
    let (index, rest) = bytes.split_first_chunk::<INDEX_BYTES>().ok_or(DecodeError::Truncated)?;
    let (entry, length) = Entry::decode(rest)?;
    Ok((u64::from_le_bytes(*index), entry, &rest[length..]))
}
