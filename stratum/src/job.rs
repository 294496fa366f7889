//! Jobs: what miners hash, and whom it pays.
//!
//! A [`JobBody`] is shared by all connections of one coinbase size class (a solo body by one payee's);
//! a [`Job`] adds the few bytes that are one connection's own. A body never changes once it is built:
//! whatever was sent to a miner can be rebuilt byte for byte when a share comes back.

use crate::class::SizeClass;
use crate::extranonce::{
    EXTRANONCE_BYTES, EXTRANONCE1_BYTES, EXTRANONCE2_BYTES_MAX, Extranonce1, Extranonce2,
};
use crate::payee::PayeeTag;
use crate::pot::Pot;
use crate::target::Target;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash, ScriptBuf, TxOut};
use bytes::{Bytes, BytesMut};
use sha256d::{Gapped, Leaf};
use std::sync::Arc;
use std::time::Instant;

/// Names a template for the life of a share log: `epoch (16 bits) ‖ counter (48 bits)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateId(pub u64);

/// Whom a job pays, frozen when the job is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payout {
    /// Outputs in coinbase order, without the witness commitment; they sum to the coinbase value. In the pool's own work
    /// the last one has no value and commits to what the payout was computed from.
    pub outputs: Vec<TxOut>,
    /// What the split was computed from.
    pub basis: Basis,
}

impl Payout {
    /// The coinbase value.
    pub fn value(&self) -> Amount {
        self.outputs.iter().map(|output| output.value).sum()
    }

    /// What the reserve output holds: credits grow by that and by nothing else.
    ///
    /// # Panics
    /// If the credits shrink: no plan says so.
    pub fn reserve(&self) -> Amount {
        let Basis::Window { credit_delta, .. } = &self.basis else { return Amount::ZERO };
        let grown: i64 = credit_delta.iter().map(|(_, delta)| delta).sum();
        Amount::from_sat(u64::try_from(grown).expect("a plan never shrinks the sum of credits"))
    }
}

/// What a payout was computed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Basis {
    /// The window was empty: everything to the payee whose job this is.
    Solo {
        /// Who that is.
        script: ScriptBuf,
        /// Number of log entries at that time.
        log_size: u64,
    },
    /// The PPLNS window.
    Window {
        /// Number of log entries that the window was taken from.
        log_size: u64,
        /// The pool's newest block whose ledger the plan starts from; all zeros before the first.
        ledger_block: BlockHash,
        /// Change of each payee's credit in satoshis if this job's block stays in the chain, by script.
        credit_delta: Vec<(ScriptBuf, i64)>,
    },
    /// Not ours: a pool upstream has made the job and knows whom it pays.
    Upstream(Upstream),
}

/// Where a job from upstream is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upstream {
    /// Which of the channels that were ever opened: never used again by another.
    pub channel: u64,
    /// The job's name there.
    pub job_id: u32,
    /// What upstream pays for: a share that meets it is worth forwarding.
    pub target: Target,
    /// Zeros before the machine's extranonce, which fill what upstream leaves to be rolled.
    pub padding_bytes: u8,
}

/// A stripped coinbase transaction with gaps for what is not the same in all jobs made from it.
///
/// In our own work the gap starts at `tag_offset`: payee tag (8) ‖ pot (1) ‖ site (2) ‖ epoch (2) ‖ extranonce (12).
/// Site and epoch are already filled in; tag, pot and extranonce are zero. In work from upstream there is a gap for
/// the extranonce alone: what stands before it is upstream's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coinbase {
    bytes: Bytes,
    mark_offset: usize,
    extranonce_offset: usize,
    extranonce_bytes: usize,
    /// The same bytes, prepared for hashing.
    gapped: Arc<Gapped>,
}

/// What stands in a coinbase's gap: in our own work mark and extranonce, in work from upstream the extranonce.
#[derive(Debug, Clone, Copy)]
pub struct Filling {
    bytes: [u8; MARK_BYTES + EXTRANONCE_ROOM_BYTES],
    length: usize,
}

impl Filling {
    fn of(parts: [&[u8]; 3]) -> Self {
        let mut filling = Self { bytes: [0; MARK_BYTES + EXTRANONCE_ROOM_BYTES], length: 0 };
        for part in parts {
            filling.bytes[filling.length..][..part.len()].copy_from_slice(part);
            filling.length += part.len();
        }
        filling
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The longest extranonce that a coinbase of our own has room for: so much fits a share in the log.
pub const EXTRANONCE_ROOM_BYTES: usize = EXTRANONCE1_BYTES + EXTRANONCE2_BYTES_MAX;
/// Where the length of a coinbase's script stands: behind version, number of inputs and the input's null outpoint.
const SCRIPT_LENGTH_OFFSET: usize = 4 + 1 + 36;
/// Bytes of payee tag, pot, site and epoch together.
pub const MARK_BYTES: usize = 8 + 1 + 2 + 2;

impl Coinbase {
    /// A coinbase of our own: serialized bytes whose gap starts at `tag_offset`.
    ///
    /// # Panics
    /// If the gap does not lie inside the bytes: the builder is at fault.
    pub fn new(bytes: Bytes, tag_offset: usize) -> Self {
        Self::with_gap(bytes, tag_offset, tag_offset + MARK_BYTES, EXTRANONCE_BYTES)
    }

    /// The same where the gap for the extranonce has `extranonce_bytes`.
    ///
    /// # Panics
    /// As [`Coinbase::new`].
    pub fn with_gap_for(bytes: Bytes, tag_offset: usize, extranonce_bytes: usize) -> Self {
        Self::with_gap(bytes, tag_offset, tag_offset + MARK_BYTES, extranonce_bytes)
    }

    /// A coinbase from upstream: what stands before and behind `extranonce_bytes` of extranonce.
    pub fn from_upstream(before: &[u8], extranonce_bytes: usize, behind: &[u8]) -> Self {
        let bytes = [before, &vec![0; extranonce_bytes], behind].concat();
        Self::with_gap(bytes.into(), before.len(), before.len(), extranonce_bytes)
    }

    fn with_gap(bytes: Bytes, mark_offset: usize, extranonce_offset: usize, extranonce_bytes: usize) -> Self {
        assert!(extranonce_offset + extranonce_bytes <= bytes.len(), "the gap lies inside the coinbase");
        let gapped = Arc::new(Gapped::new(&bytes, mark_offset..extranonce_offset + extranonce_bytes));
        Self { bytes, mark_offset, extranonce_offset, extranonce_bytes, gapped }
    }

    /// The same coinbase of our own with a longer gap for the extranonce, for a V2 client that asked for more to roll.
    /// It is as much longer as a whole: whoever built it has kept [`EXTRANONCE_ROOM_BYTES`] in mind.
    ///
    /// # Panics
    /// If the coinbase is from upstream, or the gap would be shorter or longer than that room: the caller is at fault.
    pub fn with_extranonce(&self, extranonce_bytes: usize) -> Self {
        assert_eq!(
            self.extranonce_offset - self.mark_offset,
            MARK_BYTES,
            "only our own coinbases are rebuilt"
        );
        assert!(
            (self.extranonce_bytes..=EXTRANONCE_ROOM_BYTES).contains(&extranonce_bytes),
            "it fits the room"
        );
        let more = extranonce_bytes - self.extranonce_bytes;
        let mut bytes = self.bytes.to_vec();
        let gap_end = self.extranonce_offset + self.extranonce_bytes;
        bytes.splice(gap_end..gap_end, std::iter::repeat_n(0, more));
        // The script's length, and that of the push which starts right before the tag: both below 76.
        for length in [SCRIPT_LENGTH_OFFSET, self.mark_offset - 1] {
            bytes[length] += more as u8; // at most 4
        }
        Self::with_gap(bytes.into(), self.mark_offset, self.extranonce_offset, extranonce_bytes)
    }

    /// Bytes of the gap for the extranonce.
    pub fn extranonce_bytes(&self) -> usize {
        self.extranonce_bytes
    }

    /// The whole stripped transaction, gaps unfilled.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Offset of the payee tag.
    pub fn tag_offset(&self) -> usize {
        self.mark_offset
    }

    /// Offset of the pot byte.
    pub fn pot_offset(&self) -> usize {
        self.mark_offset + 8
    }

    /// Offset of the extranonce.
    pub fn extranonce_offset(&self) -> usize {
        self.extranonce_offset
    }

    /// Everything before the payee tag, or before the extranonce if there is none.
    pub fn head(&self) -> Bytes {
        self.bytes.slice(..self.mark_offset)
    }

    /// Payee tag, pot, site and epoch as they go between [`Coinbase::head`] and the extranonce; `None` in work from
    /// upstream.
    pub fn mark(&self, tag: PayeeTag, pot: Pot) -> Option<[u8; MARK_BYTES]> {
        let zeroed = &self.bytes[self.mark_offset..self.extranonce_offset];
        let mut mark: [u8; MARK_BYTES] = zeroed.try_into().ok()?;
        mark[..8].copy_from_slice(&tag.0);
        mark[8] = pot.get().to_le_bytes()[0];
        Some(mark)
    }

    /// Everything behind the extranonce.
    pub fn tail(&self) -> Bytes {
        self.bytes.slice(self.extranonce_offset + self.extranonce_bytes..)
    }
}

/// The part of a job that many connections share.
#[derive(Debug, Clone)]
pub struct JobBody {
    /// The template it was built from.
    pub template: TemplateId,
    /// Height of the block.
    pub height: u32,
    /// Header version, no bits rolled.
    pub version: u32,
    /// Parent block.
    pub prev_hash: BlockHash,
    /// Compact network target.
    pub nbits: u32,
    /// The same, expanded.
    pub network_target: Target,
    /// The hardest target that a share may be asked for: the network's, so that no block hides below a share; in work
    /// from upstream the one that upstream asks for, if that is easier.
    pub hardest_share: Target,
    /// Earliest header time that consensus allows, in Unix seconds.
    pub ntime_min: u32,
    /// Header time sent with the job, in Unix seconds.
    pub ntime: u32,
    /// The coinbase with its gaps.
    pub coinbase: Coinbase,
    /// Sibling hashes from the coinbase up to the root, in internal byte order.
    pub merkle_branch: Vec<[u8; 32]>,
    /// Size class that the payout was cut to.
    pub class: SizeClass,
    /// Room for miner outputs that the plan was given, in bytes.
    pub out_bytes: u32,
    /// Whom it pays.
    pub payout: Arc<Payout>,
    /// The other transactions of the block.
    pub transactions: Transactions,
}

/// The transactions of a block behind its coinbase, serialized one after the other.
#[derive(Debug, Clone, Default)]
pub struct Transactions {
    /// How many.
    pub count: usize,
    /// Their bytes, witnesses included.
    pub bytes: Bytes,
}

/// Identifies a job on one connection or channel; never reused while anyone may submit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u32);

/// One connection's job.
#[derive(Debug, Clone)]
pub struct Job {
    /// What it shares with others.
    pub body: Arc<JobBody>,
    /// Mark of the payee whose work this is.
    pub tag: PayeeTag,
    /// Credited difficulty, frozen here: a later change of difficulty does not touch it.
    pub pot: Pot,
    /// When a newer job was sent to the connection.
    pub superseded_at: Option<Instant>,
}

/// What a miner sends back: the values it rolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Roll {
    /// The connection's own prefix.
    pub extranonce1: Extranonce1,
    /// What the machine counted.
    pub extranonce2: Extranonce2,
    /// Header time in Unix seconds.
    pub ntime: u32,
    /// Header nonce.
    pub nonce: u32,
    /// The whole header version, rolled bits included.
    pub version: u32,
}

/// A header that meets the network target, with all that its block needs.
#[derive(Debug, Clone)]
pub struct Solution {
    /// The job it solves.
    pub body: Arc<JobBody>,
    /// The stripped coinbase as it was hashed.
    pub coinbase: Bytes,
    /// What was rolled for it.
    pub roll: Roll,
    /// The header.
    pub header: [u8; 80],
    /// Its hash.
    pub hash: BlockHash,
}

impl Job {
    /// The coinbase as the miner hashed it, stripped.
    pub fn coinbase(&self, roll: &Roll) -> Bytes {
        let Coinbase { bytes, mark_offset, .. } = &self.body.coinbase;
        let filling = self.filling(roll.extranonce1, &roll.extranonce2);
        let mut filled = BytesMut::from(&bytes[..]);
        filled[*mark_offset..][..filling.length].copy_from_slice(filling.as_bytes());
        filled.freeze()
    }

    /// What makes the coinbase this job's and this miner's.
    pub fn filling(&self, extranonce1: Extranonce1, extranonce2: &Extranonce2) -> Filling {
        self.assert_room(extranonce1, extranonce2);
        let mark = self.body.coinbase.mark(self.tag, self.pot);
        Filling::of([mark.as_ref().map_or(&[][..], |mark| mark), &extranonce1.0, extranonce2.as_bytes()])
    }

    pub(crate) fn assert_room(&self, extranonce1: Extranonce1, extranonce2: &Extranonce2) {
        assert_eq!(
            extranonce1.0.len() + extranonce2.as_bytes().len(),
            self.body.coinbase.extranonce_bytes,
            "the session has checked the size of what was rolled"
        );
    }

    /// The coinbase with its gap filled, and the way from there to the merkle root.
    pub fn leaf<'a>(&'a self, filling: &'a Filling) -> Leaf<'a> {
        Leaf {
            message: &self.body.coinbase.gapped,
            fill: filling.as_bytes(),
            branch: &self.body.merkle_branch,
        }
    }

    /// The merkle root over the coinbase with this extranonce.
    pub fn merkle_root(&self, extranonce1: Extranonce1, extranonce2: Extranonce2) -> [u8; 32] {
        let mut root = [[0; 32]];
        let filling = self.filling(extranonce1, &extranonce2);
        sha256d::merkle_roots(1, |_| self.leaf(&filling), &mut root);
        root[0]
    }

    /// The header as the miner hashed it.
    pub fn header(&self, roll: &Roll) -> [u8; 80] {
        self.header_over(&self.merkle_root(roll.extranonce1, roll.extranonce2), roll)
    }

    /// The same, where the merkle root is known.
    pub fn header_over(&self, merkle_root: &[u8; 32], roll: &Roll) -> [u8; 80] {
        let mut header = [0; 80];
        header[..4].copy_from_slice(&roll.version.to_le_bytes());
        header[4..36].copy_from_slice(self.body.prev_hash.as_byte_array());
        header[36..68].copy_from_slice(merkle_root);
        header[68..72].copy_from_slice(&roll.ntime.to_le_bytes());
        header[72..76].copy_from_slice(&self.body.nbits.to_le_bytes());
        header[76..80].copy_from_slice(&roll.nonce.to_le_bytes());
        header
    }
}
