//! Entries as bytes, one behind the other.

use super::Entry;
use crate::tree::{TreeHash, leaves};

/// Entries, encoded in order: what one commit appends to the log.
#[derive(Debug, Default)]
pub struct Encoded {
    bytes: Vec<u8>,
    /// Where each entry ends.
    ends: Vec<usize>,
}

impl Encoded {
    /// Adds an entry.
    pub fn push(&mut self, entry: &Entry) {
        entry.encode(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Number of entries.
    ///
    /// # Panics
    /// Beyond 2^32: they would exceed a block by far.
    pub fn count(&self) -> u32 {
        u32::try_from(self.ends.len()).expect("a block holds fewer entries")
    }

    /// All of them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Their hashes.
    pub fn leaves(&self) -> Vec<TreeHash> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        let entries: Vec<_> = starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end]).collect();
        leaves(&entries)
    }

    /// Forgets them; the room stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}
