//! The jobs that one connection, or one channel of it, may still submit.

use crate::job::{Basis, Job, JobBody, JobId};
use crate::payee::PayeeTag;
use crate::pot::Pot;
use crate::share::SUPERSEDED_MAX;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Jobs kept; the oldest goes first.
///
/// New work comes every 30 s or so and a change of difficulty makes a job of its own, so 32 of them
/// are about a quarter of an hour on one parent. A machine holds a few seconds of work, and a job
/// earns nothing [`SUPERSEDED_MAX`] after it was superseded: what an older one could still bring is a
/// block, from a machine that has not listened for a quarter of an hour. More would not be free: each
/// job costs 48 bytes here, of the some 3 KB of a connection, and holds its template's transactions,
/// up to 4 MB for all connections together.
pub const JOBS_MAX: usize = 32;

/// A job as it was sent.
#[derive(Debug)]
pub struct Sent {
    /// Its name on the connection.
    pub id: JobId,
    /// Version bits that could be rolled when it was sent.
    pub mask: u32,
    /// What was sent.
    pub job: Job,
}

/// What sending a job means to its miner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcement {
    /// The job's name.
    pub id: JobId,
    /// Whether it voids all older jobs.
    pub clean: bool,
    /// Whether its difficulty differs from what the miner was told last.
    pub pot_changed: bool,
}

/// The last [`JOBS_MAX`] jobs; of these, the ones of older parents only for [`SUPERSEDED_MAX`]. Many
/// of them are too late for credit, but their blocks are still found.
#[derive(Debug)]
pub struct JobRing {
    /// Oldest first; ids are consecutive and wrap.
    ring: VecDeque<Sent>,
    first: JobId,
    next: JobId,
    /// Difficulty that the miner was told last.
    told: Option<Pot>,
}

impl JobRing {
    /// An empty ring whose ids count up from `first`.
    pub fn new(first: u32) -> Self {
        Self { ring: VecDeque::new(), first: JobId(first), next: JobId(first), told: None }
    }

    /// The newest job.
    pub fn newest(&self) -> Option<&Sent> {
        self.ring.back()
    }

    /// Finds a job that may still be submitted.
    pub fn find(&self, id: JobId) -> Option<&Sent> {
        let at = id.0.wrapping_sub(self.ring.front()?.id.0);
        self.ring.get(usize::try_from(at).ok()?)
    }

    /// Whether a job of this id was ever made.
    pub fn was_sent(&self, id: JobId) -> bool {
        id.0.wrapping_sub(self.first.0) < self.next.0.wrapping_sub(self.first.0)
    }

    /// Makes the newest job.
    pub fn send(
        &mut self,
        body: &Arc<JobBody>,
        tag: PayeeTag,
        pot: Pot,
        mask: u32,
        now: Instant,
    ) -> Announcement {
        let clean = self.newest().is_none_or(|newest| {
            let before = &newest.job.body;
            before.prev_hash != body.prev_hash || !same_payer(before, body)
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
        self.next = JobId(id.0.wrapping_add(1));
        let job = Job { body: body.clone(), tag, pot, superseded_at: None };
        self.ring.push_back(Sent { id, mask, job });
        Announcement { id, clean, pot_changed: self.told.replace(pot) != Some(pot) }
    }
}

/// Solo work ends with the first credited share, and work from upstream with its channel: then every older job is void.
fn same_payer(one: &JobBody, other: &JobBody) -> bool {
    match (&one.payout.basis, &other.payout.basis) {
        (Basis::Upstream(one), Basis::Upstream(other)) => one.channel == other.channel,
        (Basis::Solo { .. }, Basis::Solo { .. }) | (Basis::Window { .. }, Basis::Window { .. }) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{self, HARD_NBITS};
    use std::time::Duration;

    struct Rung {
        ring: JobRing,
        now: Instant,
    }

    impl Rung {
        fn new(first: u32) -> Self {
            Self { ring: JobRing::new(first), now: Instant::now() }
        }

        fn send(&mut self, parent: u8, pot: i8) -> Announcement {
            let mut body = sample::body(HARD_NBITS);
            body.prev_hash = sample::prev_hash(parent);
            let pot = Pot::try_from(pot).unwrap();
            self.ring.send(&Arc::new(body), sample::payee().tag, pot, 0, self.now)
        }
    }

    #[test]
    fn m14_ids_count_up_over_the_end_of_their_range_and_stay_found() {
        let mut rung = Rung::new(u32::MAX - 10);
        let ids: Vec<_> = (0..20).map(|_| rung.send(1, 0).id).collect();
        assert_eq!((ids[0].0, ids[10].0, ids[11].0, ids[19].0), (u32::MAX - 10, u32::MAX, 0, 8));
        for id in &ids {
            assert_eq!(rung.ring.find(*id).map(|sent| sent.id), Some(*id));
            assert!(rung.ring.was_sent(*id));
        }
        for id in [u32::MAX - 11, 9, 1 << 31].map(JobId) {
            assert!(rung.ring.find(id).is_none() && !rung.ring.was_sent(id));
        }
        for _ in 0..JOBS_MAX {
            rung.send(1, 0);
        }
        for id in ids {
            assert!(rung.ring.find(id).is_none() && rung.ring.was_sent(id), "dropped, but once sent");
        }
    }

    #[test]
    fn an_empty_ring_has_sent_nothing() {
        let ring = JobRing::new(5);
        assert!(ring.newest().is_none() && ring.find(JobId(5)).is_none() && !ring.was_sent(JobId(5)));
    }

    #[test]
    fn an_announcement_says_what_is_new_to_the_miner() {
        let mut rung = Rung::new(0);
        let mut announced = |parent, pot| {
            let Announcement { clean, pot_changed, .. } = rung.send(parent, pot);
            (clean, pot_changed)
        };
        assert_eq!(announced(1, 3), (true, true));
        assert_eq!(announced(1, 3), (false, false));
        assert_eq!(announced(1, 4), (false, true));
        assert_eq!(announced(2, 4), (true, false));
        assert_eq!(announced(1, 3), (true, true));
    }

    #[test]
    fn m15_a_job_is_superseded_once_and_an_old_parents_leave_after_their_time() {
        let mut rung = Rung::new(0);
        let first = rung.send(1, 0).id;
        let superseded = rung.now;
        rung.send(2, 0);
        rung.now += SUPERSEDED_MAX;
        rung.send(2, 0);
        assert_eq!(rung.ring.find(first).unwrap().job.superseded_at, Some(superseded));
        assert_eq!(rung.ring.newest().unwrap().job.superseded_at, None);
        rung.now += Duration::from_millis(1);
        rung.send(2, 0);
        assert!(rung.ring.find(first).is_none());
        assert_eq!(rung.ring.ring.len(), 3, "those of the present parent stay");
    }

    #[test]
    fn n09_a_ring_never_holds_more_than_its_bound() {
        let mut rung = Rung::new(7);
        for round in 0..200 {
            rung.send(round / 20, 0);
            assert!(rung.ring.ring.len() <= JOBS_MAX && rung.ring.ring.capacity() <= JOBS_MAX);
        }
    }
}
