//! What a session wants done or has learnt, what ends it, and the shares it sends.

#[cfg(doc)]
use super::Client;
use super::{Job, PENDING_MAX, Refusal};
use crate::v1::line::LineTooLong;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// What the session wants done, or has learnt.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Write these bytes to the upstream.
    Send(Bytes),
    /// The upstream gave us our extranonce; also after `mining.set_extranonce`, for the jobs to come.
    Subscribed {
        /// The connection's prefix.
        extranonce1: Box<[u8]>,
        /// Bytes that are ours to roll.
        extranonce2_size: usize,
    },
    /// Shares are welcome from here on.
    Authorized,
    /// New work, with the difficulty in force. If it is clean, all earlier work is void.
    Job(Arc<Job>),
    /// The upstream judged a share.
    Answer {
        /// As given to [`Client::submit`].
        tag: u64,
        /// Accepted, or why not.
        result: Result<(), Refusal>,
    },
    /// Version bits that may be rolled from now on; also for jobs already here.
    VersionMask(u32),
    /// The upstream asks to come again on the same host: close, wait, connect.
    Reconnect {
        /// Another port of the same host, if it named one.
        port: Option<u16>,
        /// How long to wait first.
        wait: Duration,
    },
    /// The upstream asked to go to a foreign host. It is not obeyed: to be logged (V1-11).
    ReconnectRefused {
        /// The host it named, safe to show.
        host: String,
    },
    /// Text for the operator, safe to show.
    ShowMessage(String),
}

/// Why the connection must be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A line over the limit.
    #[error(transparent)]
    LineTooLong(#[from] LineTooLong),
    /// Bytes that are no Stratum, or a field that is not what it must be.
    #[error("upstream sent a malformed {0}")]
    Malformed(&'static str),
    /// Well-formed, but not at this point of the session.
    #[error("upstream sent {0} too early")]
    TooEarly(&'static str),
    /// The upstream will not have us.
    #[error("upstream refused {method}: {refusal}")]
    Refused {
        /// What we asked.
        method: &'static str,
        /// What it said.
        refusal: Refusal,
    },
    /// The upstream did not do in time what it must.
    #[error("upstream was too slow: {0}")]
    TooSlow(&'static str),
}

/// Why a share was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// Not authorized yet.
    #[error("the upstream has not authorized us yet")]
    NotAuthorized,
    /// [`PENDING_MAX`] requests wait for their answers.
    #[error("{PENDING_MAX} requests wait for the upstream's answer")]
    TooManyPending,
    /// The version differs from the job's outside the agreed mask: no upstream could rebuild the header.
    #[error("version {version:#010x} differs from the job's outside the mask {mask:#010x}")]
    VersionOutsideMask {
        /// The header version.
        version: u32,
        /// The mask in force; 0 without version rolling.
        mask: u32,
    },
}

/// A share to submit: what was rolled.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// The job.
    pub job: Arc<Job>,
    /// [`Job::extranonce2_size`] bytes.
    pub extranonce2: Box<[u8]>,
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
        self.job.header(&self.extranonce2, self.ntime, self.nonce, self.version)
    }
}
