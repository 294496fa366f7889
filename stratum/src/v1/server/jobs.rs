//! The jobs that one connection may still submit.

use crate::job::{Basis, Job, JobBody, JobId};
use crate::payee::PayeeTag;
use crate::pot::Pot;
use crate::share::SUPERSEDED_MAX;
use crate::v1::encode::{EncodedJob, JobMessage};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Jobs kept per connection; the oldest goes first.
///
/// New work comes every 30 s or so and a change of difficulty makes a job of its own, so 32 of them
/// are about a quarter of an hour on one parent. A machine holds a few seconds of work, and a job
/// earns nothing [`SUPERSEDED_MAX`] after it was superseded: what an older one could still bring is a
/// block, from a machine that has not listened for a quarter of an hour. More would not be free: each
/// job costs 56 bytes here, of the some 3 KB of a connection, and holds its template's transactions,
/// up to 4 MB for all connections together.
pub const JOBS_MAX: usize = 32;

/// A job as it was sent.
#[derive(Debug)]
pub(super) struct Sent {
    id: JobId,
    /// Version bits that could be rolled when it was sent.
    pub(super) mask: u32,
    pub(super) job: Job,
}

/// The last [`JOBS_MAX`] jobs; of these, the ones of older parents only for [`SUPERSEDED_MAX`]. Many
/// of them are too late for credit, but their blocks are still found.
#[derive(Debug)]
pub(super) struct Jobs {
    /// Oldest first; ids are consecutive.
    ring: VecDeque<Sent>,
    next: JobId,
    /// What the newest job was made from.
    newest: Option<Arc<EncodedJob>>,
    /// Difficulty that the miner was told last.
    told: Option<Pot>,
}

impl Jobs {
    pub(super) fn new(first: u32) -> Self {
        Self { ring: VecDeque::new(), next: JobId(first.into()), newest: None, told: None }
    }

    pub(super) fn newest(&self) -> Option<&Arc<EncodedJob>> {
        self.newest.as_ref()
    }

    /// Finds a job by the id that the miner gave back; any other spelling of it is unknown.
    pub(super) fn find(&self, text: &str) -> Option<&Sent> {
        let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.is_empty() || text.len() > 1 && text.starts_with('0') || !text.bytes().all(digits) {
            return None;
        }
        let id = u64::from_str_radix(text, 16).ok()?;
        let at = id.checked_sub(self.ring.front()?.id.0)?;
        let sent = self.ring.get(usize::try_from(at).ok()?)?;
        (sent.id.0 == id).then_some(sent)
    }

    /// Makes the newest job.
    pub(super) fn send(
        &mut self,
        encoded: &Arc<EncodedJob>,
        tag: PayeeTag,
        pot: Pot,
        mask: u32,
        now: Instant,
    ) -> JobMessage {
        let body = encoded.body();
        let clean = self.newest.as_ref().is_none_or(|newest| {
            let before = newest.body();
            before.prev_hash != body.prev_hash || is_solo(before) != is_solo(body)
        });
        if let Some(last) = self.ring.back_mut() {
            last.job.superseded_at.get_or_insert(now);
        }
        while self.ring.front().is_some_and(|oldest| {
            let age = oldest.job.superseded_at.map(|since| now.saturating_duration_since(since));
            let dead =
                oldest.job.body.prev_hash != body.prev_hash && age.is_some_and(|age| age > SUPERSEDED_MAX);
            dead || self.ring.len() >= JOBS_MAX
        }) {
            self.ring.pop_front();
        }
        let id = self.next;
        self.next = JobId(id.0 + 1);
        let job = Job { body: body.clone(), tag, pot, superseded_at: None };
        self.ring.push_back(Sent { id, mask, job });
        self.newest = Some(encoded.clone());
        let difficulty = (self.told.replace(pot) != Some(pot)).then_some(pot);
        let mark = body.coinbase.mark(tag, pot);
        JobMessage { difficulty, id, encoded: encoded.clone(), mark, clean }
    }
}

/// Solo work ends with the first credited share: then every older job is void.
fn is_solo(body: &JobBody) -> bool {
    matches!(body.payout.basis, Basis::Solo(_))
}
