//! Receipts: a pool's signed word that entries are in its log. JSON, as the pool gives it out and miners keep it.

use super::head::Head;
use super::key::{CheckpointError, LogVerifier};
use crate::tree::TreeHash;
use bitcoin::hex::{DisplayHex, FromHex, HexToArrayError, HexToBytesError};
use serde::{Deserialize, Serialize};
use tlog_tiles::{Hash, check_record, record_hash};

/// Entries under one signed head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipts {
    /// The note that says the head.
    pub checkpoint: String,
    /// The entries.
    pub receipts: Vec<Receipt>,
    /// Index of the first entry behind those that were looked at.
    pub next: u64,
}

/// An entry and its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Hex", into = "Hex")]
pub struct Receipt {
    /// Its index.
    pub index: u64,
    /// Its bytes.
    pub entry: Vec<u8>,
    /// Siblings from the leaf up to the root of the head (RFC 6962 §2.1.1).
    pub path: Vec<TreeHash>,
}

/// A receipt as it is written.
#[derive(Serialize, Deserialize)]
struct Hex {
    index: u64,
    entry: String,
    path: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
enum HexError {
    #[error("entry: {0}")]
    Entry(#[from] HexToBytesError),
    #[error("path: {0}")]
    Path(#[from] HexToArrayError),
}

/// Why receipts say nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// Their head is not signed by the log.
    #[error("its checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// An entry is not under it.
    #[error("its path does not lead from entry {0} to the signed head")]
    Path(u64),
}

impl From<Receipt> for Hex {
    fn from(receipt: Receipt) -> Self {
        let path = receipt.path.iter().map(|hash| hash.to_lower_hex_string()).collect();
        Self { index: receipt.index, entry: receipt.entry.to_lower_hex_string(), path }
    }
}

impl TryFrom<Hex> for Receipt {
    type Error = HexError;

    fn try_from(hex: Hex) -> Result<Self, HexError> {
        let path = hex.path.iter().map(|hash| TreeHash::from_hex(hash)).collect::<Result<_, _>>()?;
        Ok(Self { index: hex.index, entry: Vec::from_hex(&hex.entry)?, path })
    }
}

impl Receipts {
    /// The head that covers all of them.
    ///
    /// # Errors
    /// It is not signed by the log, or does not cover each entry: then the pool has promised nothing by them.
    pub fn head(&self, verifier: &LogVerifier) -> Result<Head, ReceiptError> {
        let (head, _) = verifier.head(self.checkpoint.as_bytes())?;
        for Receipt { index, entry, path } in &self.receipts {
            // No tree is higher, and what is longer is copied at each level.
            if path.len() > 64 {
                return Err(ReceiptError::Path(*index));
            }
            let path = path.iter().copied().map(Hash).collect();
            let leads = *index < head.size
                && check_record(&path, head.size, Hash(head.root), *index, record_hash(entry)).is_ok();
            if !leads {
                return Err(ReceiptError::Path(*index));
            }
        }
        Ok(head)
    }
}
