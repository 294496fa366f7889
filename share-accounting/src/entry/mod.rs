//! Entries of the share log, byte-exact. All numbers are little-endian.
//!
//! Share (kind 01), 72 bytes:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | kind = 1 |
//! | 1 | 1 | pot, signed |
//! | 2 | 2 | site |
//! | 4 | 4 | payee index |
//! | 8 | 8 | log index of the job entry |
//! | 16 | 4 | ntime |
//! | 20 | 4 | nonce |
//! | 24 | 4 | header version |
//! | 28 | 1+16 | extranonce: length, bytes, zeros |
//! | 45 | 3 | flags: bit 0 credited, bit 1 block candidate, rest 0 |
//! | 48 | 8 | time of receipt, Unix ms |
//! | 56 | 16 | sum of credited work including this share |
//!
//! Every other kind: `kind u8 ‖ version u8 ‖ reserved u16 = 0 ‖ length u32 ‖ body of that length`.
//! The version is 1; of rules it is the number of their parts between semicolons.
//! A script is `length u16 ‖ bytes`; hashes are in internal byte order.
//!
//! | kind | body |
//! |---|---|
//! | 02 job | template u64 ‖ prev hash 32 ‖ nbits u32 ‖ version u32 ‖ ntime_min u32 ‖ height u32 ‖ class u8 ‖ branch length u8 ‖ out_bytes u32 ‖ tag_offset u32 ‖ pot_offset u32 ‖ extranonce_offset u32 ‖ coinbase length u32 ‖ coinbase ‖ branch 32 each ‖ plan: 0 ‖ script, or 1 ‖ log size u64 ‖ ledger block 32, or 2 ‖ log size u64 ‖ script |
//! | 03 payee | index u32 ‖ worker tag 16 ‖ script |
//! | 04 params | site u16 ‖ window numerator u64 ‖ denominator u64 ‖ stale credit ms u32 ‖ fee bp u16 ‖ minimum payout u64 ‖ fee script ‖ reserve script ‖ donations u8 × (bp u16 ‖ script); settlement fee bp u16; witnesses needed u8 ‖ witnesses u8 × (length u16 ‖ key); settlement minimum u64 |
//! | 05 chain | Unix ms u64 ‖ 1 epoch start: epoch u16; 2 found: hash 32, height u32; 3 in chain, 4 orphaned, 5 matured, 6 refused: hash 32; 7 retarget: nbits u32; 8 superseded: template u64; 9 new tip: hash 32; 10 settlement paid: entry u64, block 32, txid 32; 11 withdrawn: entry u64; 12 failed: entry u64, spent outputs u128, a bit each |
//! | 06 settlement | matured block 32 ‖ ledger block 32 ‖ fee u64 ‖ credits u32 × (sats u64 ‖ script) ‖ outpoints u32 × (txid 32 ‖ vout u32 ‖ sats u64) |
//! | 07 move | log id 16 ‖ old script ‖ new script ‖ signature length u16 ‖ signature |
//!
//! There is one encoding of each entry: what decodes encodes to the same bytes.

mod chain;
mod encoded;
mod fields;
mod job;
mod moved;
mod params;
mod payee;
mod settlement;
mod share;

pub use chain::{ChainEntry, ChainEvent};
pub use encoded::Encoded;
pub use fields::SCRIPT_BYTES_MAX;
pub use job::{JobEntry, PlanEntry};
pub use moved::{Move, SIGNATURE_BYTES_MAX};
pub use params::{Params, Witnesses};
pub use payee::{PayeeEntry, WorkerTag};
pub use settlement::{Reserve, Settlement};
pub use share::{EXTRANONCE_ROOM, Extranonce, SHARE_BYTES, Share};

pub(crate) use fields::Fields;

/// Longest body of an entry, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Version of the layouts but that of newer rules; the share's has none: a new one gets a new kind.
const VERSION: u8 = 1;
/// Bytes in front of a body.
const HEAD_BYTES: usize = 8;

/// The first byte of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Share = 1,
    Job = 2,
    Payee = 3,
    Params = 4,
    Chain = 5,
    Settlement = 6,
    Move = 7,
}

/// One entry of the share log. Nearly all are shares, so what is larger lies elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A judged share.
    Share(Share),
    /// A job that shares refer to.
    Job(Box<JobEntry>),
    /// A payee that shares refer to.
    Payee(PayeeEntry),
    /// The rules in force from here on.
    Params(Box<Params>),
    /// Something happened to the chain or the process.
    Chain(ChainEntry),
    /// Credits paid from the reserve.
    Settlement(Box<Settlement>),
    /// A payee is paid to another address from here on.
    Move(Box<Move>),
}

/// Why bytes are not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The entry goes on behind the end of the bytes.
    #[error("entry is cut off")]
    Truncated,
    /// Not a kind that this version knows.
    #[error("entry kind {0} is unknown: the log was written by a newer version")]
    UnknownKind(u8),
    /// Not a layout that this version knows.
    #[error("version {version} of entry kind {kind} is unknown: the log was written by a newer version")]
    UnknownVersion {
        /// Kind byte.
        kind: u8,
        /// Version byte.
        version: u8,
    },
    /// A field has a value that is never written.
    #[error("bad {0} in entry")]
    Field(&'static str),
    /// The body is longer than its fields.
    #[error("{0} bytes left over in entry")]
    TrailingBytes(usize),
}

impl Entry {
    /// Appends the entry's bytes.
    ///
    /// # Panics
    /// If a body exceeds [`BODY_BYTES_MAX`]: a coinbase has at most 16 kB, settlements are cut by their builder.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let kind = match self {
            Self::Share(share) => return share.put(out),
            Self::Job(_) => Kind::Job,
            Self::Payee(_) => Kind::Payee,
            Self::Params(_) => Kind::Params,
            Self::Chain(_) => Kind::Chain,
            Self::Settlement(_) => Kind::Settlement,
            Self::Move(_) => Kind::Move,
        };
        let start = out.len();
        let version = if let Self::Params(params) = self { params.version() } else { VERSION };
        out.extend([kind as u8, version, 0, 0, 0, 0, 0, 0]);
        match self {
            Self::Share(_) => {}
            Self::Job(job) => job.put(out),
            Self::Payee(payee) => payee.put(out),
            Self::Params(params) => params.put(out),
            Self::Chain(event) => event.put(out),
            Self::Settlement(settlement) => settlement.put(out),
            Self::Move(moved) => moved.put(out),
        }
        let length = out.len() - start - HEAD_BYTES;
        assert!(length <= BODY_BYTES_MAX, "entry of kind {kind:?} has {length} bytes");
        out[start + 4..start + HEAD_BYTES].copy_from_slice(&(length as u32).to_le_bytes()); // at most 2^20
    }

    /// Decodes the entry at the front of `bytes` and says how many bytes it takes.
    ///
    /// # Errors
    /// On any bytes that [`Entry::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<(Entry, usize), DecodeError> {
        let kind = *bytes.first().ok_or(DecodeError::Truncated)?;
        if kind == Kind::Share as u8 {
            let share = bytes.get(1..SHARE_BYTES).ok_or(DecodeError::Truncated)?;
            return Ok((Entry::Share(Share::take(&mut Fields::new(share))?), SHARE_BYTES));
        }
        if !(Kind::Job as u8..=Kind::Move as u8).contains(&kind) {
            return Err(DecodeError::UnknownKind(kind));
        }
        let mut head = Fields::new(&bytes[1..]);
        let version = head.u8()?;
        let newest = if kind == Kind::Params as u8 { 4 } else { VERSION };
        if !(VERSION..=newest).contains(&version) {
            return Err(DecodeError::UnknownVersion { kind, version });
        }
        if head.u16()? != 0 {
            return Err(DecodeError::Field("reserved bytes"));
        }
        let length = head.u32()? as usize; // u32 fits usize
        if length > BODY_BYTES_MAX {
            return Err(DecodeError::Field("length"));
        }
        let mut body = Fields::new(head.bytes(length)?);
        let entry = match kind {
            2 => Entry::Job(JobEntry::take(&mut body)?.into()),
            3 => Entry::Payee(PayeeEntry::take(&mut body)?),
            4 => Entry::Params(Params::take(&mut body, version)?.into()),
            5 => Entry::Chain(ChainEntry::take(&mut body)?),
            6 => Entry::Settlement(Settlement::take(&mut body)?.into()),
            _ => Entry::Move(Move::take(&mut body)?.into()),
        };
        body.end()?;
        Ok((entry, HEAD_BYTES + length))
    }
}

#[cfg(test)]
mod tests;
