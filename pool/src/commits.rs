//! Shares on their way to the log: at most one batch of a shard is in flight, the next one gathers meanwhile.
//!
//! So a lone share is written at once, and under load batches grow to whatever the disk takes. On a fast disk they
//! would stay small all the same, and each costs a sync, two writes and the waking of two threads; so under load a
//! batch is sent [`COMMIT_INTERVAL`] after the one before at the earliest. A batch whose commit failed is tried again
//! until its oldest share has waited [`ANSWER_WITHIN`]; then its miners are told that accounting is unavailable. Shares
//! that must be in the log all the same are [kept](Commits::keep): they take places of the open batch until they are, and
//! when they have all of them the shard reads no more.

use std::mem;
use std::time::{Duration, Instant};

/// Shares that may gather while a batch is in flight; beyond that the shard stops reading.
pub const OPEN_SHARES_MAX: usize = 8_192;
/// A share that cannot be made durable is answered with an error after this time.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Pause before a failed commit is tried again.
pub const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// From one batch to the next, under load. A share waits half of it on average, which no miner notices. Waking threads
/// costs more than the share: with 2 ms, 1,500 shares a second put 3.3 threads to sleep each, with 5 ms 2.1.
pub const COMMIT_INTERVAL: Duration = Duration::from_millis(5);

/// Shares and who waits for them, in the same order. `None`: logged, but already answered.
#[derive(Debug)]
struct Gathered<S, W> {
    shares: Vec<S>,
    waiting: Vec<Option<W>>,
    oldest: Option<Instant>,
}

/// The shard's side of the way to the log: `S` are shares, `W` names who waits for the answer.
#[derive(Debug)]
pub struct Commits<S, W> {
    open: Gathered<S, W>,
    in_flight: Option<InFlight<W>>,
    /// When the next batch may be sent, if that is later than now: not yet after the one before, or after a failure.
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct InFlight<W> {
    waiting: Vec<Option<W>>,
    oldest: Option<Instant>,
}

impl<S, W> Default for Gathered<S, W> {
    fn default() -> Self {
        Self { shares: Vec::new(), waiting: Vec::new(), oldest: None }
    }
}

impl<S, W> Default for Commits<S, W> {
    fn default() -> Self {
        Self { open: Gathered::default(), in_flight: None, not_before: None }
    }
}

impl<S, W> Commits<S, W> {
    /// Adds a share to the open batch.
    pub fn push(&mut self, share: S, waiting: Option<W>, now: Instant) {
        self.open.shares.push(share);
        self.open.waiting.push(waiting);
        self.open.oldest.get_or_insert(now);
    }

    /// Puts shares of a batch that failed for good in front of the open batch: they are tried again however long it
    /// takes, and their miners have their answer.
    pub fn keep(&mut self, mut shares: Vec<S>) {
        let mut waiting: Vec<_> = shares.iter().map(|_| None).collect();
        shares.append(&mut self.open.shares);
        waiting.append(&mut self.open.waiting);
        self.open.shares = shares;
        self.open.waiting = waiting;
    }

    /// Whether the open batch has room; if not, the shard stops reading.
    pub fn has_room(&self) -> bool {
        self.open.shares.len() < OPEN_SHARES_MAX
    }

    /// Whether nothing gathers and nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.open.shares.is_empty() && self.in_flight.is_none()
    }

    /// The shares to commit now, if it is time: call again after each [`Commits::durable`] and
    /// [`Commits::failed`].
    pub fn next(&mut self, now: Instant) -> Option<Vec<S>> {
        self.not_before = self.not_before.filter(|at| now < *at);
        if self.in_flight.is_some() || self.open.shares.is_empty() || self.not_before.is_some() {
            return None;
        }
        self.not_before = Some(now + COMMIT_INTERVAL);
        let Gathered { shares, waiting, oldest } = mem::take(&mut self.open);
        self.in_flight = Some(InFlight { waiting, oldest });
        Some(shares)
    }

    /// When [`Commits::next`] is worth another call, if nothing else happens before.
    pub fn next_at(&self) -> Option<Instant> {
        let waits = self.in_flight.is_none() && !self.open.shares.is_empty();
        self.not_before.filter(|_| waits)
    }

    /// The batch in flight is durable: who is to be told so, in the order of its shares.
    pub fn durable(&mut self) -> Vec<Option<W>> {
        self.came_back().waiting
    }

    /// The batch in flight could not be committed, these are its shares. Either it will be tried again, or it has failed
    /// for good: then its waiting are to be told so, and the shares forgotten or [kept](Commits::keep).
    pub fn failed(&mut self, mut shares: Vec<S>, now: Instant) -> Option<(Vec<W>, Vec<S>)> {
        let InFlight { waiting, oldest } = self.came_back();
        assert_eq!(shares.len(), waiting.len(), "a failed batch comes back whole");
        self.not_before = Some(now + RETRY_PAUSE);
        if oldest.is_some_and(|since| now.saturating_duration_since(since) >= ANSWER_WITHIN) {
            return Some((waiting.into_iter().flatten().collect(), shares));
        }
        // Older shares go first: their order in the log is the order of their arrival.
        let newer = mem::take(&mut self.open);
        shares.extend(newer.shares);
        let waiting = waiting.into_iter().chain(newer.waiting).collect();
        self.open = Gathered { shares, waiting, oldest: oldest.or(newer.oldest) };
        None
    }

    fn came_back(&mut self) -> InFlight<W> {
        self.in_flight.take().expect("only a batch in flight comes back")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_lone_share_goes_at_once_and_others_gather_while_it_is_under_way() {
        let start = Instant::now();
        let mut commits = Commits::default();
        commits.push("a", Some(1), start);
        assert_eq!(commits.next(start), Some(vec!["a"]));
        commits.push("b", Some(2), start);
        commits.push("c", None, start);
        assert_eq!(commits.next(start), None);
        assert_eq!(commits.next_at(), None, "what is in flight will come back");
        assert_eq!(commits.durable(), [Some(1)]);
        // The disk was fast: more may come until it is time.
        assert_eq!(commits.next(start), None);
        let time = commits.next_at().unwrap();
        assert_eq!(time, start + COMMIT_INTERVAL);
        commits.push("d", Some(3), time);
        assert_eq!(commits.next(time), Some(vec!["b", "c", "d"]));
        // The disk was slow: nothing waits any longer.
        let late = time + COMMIT_INTERVAL;
        commits.push("e", Some(4), late);
        assert_eq!(commits.durable(), [Some(2), None, Some(3)], "in the order of the shares");
        assert_eq!(commits.next(late), Some(vec!["e"]));
        assert_eq!(commits.durable(), [Some(4)]);
        assert!(commits.is_idle());
        // An idle shard is woken for nothing.
        assert_eq!(commits.next_at(), None);
    }

    #[test]
    fn d04_a_failed_batch_is_retried_in_order_until_its_oldest_share_has_waited_long_enough() {
        let start = Instant::now();
        let mut commits = Commits::default();
        commits.push("a", Some(1), start);
        assert_eq!(commits.next(start), Some(vec!["a"]));
        commits.push("b", Some(2), at(start, 10));
        assert_eq!(commits.failed(vec!["a"], at(start, 20)), None);
        assert_eq!(commits.next(at(start, 30)), None);
        let retry_at = commits.next_at().unwrap();
        assert_eq!(retry_at, at(start, 20) + RETRY_PAUSE);
        assert_eq!(commits.next(retry_at), Some(vec!["a", "b"]));
        let late = start + ANSWER_WITHIN;
        assert_eq!(commits.failed(vec!["a", "b"], late), Some((vec![1, 2], vec!["a", "b"])));
        assert!(commits.is_idle());
        // Nobody is called again for nothing, or an idle shard would never sleep.
        assert_eq!(commits.next_at(), None);
        // What comes next is tried again: no restart is needed once the disk has room.
        commits.push("c", Some(3), late);
        assert_eq!(commits.next(late + RETRY_PAUSE), Some(vec!["c"]));
    }

    #[test]
    fn what_must_be_in_the_log_is_tried_again_for_ever_and_hurries_nobody_else() {
        let start = Instant::now();
        let mut commits = Commits::default();
        commits.push("block", Some(1), start);
        assert_eq!(commits.next(start), Some(vec!["block"]));
        let late = start + ANSWER_WITHIN;
        commits.push("a", Some(2), late);
        assert!(commits.failed(vec!["block"], late).is_some());
        commits.keep(vec!["block"]);
        assert!(!commits.is_idle());
        let mut now = late + RETRY_PAUSE;
        assert_eq!(commits.next(now), Some(vec!["block", "a"]));
        assert_eq!(commits.failed(vec!["block", "a"], now), None);
        // The other share has its own five seconds.
        now = late + ANSWER_WITHIN;
        assert_eq!(commits.next(now), Some(vec!["block", "a"]));
        assert_eq!(commits.failed(vec!["block", "a"], now), Some((vec![2], vec!["block", "a"])));
        commits.keep(vec!["block"]);
        for _ in 0..1_000 {
            now = commits.next_at().unwrap();
            assert_eq!(commits.next(now), Some(vec!["block"]));
            assert_eq!(commits.failed(vec!["block"], now), None);
        }
        now = commits.next_at().unwrap();
        assert_eq!(commits.next(now), Some(vec!["block"]));
        assert_eq!(commits.durable(), [None]);
        assert!(commits.is_idle());
    }

    #[test]
    fn kept_shares_take_the_places_of_others() {
        let mut commits: Commits<usize, usize> = Commits::default();
        commits.keep((0..OPEN_SHARES_MAX).collect());
        assert!(!commits.has_room());
    }

    #[test]
    fn a_full_batch_says_so() {
        let start = Instant::now();
        let mut commits = Commits::default();
        for share in 0..OPEN_SHARES_MAX {
            assert!(commits.has_room());
            commits.push(share, Some(share), start);
        }
        assert!(!commits.has_room());
    }
}
