//! The order of judgement.

use super::duplicates::DuplicateSet;
use super::headers::Headers;
use super::{
    DUPLICATES_MAX, JudgedShare, NTIME_AHEAD_MAX_S, Outcome, PendingShare, Reject, SOLO_AFTER_MAX,
    SUPERSEDED_MAX, Verdict,
};
use crate::extranonce::Extranonce1;
use crate::job::{Basis, Job, Roll, Solution};
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use std::mem;
use std::time::{Duration, Instant};

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
    headers: Headers,
    pub(super) duplicates: DuplicateSet,
}

impl Judge {
    /// A judge that has seen no tip yet: every share is stale until [`Judge::new_tip`].
    pub fn new(stale_credit: Duration) -> Self {
        Self::with_duplicates_max(stale_credit, DUPLICATES_MAX)
    }

    pub(super) fn with_duplicates_max(stale_credit: Duration, max: usize) -> Self {
        Self {
            tip: BlockHash::all_zeros(),
            previous: None,
            stale_credit,
            solo_ended: None,
            headers: Headers::default(),
            duplicates: DuplicateSet::new(max),
        }
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

    /// Judges shares in their order, and appends their verdicts. `unix_ms` is the wall clock, for header times and the
    /// log only.
    pub fn check_all(
        &mut self,
        shares: &mut Vec<PendingShare>,
        now: Instant,
        unix_ms: u64,
        verdicts: &mut Vec<Verdict>,
    ) {
        // Set apart while verdicts are found, for they need the rest of the judge.
        let mut headers = mem::take(&mut self.headers);
        headers.hash(shares);
        for (share, hashed) in shares.drain(..).zip(headers.hashed()) {
            verdicts.push(self.verdict(share, hashed, now, unix_ms));
        }
        self.headers = headers;
    }

    /// The same for one share.
    pub fn check(&mut self, share: PendingShare, now: Instant, unix_ms: u64) -> Verdict {
        let mut verdicts = Vec::with_capacity(1);
        self.check_all(&mut vec![share], now, unix_ms, &mut verdicts);
        verdicts.pop().expect("each share gets its verdict")
    }

    /// A miner is gone, and its prefix may be given to another.
    pub fn forget_miner(&mut self, prefix: Extranonce1) {
        self.headers.forget(prefix);
    }

    fn verdict(
        &mut self,
        share: PendingShare,
        (header, digest): (&[u8; 80], &[u8; 32]),
        now: Instant,
        unix_ms: u64,
    ) -> Verdict {
        let PendingShare { job, roll, payee, allowed, .. } = share;
        let hash = BlockHash::from_byte_array(*digest);
        let block = job.body.network_target.is_met_by(digest).then(|| {
            Box::new(Solution {
                body: job.body.clone(),
                coinbase: job.coinbase(&roll),
                roll,
                header: *header,
                hash,
            })
        });
        let judged = self.judge(&job, &roll, digest, allowed, now, unix_ms);
        let is_lost_block = block.is_some() && judged.is_err() && self.may_be_logged(&job, digest);
        if block.is_some() && (judged.is_ok() || is_lost_block) {
            self.duplicates.insert_block(job.body.prev_hash, digest);
        }
        let logged = |credited| JudgedShare {
            payee,
            roll,
            pot: job.pot,
            hash,
            credited,
            block_candidate: block.is_some(),
            received_unix_ms: unix_ms,
            body: job.body,
        };
        let outcome = match judged {
            Ok(true) => Outcome::Accepted(logged(true)),
            Ok(false) => Outcome::Stale(logged(false)),
            Err(reject) if is_lost_block => Outcome::RefusedBlock(logged(false), reject),
            Err(reject) => Outcome::Rejected(reject),
        };
        Verdict { block, outcome }
    }

    /// Whether a share that was refused is work that is not logged yet.
    fn may_be_logged(&self, job: &Job, digest: &[u8; 32]) -> bool {
        // No share is asked for more than the network asks for, so a block always is such work.
        job.pot.target().is_met_by(digest) && !self.duplicates.contains(job.body.prev_hash, digest)
    }

    /// The reasons to refuse, in their order. `Ok` carries whether the share earns credit.
    fn judge(
        &mut self,
        job: &Job,
        roll: &Roll,
        digest: &[u8; 32],
        allowed: Result<(), Reject>,
        now: Instant,
        unix_ms: u64,
    ) -> Result<bool, Reject> {
        allowed?;
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
        Ok(fresh)
    }

    fn is_fresh(&self, job: &Job, now: Instant) -> bool {
        let in_time = |since: Instant, limit| now.saturating_duration_since(since) <= limit;
        if job.superseded_at.is_some_and(|since| !in_time(since, SUPERSEDED_MAX)) {
            return false;
        }
        let solo = matches!(job.body.payout.basis, Basis::Solo { .. });
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
