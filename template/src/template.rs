//! A block template as the node gave it, checked before any miner sees it.

mod json;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash, Network, ScriptBuf, TxOut};
use bytes::Bytes;
use std::ops::Range;
use stratum::merkle;
use stratum::target::{Target, TargetError};

/// Largest block weight that consensus allows.
pub const BLOCK_WEIGHT_MAX: u64 = 4_000_000;
/// Largest cost of signature operations that consensus allows.
pub const BLOCK_SIGOPS_MAX: u64 = 80_000;
/// Largest serialized block; the weight implies it.
pub const BLOCK_BYTES_MAX: u64 = 4_000_000;
/// Rules that the node may demand (leading `!`) or name, and that our blocks keep.
const RULES_KNOWN: [&str; 5] = ["csv", "segwit", "taproot", "signet", "testdummy"];
/// The challenge of a signet whose blocks need no signature: OP_TRUE.
const OPEN_SIGNET: &str = "51";
/// What a node says whose chain has another proof of work.
pub(crate) const NOT_SHA256D: &str = "this node follows a chain that is not mined with SHA-256d";

/// Why a template is not used. No miner gets work from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// Its chain has another proof of work.
    #[error("{NOT_SHA256D}")]
    NotSha256d,
    /// It demands a consensus rule that we do not know.
    #[error(
        "the node demands the consensus rule `{0}`, which this version does not know; update before you mine"
    )]
    UnknownRule(String),
    /// Only the owner of the signet can make its blocks.
    #[error("blocks of this signet need a signature; use one with signetchallenge 51")]
    SignetSigned,
    /// Not JSON, or a field is missing or of the wrong type.
    #[error("not a block template: {0}")]
    Json(String),
    /// A field holds a value that cannot be.
    #[error("template field `{field}`: {reason}")]
    Field {
        /// Which.
        field: &'static str,
        /// Why not.
        reason: String,
    },
    /// A transaction is not what the template says.
    #[error("template transaction {index}: {reason}")]
    Transaction {
        /// Its place in the list, from 0.
        index: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// The compact target is none.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// More coins than the height and the fees allow.
    #[error("coinbase value {value} exceeds subsidy and fees, {allowed}, in satoshis")]
    Value {
        /// What the template says.
        value: u64,
        /// What consensus allows.
        allowed: u64,
    },
    /// Fewer coins than the fees: each transaction that is left out would take more than there is.
    #[error("coinbase value {value} is less than the fees of the transactions, {fees}, in satoshis")]
    ValueBelowFees {
        /// What the template says.
        value: u64,
        /// What its transactions pay.
        fees: u64,
    },
    /// A limit is below what a block with the largest coinbase and nothing else takes.
    #[error("the limit of {what} is {limit}; a block with our largest coinbase alone takes {needed}")]
    NoRoom {
        /// Weight, size or sigops.
        what: &'static str,
        /// What that block takes.
        needed: u64,
        /// What the template allows.
        limit: u64,
    },
    /// The transactions alone fill more than a block.
    #[error("{what} of the transactions is {sum}, more than {limit}")]
    TooLarge {
        /// Weight, bytes or sigops.
        what: &'static str,
        /// What they sum to.
        sum: u64,
        /// What the block may have.
        limit: u64,
    },
}

impl TemplateError {
    /// Whether the node is the wrong one to mine with, whatever it sends next.
    pub fn is_wrong_chain(&self) -> bool {
        matches!(self, Self::NotSha256d | Self::UnknownRule(_) | Self::SignetSigned)
    }

    pub(crate) fn for_rule(rule: &str) -> Self {
        match rule.trim_start_matches('!') {
            "blake2b" => Self::NotSha256d,
            _ => Self::UnknownRule(rule.to_owned()),
        }
    }
}

/// What a block may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Weight units, header and coinbase included.
    pub weight: u64,
    /// Bytes, header and coinbase included.
    pub bytes: u64,
    /// Cost of signature operations, coinbase included.
    pub sigops: u64,
}

/// A transaction of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateTx {
    /// Where its bytes are in [`Template::transaction_bytes`].
    pub range: Range<usize>,
    /// Its id, in internal byte order; recomputed, not believed.
    pub txid: [u8; 32],
    /// The same with witnesses.
    pub wtxid: [u8; 32],
    /// Satoshis it pays to the coinbase.
    pub fee: u64,
    /// Cost of its signature operations, as the node counts.
    pub sigops: u64,
    /// Its weight, recomputed.
    pub weight: u64,
    /// Places in the list, all before its own, of the transactions that must come with it.
    pub depends: Vec<usize>,
}

/// A validated block template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pub(crate) network: Network,
    pub(crate) height: u32,
    pub(crate) prev_hash: BlockHash,
    pub(crate) version: u32,
    pub(crate) version_required: u32,
    pub(crate) nbits: u32,
    pub(crate) target: Target,
    pub(crate) mintime: u32,
    pub(crate) curtime: u32,
    pub(crate) value: u64,
    pub(crate) limits: Limits,
    pub(crate) bytes: Bytes,
    pub(crate) transactions: Vec<TemplateTx>,
    pub(crate) branch: Vec<[u8; 32]>,
    pub(crate) commitment: [u8; 32],
    pub(crate) long_poll_id: Option<String>,
}

/// The node's newest block, from its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// Its hash.
    pub hash: BlockHash,
    /// Its height.
    pub height: u32,
    /// Its compact target.
    pub nbits: u32,
    /// Median time of it and the ten blocks before, in Unix seconds.
    pub mediantime: u32,
}

impl Template {
    /// Reads and checks what `getblocktemplate` answered.
    ///
    /// Pure, and safe for any input: nothing is allocated by a declared number.
    ///
    /// # Errors
    /// Anything that the node's answer contradicts itself in or consensus forbids (GB-02, GB-04).
    pub fn parse(answer: &[u8], network: Network) -> Result<Self, TemplateError> {
        json::parse(answer, network)
    }

    /// A template without transactions on a new tip, for the moment until the node has a full one.
    ///
    /// `None` where the next target is not the tip's (a retarget, or a network whose target falls by
    /// the clock): then only the node can say it.
    pub fn empty_on(&self, tip: &Tip, now_unix_s: u32) -> Option<Self> {
        const RETARGET_BLOCKS: u32 = 2_016;
        let height = tip.height.checked_add(1)?;
        match self.network {
            Network::Regtest => {}
            Network::Bitcoin | Network::Signet if !height.is_multiple_of(RETARGET_BLOCKS) => {}
            _ => return None,
        }
        let mintime = tip.mediantime.checked_add(1)?;
        Some(Self {
            height,
            prev_hash: tip.hash,
            nbits: tip.nbits,
            target: Target::from_nbits(tip.nbits).ok()?,
            mintime,
            curtime: now_unix_s.max(mintime),
            value: subsidy(height, self.network),
            bytes: Bytes::new(),
            transactions: Vec::new(),
            branch: Vec::new(),
            commitment: merkle::witness_commitment(&[]),
            long_poll_id: None,
            ..*self
        })
    }

    /// Network it is for.
    pub fn network(&self) -> Network {
        self.network
    }

    /// Height of the block.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Parent block.
    pub fn prev_hash(&self) -> BlockHash {
        self.prev_hash
    }

    /// Header version; the bits that the node requires are set.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The part of a version-rolling mask that machines may use: bits that the node requires stay.
    pub fn rolling_mask(&self, mask: u32) -> u32 {
        mask & !self.version_required
    }

    /// Compact network target.
    pub fn nbits(&self) -> u32 {
        self.nbits
    }

    /// Network target.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Earliest header time that consensus allows, in Unix seconds.
    pub fn mintime(&self) -> u32 {
        self.mintime
    }

    /// Header time to start from, in Unix seconds; never below [`Template::mintime`] (GB-05).
    pub fn ntime(&self) -> u32 {
        self.curtime.max(self.mintime)
    }

    /// Satoshis that the coinbase pays out, all of them.
    pub fn value(&self) -> u64 {
        self.value
    }

    /// What the block may hold.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Its transactions without the coinbase.
    pub fn transactions(&self) -> &[TemplateTx] {
        &self.transactions
    }

    /// Their bytes, one behind the other, witnesses included.
    pub fn transaction_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Siblings of the coinbase from the bottom of the merkle tree up, in internal byte order.
    pub fn merkle_branch(&self) -> &[[u8; 32]] {
        &self.branch
    }

    /// The output that commits to the witnesses. It is always there, as signet demands it (CB-06).
    pub fn commitment_output(&self) -> TxOut {
        TxOut { value: Amount::ZERO, script_pubkey: commitment_script(self.commitment) }
    }

    /// What to give the node to wait for a newer template.
    pub fn long_poll_id(&self) -> Option<&str> {
        self.long_poll_id.as_deref()
    }

    pub(crate) fn seal(&mut self) {
        let txids: Vec<[u8; 32]> = self.transactions.iter().map(|tx| tx.txid).collect();
        let wtxids: Vec<[u8; 32]> = self.transactions.iter().map(|tx| tx.wtxid).collect();
        self.branch = merkle::branch(&txids);
        self.commitment = merkle::witness_commitment(&wtxids);
    }
}

/// `OP_RETURN` and the BIP 141 header before a witness commitment.
fn commitment_script(commitment: [u8; 32]) -> ScriptBuf {
    ScriptBuf::from_bytes([&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &commitment].concat())
}

/// New coins of a block at a height, in satoshis.
pub fn subsidy(height: u32, network: Network) -> u64 {
    const FIRST: u64 = 50 * 100_000_000;
    let interval = if network == Network::Regtest { 150 } else { 210_000 };
    FIRST.checked_shr(height / interval).unwrap_or(0)
}

#[cfg(test)]
#[path = "template_tests.rs"]
pub(crate) mod tests;
