//! A log under a signed head, whole or in parts, that what others say of it is held against.

use share_accounting::tree::TreeHash;
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

/// The log at hand.
pub trait Holder {
    /// Entries under the head.
    fn size(&self) -> u64;

    /// Whether an entry below the head is these bytes.
    fn holds(&mut self, index: u64, entry: &[u8]) -> anyhow::Result<bool>;

    /// Roots over so many of the first entries.
    ///
    /// # Errors
    /// What they follow from cannot be had, or there are fewer.
    fn roots(&self, sizes: &BTreeSet<u64>) -> anyhow::Result<BTreeMap<u64, TreeHash>>;

    /// When the head was had.
    ///
    /// # Errors
    /// It is not there any more.
    fn kept_at(&self) -> anyhow::Result<SystemTime>;

    /// The newest note with cosignatures of witnesses that is kept beside the head, if one is.
    fn cosigned(&self) -> Option<Vec<u8>>;
}
