//! Jobs and shares, whichever protocol they came with.

use bitcoin::BlockHash;
use std::sync::Arc;
use stratum::target::Target;
use stratum::{v1, v2};

/// A job as its server sent it.
#[derive(Debug, Clone, PartialEq)]
pub enum Job {
    /// Of `mining.notify`.
    V1(Arc<v1::client::Job>),
    /// Of one channel.
    V2(Arc<v2::client::Job>),
}

impl Job {
    /// Its name on the connection, for people.
    pub fn name(&self) -> String {
        match self {
            Self::V1(job) => job.id.to_string(),
            Self::V2(job) => format!("{}/{}", job.channel, job.id),
        }
    }

    /// The parent block.
    pub fn prev_hash(&self) -> BlockHash {
        match self {
            Self::V1(job) => job.prev_hash,
            Self::V2(job) => job.prev_hash,
        }
    }

    /// What a share has to meet.
    pub fn target(&self) -> Target {
        match self {
            Self::V1(job) => job.target,
            Self::V2(job) => job.target,
        }
    }

    /// What a block has to meet.
    pub fn network_target(&self) -> Target {
        match self {
            Self::V1(job) => job.network_target,
            Self::V2(job) => job.network_target,
        }
    }

    /// Header version, no bits rolled.
    pub fn version(&self) -> u32 {
        match self {
            Self::V1(job) => job.version,
            Self::V2(job) => job.version,
        }
    }

    /// Header time to mine with, in Unix seconds.
    pub fn ntime(&self) -> u32 {
        match self {
            Self::V1(job) => job.ntime,
            Self::V2(job) => job.min_ntime,
        }
    }

    /// The fixed part of the extranonce.
    pub fn extranonce_prefix(&self) -> &[u8] {
        match self {
            Self::V1(job) => &job.extranonce1,
            Self::V2(job) => job.extranonce_prefix.as_bytes(),
        }
    }

    /// Bytes of extranonce to roll; 0 on a standard channel.
    pub fn extranonce_size(&self) -> usize {
        match self {
            Self::V1(job) => job.extranonce2_size,
            Self::V2(job) => job.extranonce_size,
        }
    }

    /// The header to hash; `extranonce` has [`Job::extranonce_size`] bytes.
    pub fn header(&self, extranonce: &[u8], ntime: u32, nonce: u32, version: u32) -> [u8; 80] {
        match self {
            Self::V1(job) => job.header(extranonce, ntime, nonce, version),
            Self::V2(job) => job.header(extranonce, ntime, nonce, version),
        }
    }
}

/// What to hash: a job and the version bits that may be rolled.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// The job.
    pub job: Job,
    /// Version bits that may be rolled; 0 for none.
    pub version_mask: u32,
}

/// A share found: what was rolled.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// The job.
    pub job: Job,
    /// [`Job::extranonce_size`] bytes.
    pub extranonce: Box<[u8]>,
    /// Header time in Unix seconds.
    pub ntime: u32,
    /// Header nonce.
    pub nonce: u32,
    /// The whole header version, rolled bits included.
    pub version: u32,
}

impl Share {
    /// The header that was hashed.
    pub fn header(&self) -> [u8; 80] {
        self.job.header(&self.extranonce, self.ntime, self.nonce, self.version)
    }
}
