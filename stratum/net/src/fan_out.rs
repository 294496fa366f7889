//! Tells every miner of new work, a portion at a time.
//!
//! At a new tip work comes twice within milliseconds, first without transactions and then with them, and telling ten
//! thousand miners takes a fifth of a second. So a round turns to the newest work as soon as that is there: first come
//! those who have not been told of the one before, and are told of it no more.

use crate::connections::PeerKey;
use crate::metrics::ShardMetrics;
use crate::serve::Serve;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;
use tokio::sync::watch;
use tokio::task::yield_now;

/// Connections that get new work before others of the shard have their turn.
const PORTION: usize = 256;

/// Runs until nobody can bring new work any more.
pub(crate) async fn fan_out<S: Serve>(
    shard: Rc<RefCell<S>>,
    mut current: watch::Receiver<S::Current>,
    metrics: ShardMetrics,
) {
    let mut round = Round::default();
    let mut started = Instant::now();
    loop {
        if round.is_over() {
            if current.changed().await.is_err() {
                return;
            }
        } else {
            let now = Instant::now();
            round.portion().iter().for_each(|key| shard.borrow_mut().offer_work(*key, now));
            if round.is_over() {
                metrics.fanned_out(started.elapsed());
            }
            yield_now().await;
            if !current.has_changed().unwrap_or(false) {
                continue;
            }
        }
        started = Instant::now();
        // Old jobs are stale from here on, whoever has been told already; not so for what has come before.
        let newest = current.borrow_and_update().clone();
        let mut shard = shard.borrow_mut();
        shard.judge_pending(started);
        if shard.follow(newest, started) {
            round.turn_to(shard.connections().keys());
        }
    }
}

/// Whom the newest work is to be told, in this order.
#[derive(Debug, Default)]
struct Round {
    keys: Vec<PeerKey>,
    told: usize,
}

impl Round {
    /// There is other work, for all of `all`.
    fn turn_to(&mut self, all: Vec<PeerKey>) {
        self.keys.drain(..self.told);
        self.told = 0;
        let mut first = self.keys.clone();
        first.sort_unstable();
        self.keys.extend(all.into_iter().filter(|key| first.binary_search(key).is_err()));
    }

    /// The next ones; they count as told.
    fn portion(&mut self) -> &[PeerKey] {
        let from = self.told;
        self.told = (from + PORTION).min(self.keys.len());
        &self.keys[from..self.told]
    }

    fn is_over(&self) -> bool {
        self.told == self.keys.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(numbers: std::ops::Range<u64>) -> Vec<PeerKey> {
        numbers.map(PeerKey::of).collect()
    }

    fn rest(round: &mut Round) -> Vec<PeerKey> {
        let mut told = Vec::new();
        while !round.is_over() {
            told.extend_from_slice(round.portion());
        }
        told
    }

    #[test]
    fn all_are_told_once_in_portions() {
        let mut round = Round::default();
        assert!(round.is_over());
        round.turn_to(keys(0..600));
        assert_eq!(round.portion(), keys(0..256));
        assert_eq!(round.portion(), keys(256..512));
        assert_eq!(round.portion(), keys(512..600));
        assert!(round.is_over());
        round.turn_to(keys(3..5));
        assert_eq!(rest(&mut round), keys(3..5));
    }

    #[test]
    fn who_waits_for_older_work_is_told_of_the_newest_first_and_only_of_that() {
        let mut round = Round::default();
        round.turn_to(keys(0..1_000));
        round.portion();
        // Meanwhile the first ten have left and others have come.
        round.turn_to(keys(10..1_100));
        let first: Vec<_> = keys(256..1_000);
        let told = rest(&mut round);
        assert_eq!(told[..first.len()], first);
        assert_eq!(told[first.len()..], [keys(10..256), keys(1_000..1_100)].concat());
    }

    #[test]
    fn nobody_waits_for_ever_when_work_changes_after_each_portion() {
        let (mut round, mut told) = (Round::default(), Vec::new());
        for _ in 0..4 {
            round.turn_to(keys(0..1_000));
            told.extend_from_slice(round.portion());
        }
        told.sort_unstable();
        told.dedup();
        assert_eq!(told, keys(0..1_000));
    }
}
