//! The one share check: every share of every protocol is judged here and nowhere else.
//!
//! The order of judgement is fixed so that no block is ever lost to a policy: the header is hashed
//! first, a block is reported whatever follows, and only then come the reasons to refuse a share.

use crate::job::{Basis, Job, JobBody, Roll, Solution};
use crate::payee::Payee;
use crate::pot::Pot;
use crate::target::Work;
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A job earns nothing once it has been superseded for this long: nobody can sit on an old plan.
pub const SUPERSEDED_MAX: Duration = Duration::from_secs(120);
/// Solo jobs earn nothing once shared work has been out for this long (accounting §2.4).
pub const SOLO_AFTER_MAX: Duration = Duration::from_secs(2);
/// How far a header's time may be ahead of ours, in seconds: the node refuses blocks beyond it.
pub const NTIME_AHEAD_MAX_S: u32 = 7_200;
/// Shares remembered per shard and previous-block hash; more are refused, none is forgotten for them.
pub const DUPLICATES_MAX: usize = 10_000_000;
/// Previous-block hashes for which shares are remembered.
const TIPS_REMEMBERED: usize = 4;
/// Older ones that are known to have been left: should one come back, nobody could tell its replays apart.
const TIPS_LEFT_MAX: usize = 1_024;

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
pub struct PendingShare {
    /// The job it claims to solve.
    pub job: Job,
    /// The values it rolled.
    pub roll: Roll,
    /// Whom it is for; `Err` if the session found that policy refuses it (worker, version bits).
    ///
    /// Policy is checked before the hash but counts only after it: a block outranks it.
    pub payee: Result<Arc<Payee>, Reject>,
}

/// What the check judges against.
#[derive(Debug)]
pub struct Judge {
    /// Parent of current work.
    tip: BlockHash,
    /// The parent before it, and when it was replaced.
    previous: Option<(BlockHash, Instant)>,
    /// How long a share for the previous tip still earns credit.
    stale_credit: Duration,
    /// When shared work first replaced solo work.
    solo_ended: Option<Instant>,
    duplicates: DuplicateSet,
}

/// The judgement of one share.
#[derive(Debug)]
pub struct Verdict {
    /// Set if the header meets the network target: submit it now, whatever the outcome says.
    pub block: Option<Solution>,
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
    /// Answered, never logged.
    Rejected(Reject),
}

/// A share that may enter the log. Only [`Judge::check`] makes one.
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

    /// When it arrived, in Unix milliseconds.
    pub fn received_unix_ms(&self) -> u64 {
        self.received_unix_ms
    }

    /// What it earns: the work of the job's pot, never what the hash happened to achieve.
    pub fn credited_work(&self) -> Work {
        if self.credited { self.pot.work() } else { Work(0) }
    }
}

impl Judge {
    /// A judge that has seen no tip yet: every share is stale until [`Judge::new_tip`].
    pub fn new(stale_credit: Duration) -> Self {
        Self::with_duplicates_max(stale_credit, DUPLICATES_MAX)
    }

    fn with_duplicates_max(stale_credit: Duration, max: usize) -> Self {
        let duplicates = DuplicateSet { tips: VecDeque::new(), max };
        Self { tip: BlockHash::all_zeros(), previous: None, stale_credit, solo_ended: None, duplicates }
    }

    /// Work now builds on `tip`. The same tip again changes nothing.
    pub fn new_tip(&mut self, tip: BlockHash, now: Instant) {
        if tip != self.tip {
            self.previous = Some((self.tip, now));
            self.tip = tip;
            self.duplicates.remember(tip);
        }
    }

    /// Work now pays the window: jobs that pay their own payee alone earn no credit any more, after
    /// [`SOLO_AFTER_MAX`]. Calling again changes nothing.
    pub fn end_solo(&mut self, now: Instant) {
        self.solo_ended.get_or_insert(now);
    }

    /// The parent of current work.
    pub fn tip(&self) -> BlockHash {
        self.tip
    }

    /// Judges one share. `unix_ms` is the wall clock, for header times and the log only.
    pub fn check(&mut self, share: PendingShare, now: Instant, unix_ms: u64) -> Verdict {
        let PendingShare { job, roll, payee } = share;
        let header = job.header(&roll);
        let digest = sha256d::sha256d(&header);
        let hash = BlockHash::from_byte_array(digest);
        let block = job.body.network_target.is_met_by(&digest).then(|| Solution {
            body: job.body.clone(),
            coinbase: job.coinbase(&roll),
            header,
            hash,
        });
        let outcome = match self.judge(&job, &roll, &digest, payee, now, unix_ms) {
            Ok((payee, credited)) => {
                let share = JudgedShare {
                    payee,
                    roll,
                    pot: job.pot,
                    hash,
                    credited,
                    block_candidate: block.is_some(),
                    received_unix_ms: unix_ms,
                    body: job.body,
                };
                if credited { Outcome::Accepted(share) } else { Outcome::Stale(share) }
            }
            Err(reject) => Outcome::Rejected(reject),
        };
        Verdict { block, outcome }
    }

    /// The reasons to refuse, in their order. `Ok` carries whether the share earns credit.
    fn judge(
        &mut self,
        job: &Job,
        roll: &Roll,
        digest: &[u8; 32],
        payee: Result<Arc<Payee>, Reject>,
        now: Instant,
        unix_ms: u64,
    ) -> Result<(Arc<Payee>, bool), Reject> {
        let payee = payee?;
        let fresh = self.is_fresh(job, now);
        // What is wrong with a stale share beside its age does not matter to its miner.
        let or_stale = |reject| if fresh { reject } else { Reject::Stale };
        let latest = u32::try_from(unix_ms / 1000).unwrap_or(u32::MAX).saturating_add(NTIME_AHEAD_MAX_S);
        if roll.ntime < job.body.ntime_min || roll.ntime > latest {
            return Err(or_stale(Reject::BadNtime));
        }
        let prev_hash = job.body.prev_hash;
        if self.duplicates.contains(prev_hash, digest) {
            return Err(or_stale(Reject::Duplicate));
        }
        if !job.pot.target().is_met_by(digest) {
            return Err(or_stale(Reject::LowDifficulty));
        }
        self.duplicates.insert(prev_hash, digest).map_err(or_stale)?;
        Ok((payee, fresh))
    }

    fn is_fresh(&self, job: &Job, now: Instant) -> bool {
        let in_time = |since: Instant, limit| now.saturating_duration_since(since) <= limit;
        if job.superseded_at.is_some_and(|since| !in_time(since, SUPERSEDED_MAX)) {
            return false;
        }
        let solo = matches!(job.body.payout.basis, Basis::Solo(_));
        if solo && self.solo_ended.is_some_and(|since| !in_time(since, SOLO_AFTER_MAX)) {
            return false;
        }
        job.body.prev_hash == self.tip
            || self.previous.is_some_and(|(hash, since)| {
                !self.stale_credit.is_zero()
                    && hash == job.body.prev_hash
                    && in_time(since, self.stale_credit)
            })
    }

    /// Takes back a share whose commit failed: its miner was told so and may send it again.
    pub fn forget(&mut self, share: &JudgedShare) {
        self.duplicates.remove(share.body.prev_hash, share.hash.as_byte_array());
    }
}

/// Header hashes seen, by the previous-block hash they build on.
///
/// Keyed by value, so a tip that comes back after a reorganisation finds its shares again. One that comes back
/// after [`TIPS_REMEMBERED`] others takes no shares: its work is many blocks behind, and its old shares could be
/// sent again through new jobs, for the same coinbase may come again.
#[derive(Debug)]
struct DuplicateSet {
    /// Newest last.
    tips: VecDeque<Tip>,
    /// Shares remembered per tip.
    max: usize,
}

#[derive(Debug)]
struct Tip {
    hash: BlockHash,
    /// `None` once its shares are forgotten.
    seen: Option<HashSet<[u8; 16]>>,
}

impl DuplicateSet {
    /// Half of a header hash: the low-order half, which no proof of work makes predictable. Two
    /// distinct headers share it once in 2^128 tries.
    fn key(digest: &[u8; 32]) -> [u8; 16] {
        digest[..16].try_into().expect("half of 32 bytes")
    }

    /// Makes room for a tip. Of the tips with shares the newest [`TIPS_REMEMBERED`] keep them; an old one without
    /// has nothing to be remembered for, and a node that catches up tells of many.
    fn remember(&mut self, hash: BlockHash) {
        let known = self.tips.iter().position(|tip| tip.hash == hash);
        let known = known.and_then(|at| self.tips.remove(at));
        self.tips.push_back(known.unwrap_or_else(|| Tip { hash, seen: Some(HashSet::new()) }));
        let is_empty = |tip: &Tip| tip.seen.as_ref().is_some_and(HashSet::is_empty);
        let mut newer = self.tips.len();
        self.tips.retain(|tip| {
            newer -= 1;
            newer < TIPS_REMEMBERED || !is_empty(tip)
        });
        // The newest will have shares.
        let older = self.tips.iter_mut().rev().skip(1).filter(|tip| tip.seen.is_some() && !is_empty(tip));
        older.skip(TIPS_REMEMBERED - 1).for_each(|tip| tip.seen = None);
        if self.tips.len() > TIPS_REMEMBERED + TIPS_LEFT_MAX {
            self.tips.pop_front();
        }
    }

    fn seen(&self, tip: BlockHash) -> Option<&HashSet<[u8; 16]>> {
        self.tips.iter().rev().find(|known| known.hash == tip)?.seen.as_ref()
    }

    fn seen_mut(&mut self, tip: BlockHash) -> Option<&mut HashSet<[u8; 16]>> {
        self.tips.iter_mut().rev().find(|known| known.hash == tip)?.seen.as_mut()
    }

    fn contains(&self, tip: BlockHash, digest: &[u8; 32]) -> bool {
        self.seen(tip).is_some_and(|seen| seen.contains(&Self::key(digest)))
    }

    fn insert(&mut self, tip: BlockHash, digest: &[u8; 32]) -> Result<(), Reject> {
        // A tip that was never announced, or whose shares are forgotten, cannot be told apart from a replay.
        let max = self.max;
        let seen = self.seen_mut(tip).ok_or(Reject::Stale)?;
        if seen.len() >= max {
            return Err(Reject::DuplicateSetFull);
        }
        seen.insert(Self::key(digest));
        Ok(())
    }

    fn remove(&mut self, tip: BlockHash, digest: &[u8; 32]) {
        if let Some(seen) = self.seen_mut(tip) {
            seen.remove(&Self::key(digest));
        }
    }
}

#[cfg(test)]
mod tests;
