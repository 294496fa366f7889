//! A job as the server sent it, and the header that is hashed for it.

use crate::fault::Fault;
use crate::merkle;
use crate::target::Target;
use crate::v2::codec::{Bytes32, U256};
use crate::v2::message::{NewExtendedMiningJob, NewMiningJob, SetNewPrevHash};
use crate::v2::server::VERSION_MASK;
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use bytes::Bytes;
use sha256d::Sha256d;
use std::sync::Arc;
use std::time::Instant;

/// Most siblings taken: a block of 2^32 transactions cannot exist.
pub const BRANCH_MAX: usize = 32;
/// Longest coinbase taken, both parts together, in bytes: more than 1,500 outputs.
pub const COINBASE_BYTES_MAX: usize = 64 * 1024;

/// Work for one channel, with what was in force when it came or its parent was named: nothing that comes later
/// changes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The channel that it is for.
    pub channel: u32,
    /// The server's name for it, on this channel.
    pub id: u32,
    /// Header version, no bits rolled.
    pub version: u32,
    /// Version bits that may be rolled: those of BIP 323, or none.
    pub version_mask: u32,
    /// Parent block.
    pub prev_hash: BlockHash,
    /// Compact network target.
    pub nbits: u32,
    /// The same, expanded: a hash that meets it is a block.
    pub network_target: Target,
    /// Lowest header time in Unix seconds.
    pub min_ntime: u32,
    /// When `min_ntime` was said.
    pub since: Instant,
    /// What its shares have to meet.
    pub target: Target,
    /// The channel's own part of the coinbase.
    pub extranonce_prefix: Bytes32,
    /// Bytes behind the prefix that are ours to roll; 0 on a standard channel.
    pub extranonce_size: usize,
    /// Where its merkle root comes from.
    pub work: Work,
}

/// Where a merkle root comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// The server computed it.
    Root([u8; 32]),
    /// The client computes it; shared by the members of a group.
    Coinbase(Arc<Coinbase>),
}

/// A stripped coinbase without its extranonce, and the way from it to the merkle root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coinbase {
    /// Everything before the extranonce prefix.
    pub prefix: Bytes,
    /// Everything behind the extranonce.
    pub suffix: Bytes,
    /// Sibling hashes from the coinbase up to the root, in internal byte order.
    pub branch: Vec<[u8; 32]>,
}

impl Job {
    /// The merkle root with this extranonce, in internal byte order.
    ///
    /// # Panics
    /// If `extranonce` is not [`Job::extranonce_size`] bytes: the caller rolls it and is at fault.
    pub fn merkle_root(&self, extranonce: &[u8]) -> [u8; 32] {
        assert_eq!(extranonce.len(), self.extranonce_size, "the extranonce has the size that was granted");
        match &self.work {
            Work::Root(root) => *root,
            Work::Coinbase(coinbase) => {
                let mut engine = Sha256d::new();
                let prefix = self.extranonce_prefix.as_bytes();
                for part in [&coinbase.prefix, prefix, extranonce, &coinbase.suffix] {
                    engine.update(part);
                }
                merkle::root(engine.finish(), &coinbase.branch)
            }
        }
    }

    /// The header to hash; `version` is the whole version, rolled bits included.
    ///
    /// # Panics
    /// As [`Job::merkle_root`].
    pub fn header(&self, extranonce: &[u8], ntime: u32, nonce: u32, version: u32) -> [u8; 80] {
        let mut header = [0; 80];
        header[..4].copy_from_slice(&version.to_le_bytes());
        header[4..36].copy_from_slice(self.prev_hash.as_byte_array());
        header[36..68].copy_from_slice(&self.merkle_root(extranonce));
        header[68..72].copy_from_slice(&ntime.to_le_bytes());
        header[72..76].copy_from_slice(&self.nbits.to_le_bytes());
        header[76..80].copy_from_slice(&nonce.to_le_bytes());
        header
    }

    /// The highest header time that the specification allows now, in Unix seconds (MN-20).
    pub fn max_ntime(&self, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(self.since).as_secs();
        self.min_ntime.saturating_add(u32::try_from(elapsed).unwrap_or(u32::MAX))
    }
}

/// A job as it was sent, without a parent.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) id: u32,
    pub(super) version: u32,
    pub(super) version_mask: u32,
    pub(super) work: Work,
}

impl Draft {
    pub(super) fn standard(job: &NewMiningJob, fixed_version: bool) -> Self {
        Self {
            id: job.job_id,
            version: job.version,
            version_mask: if fixed_version { 0 } else { VERSION_MASK },
            work: Work::Root(job.merkle_root.0),
        }
    }

    pub(super) fn extended(job: NewExtendedMiningJob, fixed_version: bool) -> Result<Self, Fault> {
        let (prefix, suffix) = (job.coinbase_tx_prefix.into_bytes(), job.coinbase_tx_suffix.into_bytes());
        if prefix.len() + suffix.len() > COINBASE_BYTES_MAX {
            return Err(Fault::Misbehaved("a coinbase that no machine can take"));
        }
        let branch: Vec<_> = job.merkle_path.into_vec().into_iter().map(|U256(sibling)| sibling).collect();
        if branch.len() > BRANCH_MAX {
            return Err(Fault::Misbehaved("a merkle path of more than 32 levels"));
        }
        let rolling = job.version_rolling_allowed && !fixed_version;
        Ok(Self {
            id: job.job_id,
            version: job.version,
            version_mask: if rolling { VERSION_MASK } else { 0 },
            work: Work::Coinbase(Arc::new(Coinbase { prefix, suffix, branch })),
        })
    }
}

/// What the server said of the newest block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tip {
    pub(super) prev_hash: BlockHash,
    pub(super) nbits: u32,
    pub(super) network_target: Target,
    pub(super) min_ntime: u32,
}

impl Tip {
    pub(super) fn read(message: &SetNewPrevHash) -> Result<Self, Fault> {
        let network_target = Target::from_nbits(message.nbits);
        Ok(Self {
            prev_hash: BlockHash::from_byte_array(message.prev_hash.0),
            nbits: message.nbits,
            network_target: network_target.map_err(|_| Fault::Misbehaved("a network target of no chain"))?,
            min_ntime: message.min_ntime,
        })
    }
}

/// Reads a share target; 0 and what is harder than any chain is absurd (N19).
pub(super) fn share_target(target: U256) -> Result<Target, Fault> {
    Target::try_from(target).map_err(|_| Fault::Misbehaved("a share target that nobody can meet"))
}
