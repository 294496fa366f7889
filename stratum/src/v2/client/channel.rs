//! One channel: the jobs it may work on, those that wait for their parent, and its shares on their way.

use super::event::{Event, Kind, SubmitError};
use super::job::{Draft, Job, Tip};
use super::{FUTURE_JOBS_MAX, JOBS_MAX, SUBMITS_MAX};
use crate::fault::Fault;
use crate::target::Target;
use crate::v2::codec::Bytes32;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) id: u32,
    pub(super) kind: Kind,
    pub(super) group: u32,
    /// Of the jobs to come, and of those that wait for their parent.
    pub(super) target: Target,
    /// Of the jobs to come.
    prefix: Bytes32,
    extranonce_size: usize,
    /// `None` until a job can be worked on.
    tip: Option<Tip>,
    /// Oldest first.
    futures: VecDeque<Future>,
    /// Ids of the jobs whose shares may earn credit; oldest first.
    live: VecDeque<u32>,
    next_sequence: u32,
    /// Shares that wait for their answers.
    pending: u32,
}

/// A job that waits for its parent, with the prefix that it was sent with.
#[derive(Debug)]
pub(super) struct Future {
    draft: Draft,
    prefix: Bytes32,
}

impl Channel {
    pub(super) fn new(
        id: u32,
        kind: Kind,
        group: u32,
        target: Target,
        prefix: Bytes32,
        extranonce_size: usize,
    ) -> Self {
        Self {
            id,
            kind,
            group,
            target,
            prefix,
            extranonce_size,
            tip: None,
            futures: VecDeque::new(),
            live: VecDeque::new(),
            next_sequence: 0,
            pending: 0,
        }
    }

    pub(super) fn opened(&self, request: super::RequestId) -> Event {
        Event::Opened {
            request,
            channel: self.id,
            target: self.target,
            extranonce_prefix: self.prefix,
            extranonce_size: self.extranonce_size,
        }
    }

    pub(super) fn has_tip(&self) -> bool {
        self.tip.is_some()
    }

    /// Takes the group's newest block, if the channel was told of none itself.
    pub(super) fn follow(&mut self, tip: Option<Tip>) {
        self.tip = self.tip.or(tip);
    }

    /// Takes a job that waits for its parent.
    pub(super) fn keep(&mut self, draft: Draft) {
        // The same id again replaces the job: an answer could not tell the two apart.
        self.futures.retain(|future| future.draft.id != draft.id);
        if self.futures.len() >= FUTURE_JOBS_MAX {
            self.futures.pop_front();
        }
        self.futures.push_back(self.future(draft));
    }

    /// A job with the channel's present prefix.
    pub(super) fn future(&self, draft: Draft) -> Future {
        Future { draft, prefix: self.prefix }
    }

    /// The job of this id that waits for its parent.
    pub(super) fn take(&mut self, job_id: u32) -> Option<Future> {
        let at = self.futures.iter().position(|future| future.draft.id == job_id)?;
        self.futures.remove(at)
    }

    /// Begins with a job on the newest block (MN-28).
    pub(super) fn begin(&mut self, draft: Draft, min_ntime: u32, now: Instant) -> Result<Event, Fault> {
        let tip = self.tip.ok_or(Fault::Misbehaved("a job whose parent was never named"))?;
        self.live.retain(|live| *live != draft.id);
        if self.live.len() >= JOBS_MAX {
            self.live.pop_front();
        }
        Ok(self.work(self.future(draft), Tip { min_ntime, ..tip }, false, now))
    }

    /// There is a new block, and this job is the only one that stays (MN-32).
    pub(super) fn activate(&mut self, future: Future, tip: Tip, now: Instant) -> Event {
        self.tip = Some(tip);
        self.futures.clear();
        self.live.clear();
        self.work(future, tip, true, now)
    }

    fn work(&mut self, Future { draft, prefix }: Future, tip: Tip, clean: bool, now: Instant) -> Event {
        self.live.push_back(draft.id);
        let Draft { id, version, version_mask, work } = draft;
        let Tip { prev_hash, nbits, network_target, min_ntime } = tip;
        let job = Job {
            channel: self.id,
            id,
            version,
            version_mask,
            prev_hash,
            nbits,
            network_target,
            min_ntime,
            since: now,
            // What waited takes the newest target, what is worked on keeps its own (MN-35).
            target: self.target,
            extranonce_prefix: prefix,
            extranonce_size: self.extranonce_size,
            work,
        };
        Event::Work { job: Arc::new(job), clean }
    }

    pub(super) fn set_prefix(&mut self, prefix: Bytes32) -> Result<Event, Fault> {
        if prefix.as_bytes().len() + self.extranonce_size > Bytes32::MAX {
            return Err(Fault::Misbehaved("an extranonce of more than 32 bytes"));
        }
        self.prefix = prefix;
        Ok(Event::Prefix { channel: self.id, extranonce_prefix: prefix })
    }

    pub(super) fn set_target(&mut self, target: Target) -> Event {
        self.target = target;
        Event::Target { channel: self.id, target }
    }

    pub(super) fn is_live(&self, job_id: u32) -> bool {
        self.live.contains(&job_id)
    }

    pub(super) fn pending(&self) -> u32 {
        self.pending
    }

    /// The sequence number of the next share, which is now on its way.
    pub(super) fn sequence(&mut self) -> Result<u32, SubmitError> {
        if self.pending >= SUBMITS_MAX {
            return Err(SubmitError::TooManyPending);
        }
        let sequence = self.next_sequence;
        self.next_sequence = sequence.wrapping_add(1);
        self.pending += 1;
        Ok(sequence)
    }

    /// Shares were accepted; the answer is how many of those that waited.
    pub(super) fn accepted(&mut self, last_sequence_number: u32, count: u32) -> u32 {
        let count = count.min(self.pending);
        self.pending -= count;
        let later = self.next_sequence.wrapping_sub(last_sequence_number).wrapping_sub(1);
        // An answer that a server forgot is not waited for: what came before the last one is over.
        self.pending = self.pending.min(later);
        count
    }

    pub(super) fn rejected(&mut self) {
        self.pending = self.pending.saturating_sub(1);
    }
}
