//! The one share check: every share of every protocol is judged here and nowhere else.
//!
//! The order of judgement is fixed so that no block is ever lost to a policy: the header is hashed
//! first, a block is reported whatever follows, and only then come the reasons to refuse a share.

mod duplicates;
mod headers;
mod judge;

pub use judge::Judge;

use crate::job::{Job, JobBody, JobId, Roll, Solution};
use crate::payee::Payee;
use crate::pot::Pot;
use crate::target::Work;
use bitcoin::BlockHash;
use std::sync::Arc;
use std::time::Duration;

/// A job earns nothing once it has been superseded for this long: nobody can sit on an old plan.
pub const SUPERSEDED_MAX: Duration = Duration::from_secs(120);
/// Solo jobs earn nothing once shared work has been out for this long (accounting §2.4).
pub const SOLO_AFTER_MAX: Duration = Duration::from_secs(2);
/// How far a header's time may be ahead of ours, in seconds: the node refuses blocks beyond it.
pub const NTIME_AHEAD_MAX_S: u32 = 7_200;
/// Shares remembered per shard and previous-block hash; more are refused, none is forgotten for them.
pub const DUPLICATES_MAX: usize = 10_000_000;

/// Why a share is refused. The connection lives on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Reject {
    /// A field is missing, of the wrong type, length or alphabet.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// No such job on this connection.
    #[error("job not found")]
    UnknownJob,
    /// The tip has changed, or the job was superseded long ago.
    #[error("stale")]
    Stale,
    /// The same header was submitted before.
    #[error("duplicate share")]
    Duplicate,
    /// The hash is above the job's own target.
    #[error("low difficulty share")]
    LowDifficulty,
    /// The user was not authorized on this connection.
    #[error("unauthorized worker")]
    Unauthorized,
    /// No subscription yet.
    #[error("not subscribed")]
    NotSubscribed,
    /// Version bits outside the agreed mask were changed.
    #[error("version bits outside the mask")]
    BadVersionBits,
    /// V2: the extranonce is not as long as the channel's.
    #[error("extranonce of a wrong size")]
    BadExtranonceSize,
    /// Header time is outside what consensus will take.
    #[error("ntime out of range")]
    BadNtime,
    /// The duplicate set is full: accepting more could pay a share twice.
    #[error("too many shares since the last block")]
    DuplicateSetFull,
    /// The share could not be made durable.
    #[error("accounting unavailable")]
    AccountingUnavailable,
    /// A proxy: the pool upstream has refused the share for a reason that has no name here.
    #[error("refused upstream")]
    RefusedUpstream,
    /// A proxy: the connection upstream ended before the share was judged there.
    #[error("lost on the way upstream")]
    LostUpstream,
}

impl Reject {
    /// Whether a peer can bring it about without any work.
    ///
    /// Not so where the share may have been good, and we or upstream could not take it.
    pub fn is_worthless(self) -> bool {
        match self {
            Self::DuplicateSetFull
            | Self::AccountingUnavailable
            | Self::RefusedUpstream
            | Self::LostUpstream => false,
            Self::Malformed(_)
            | Self::UnknownJob
            | Self::Stale
            | Self::Duplicate
            | Self::LowDifficulty
            | Self::Unauthorized
            | Self::NotSubscribed
            | Self::BadVersionBits
            | Self::BadExtranonceSize
            | Self::BadNtime => true,
        }
    }

    /// One of each kind.
    pub const ALL: [Reject; 14] = [
        Self::Malformed(""),
        Self::UnknownJob,
        Self::Stale,
        Self::Duplicate,
        Self::LowDifficulty,
        Self::Unauthorized,
        Self::NotSubscribed,
        Self::BadVersionBits,
        Self::BadExtranonceSize,
        Self::BadNtime,
        Self::DuplicateSetFull,
        Self::AccountingUnavailable,
        Self::RefusedUpstream,
        Self::LostUpstream,
    ];

    /// Every reason, as it stands in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::UnknownJob => "unknown_job",
            Self::Stale => "stale",
            Self::Duplicate => "duplicate",
            Self::LowDifficulty => "low_difficulty",
            Self::Unauthorized => "unauthorized",
            Self::NotSubscribed => "not_subscribed",
            Self::BadVersionBits => "version_bits",
            Self::BadExtranonceSize => "extranonce_size",
            Self::BadNtime => "ntime",
            Self::DuplicateSetFull => "duplicate_set_full",
            Self::AccountingUnavailable => "accounting_unavailable",
            Self::RefusedUpstream => "refused_upstream",
            Self::LostUpstream => "lost_upstream",
        }
    }
}

/// A well-formed share that waits for its judgement.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PendingShare {
    /// The job's name on its connection or channel: together with the extranonce prefix it names the work.
    pub id: JobId,
    /// The job it claims to solve.
    pub job: Job,
    /// The values it rolled.
    pub roll: Roll,
    /// Whom it is for.
    pub payee: Arc<Payee>,
    /// `Err` if the session found that policy refuses it (worker, version bits).
    ///
    /// Policy is checked before the hash but counts only after it: a block outranks it.
    pub allowed: Result<(), Reject>,
}

impl PendingShare {
    /// A share as a session has understood it.
    ///
    /// # Panics
    /// If what was rolled does not fit the job: the session is at fault, and its connection alone shall end.
    pub fn new(id: JobId, job: Job, roll: Roll, payee: Arc<Payee>) -> Self {
        job.assert_room(roll.extranonce1, &roll.extranonce2);
        Self { id, job, roll, payee, allowed: Ok(()) }
    }

    /// With what policy says of it.
    pub fn under(self, allowed: Result<(), Reject>) -> Self {
        Self { allowed, ..self }
    }
}

/// The judgement of one share.
#[derive(Debug)]
pub struct Verdict {
    /// Set if the header meets the network target: submit it now, whatever the outcome says.
    pub block: Option<Box<Solution>>,
    /// What becomes of the share.
    pub outcome: Outcome,
}

/// What becomes of a share.
#[derive(Debug)]
pub enum Outcome {
    /// To be logged and credited; the miner is answered when that is durable.
    Accepted(JudgedShare),
    /// Real work that came too late: logged with no credit, answered [`Reject::Stale`].
    Stale(JudgedShare),
    /// Refused for whatever reason, but it solves a block that is not logged yet: logged with no credit, so that
    /// everybody can tell what the block has paid; answered with the reason.
    RefusedBlock(JudgedShare, Reject),
    /// Answered, never logged.
    Rejected(Reject),
}

impl Outcome {
    /// The share, if it is logged.
    pub fn logged(&self) -> Option<&JudgedShare> {
        match self {
            Self::Accepted(share) | Self::Stale(share) | Self::RefusedBlock(share, _) => Some(share),
            Self::Rejected(_) => None,
        }
    }
}

/// A share that may enter the log. Only the [`Judge`] makes one.
#[derive(Debug, Clone)]
pub struct JudgedShare {
    body: Arc<JobBody>,
    payee: Arc<Payee>,
    roll: Roll,
    pot: Pot,
    hash: BlockHash,
    credited: bool,
    block_candidate: bool,
    received_unix_ms: u64,
}

impl JudgedShare {
    /// The job that was worked on.
    pub fn body(&self) -> &Arc<JobBody> {
        &self.body
    }

    /// Whom the share is for.
    pub fn payee(&self) -> &Arc<Payee> {
        &self.payee
    }

    /// What the miner rolled.
    pub fn roll(&self) -> &Roll {
        &self.roll
    }

    /// Difficulty of the job as it was sent.
    pub fn pot(&self) -> Pot {
        self.pot
    }

    /// Hash of the header.
    pub fn hash(&self) -> BlockHash {
        self.hash
    }

    /// Whether it earns anything.
    pub fn credited(&self) -> bool {
        self.credited
    }

    /// Whether its header met the network target.
    pub fn block_candidate(&self) -> bool {
        self.block_candidate
    }

    /// The same without credit: its miner was told that it earns nothing.
    pub fn without_credit(self) -> Self {
        Self { credited: false, ..self }
    }

    /// When it arrived, in Unix milliseconds.
    pub fn received_unix_ms(&self) -> u64 {
        self.received_unix_ms
    }

    /// What it earns: the work of the job's pot, never what the hash happened to achieve.
    pub fn credited_work(&self) -> Work {
        if self.credited { self.pot.work() } else { Work(0) }
    }
}

#[cfg(test)]
mod tests;
