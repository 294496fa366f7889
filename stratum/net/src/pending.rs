//! Shares that were received and wait for their judgement.
//!
//! They are judged as soon as every connection that is ready has been read, so those that come together are hashed
//! side by side. Nobody waits for a batch to fill.

use crate::connections::PeerKey;
use std::time::Instant;
use stratum::session::Ticket;
use stratum::share::{Judge, PendingShare, Verdict};

/// Shares that wait before the shard reads no more.
pub const PENDING_MAX: usize = 256;

/// Who is to be told of a share; nobody, if its connection had no room for an answer.
pub type Asked = Option<(PeerKey, Ticket)>;

/// What waits, in the order of its arrival.
#[derive(Debug, Default)]
pub struct PendingShares {
    shares: Vec<PendingShare>,
    asked: Vec<Asked>,
    verdicts: Vec<Verdict>,
}

impl PendingShares {
    pub(crate) fn push(&mut self, asked: Asked, share: PendingShare) {
        self.shares.push(share);
        self.asked.push(asked);
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.shares.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.shares.is_empty()
    }

    /// Has all of them judged, for [`PendingShares::verdicts`].
    pub(crate) fn judge(&mut self, judge: &mut Judge, now: Instant, unix_ms: u64) {
        judge.check_all(&mut self.shares, now, unix_ms, &mut self.verdicts);
    }

    /// Takes out what was judged.
    pub(crate) fn verdicts(&mut self) -> impl Iterator<Item = (Asked, Verdict)> {
        self.asked.drain(..).zip(self.verdicts.drain(..))
    }
}
