//! Hashing threads: each serves its miners in turn, so that all of them get their share of a core.

use crate::bucket::TokenBucket;
use crate::roll::Roller;
use crate::work::{Assignment, Share};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Hashes done for one miner before the next gets its turn: well below a millisecond.
const SLICE: u32 = 1_024;
/// How long a thread rests when all its miners have used up their rates or have no work.
const REST: Duration = Duration::from_millis(1);

/// One miner as its hashing thread sees it.
#[derive(Debug)]
pub struct Lane {
    work: watch::Receiver<Option<Assignment>>,
    found: mpsc::Sender<Share>,
    bucket: Option<TokenBucket>,
    roller: Option<Roller>,
    next_turn: u64,
    /// Shares that the connection has not taken yet; while there are any, the miner does not hash.
    held: VecDeque<Share>,
}

impl Lane {
    /// A miner with a capped rate in hashes per second; `None` takes what it gets.
    pub fn new(
        work: watch::Receiver<Option<Assignment>>,
        found: mpsc::Sender<Share>,
        hashrate: Option<u64>,
        now: Instant,
    ) -> Self {
        let bucket = hashrate.map(|rate| TokenBucket::new(rate, now));
        Self { work, found, bucket, roller: None, next_turn: 0, held: VecDeque::new() }
    }

    /// Hashes one slice and says how many hashes that were; `None` if the connection is gone for good.
    fn turn(&mut self, now: Instant, shares: &mut Vec<Share>) -> Option<u32> {
        while let Some(share) = self.held.pop_front() {
            match self.found.try_send(share) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(share)) => {
                    self.held.push_front(share);
                    return Some(0);
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return None,
            }
        }
        // An error: the connection is gone.
        if self.work.has_changed().ok()? {
            let assignment = self.work.borrow_and_update().clone();
            self.next_turn = self.roller.take().map_or(self.next_turn, |roller| roller.next_turn());
            self.roller = assignment.map(|assignment| Roller::new(assignment, self.next_turn));
        }
        let Some(roller) = &mut self.roller else { return Some(0) };
        let hashes = self.bucket.as_mut().map_or(SLICE, |bucket| bucket.take(SLICE, now));
        roller.scan(hashes, shares);
        self.held.extend(shares.drain(..));
        Some(hashes)
    }
}

/// Hashes until all connections are gone. `hashed` counts along.
pub fn run(mut lanes: Vec<Lane>, hashed: &Arc<AtomicU64>) {
    let mut shares = Vec::new();
    while !lanes.is_empty() {
        let (now, mut done) = (Instant::now(), 0);
        lanes.retain_mut(|lane| match lane.turn(now, &mut shares) {
            Some(hashes) => {
                done += u64::from(hashes);
                true
            }
            None => false,
        });
        hashed.fetch_add(done, Ordering::Relaxed);
        if done == 0 {
            std::thread::sleep(REST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roll::tests::job;

    fn lane(
        capacity: usize,
        hashrate: Option<u64>,
    ) -> (watch::Sender<Option<Assignment>>, mpsc::Receiver<Share>, Lane) {
        let (work, work_seen) = watch::channel(None);
        let (found, shares) = mpsc::channel(capacity);
        (work, shares, Lane::new(work_seen, found, hashrate, Instant::now()))
    }

    #[test]
    fn a_miner_hashes_only_what_it_was_told_last() {
        let (work, mut shares, mut lane) = lane(10_000, None);
        let (now, mut found) = (Instant::now(), Vec::new());
        assert_eq!(lane.turn(now, &mut found), Some(0));
        let (first, second) = (job(-32, 8), job(-32, 4));
        for job in [&first, &second] {
            work.send_replace(Some(Assignment { job: job.clone(), version_mask: 0 }));
        }
        assert_eq!(lane.turn(now, &mut found), Some(SLICE));
        work.send_replace(None);
        assert_eq!(lane.turn(now, &mut found), Some(0));
        assert!(std::iter::from_fn(|| shares.try_recv().ok()).all(|share| share.job == second));
    }

    #[test]
    fn a_connection_that_takes_no_shares_stops_its_miner_and_no_share_is_lost() {
        let (work, mut shares, mut lane) = lane(1, None);
        let (now, mut found) = (Instant::now(), Vec::new());
        work.send_replace(Some(Assignment { job: job(-32, 8), version_mask: 0 }));
        assert_eq!(lane.turn(now, &mut found), Some(SLICE));
        assert_eq!(lane.turn(now, &mut found), Some(0));
        work.send_replace(None);
        let mut nonces = Vec::new();
        while !lane.held.is_empty() {
            lane.turn(now, &mut found);
            nonces.extend(shares.try_recv().map(|share| share.nonce));
        }
        assert!(nonces.is_sorted() && nonces.len() > 1_000, "{}", nonces.len());
    }

    #[test]
    fn a_miner_whose_connection_is_gone_ends() {
        let (work, shares, mut lane) = lane(1, Some(1_000));
        drop((work, shares));
        assert_eq!(lane.turn(Instant::now(), &mut Vec::new()), None);
        let hashed = Arc::new(AtomicU64::new(0));
        run(vec![lane], &hashed);
        assert_eq!(hashed.load(Ordering::Relaxed), 0);
    }
}
