//! Watches whether another node has more work than the current one, and whether one is left behind (CH-03).

use super::Wake;
use crate::bitcoind::ask::{self, Progress};
use crate::bitcoind::rpc::{Canceller, Purpose, Rpc};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(5);
/// A rival must be ahead in so many rounds in a row: blocks do not reach all nodes at once.
const ROUNDS_AHEAD: u32 = 3;
/// A node that lags by this many blocks …
const BLOCKS_BEHIND: u32 = 2;
/// … in so many rounds in a row, that is for 30 s, is not in step.
const ROUNDS_BEHIND: u32 = 6;
const NAP: Duration = Duration::from_millis(50);

/// Starts the watch; it ends with `stop`.
pub(super) fn watch(
    nodes: &[super::SourceNode],
    current: Arc<AtomicUsize>,
    wake: SyncSender<Wake>,
    stop: Canceller,
) -> Vec<Canceller> {
    let mut rpcs: Vec<Rpc> = nodes.iter().map(|node| Rpc::new(&node.rpc, Purpose::Other)).collect();
    let cancellers = rpcs.iter().map(Rpc::canceller).collect();
    let run = move || {
        let mut rounds = Rounds::new(rpcs.len());
        while !stop.is_cancelled() {
            let progress: Vec<_> = rpcs.iter_mut().map(|rpc| ask::progress(rpc).ok()).collect();
            for found in rounds.next(current.load(Ordering::Relaxed), &progress) {
                if wake.send(found).is_err() {
                    return;
                }
            }
            let until = Instant::now() + EVERY;
            while Instant::now() < until && !stop.is_cancelled() {
                thread::sleep(NAP);
            }
        }
    };
    thread::Builder::new().name("rivals".into()).spawn(run).expect("the system can start a thread");
    cancellers
}

/// For how many rounds in a row each node has been ahead of the current one, or behind any.
struct Rounds {
    ahead: Vec<u32>,
    behind: Vec<u32>,
}

impl Rounds {
    fn new(nodes: usize) -> Self {
        Self { ahead: vec![0; nodes], behind: vec![0; nodes] }
    }

    /// What a round of answers shows; `None` for a node that gave none.
    fn next(&mut self, current: usize, progress: &[Option<Progress>]) -> Vec<Wake> {
        let work = |place: usize| progress[place].as_ref().map(|progress| &progress.work);
        let highest = progress.iter().flatten().map(|progress| progress.height).max().unwrap_or(0);
        let mut found = Vec::new();
        for place in 0..progress.len() {
            let more = work(current).is_some() && work(place) > work(current);
            self.ahead[place] = if more { self.ahead[place] + 1 } else { 0 };
            if self.ahead[place] >= ROUNDS_AHEAD {
                found.push(Wake::Rival(place));
            }
            // A node that does not answer is told of elsewhere.
            let lag = progress[place].as_ref().map_or(0, |progress| highest - progress.height);
            self.behind[place] = if lag >= BLOCKS_BEHIND { self.behind[place].saturating_add(1) } else { 0 };
            // Told once, until it has caught up.
            if self.behind[place] == ROUNDS_BEHIND {
                found.push(Wake::Behind(place, lag));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(height: u32) -> Option<Progress> {
        Some(Progress { work: format!("{height:064x}"), height })
    }

    fn found(rounds: &mut Rounds, current: usize, progress: &[Option<Progress>]) -> Vec<(usize, u32)> {
        let places = rounds.next(current, progress).into_iter().filter_map(|wake| match wake {
            Wake::Behind(place, blocks) => Some((place, blocks)),
            Wake::Rival(_) | Wake::Block | Wake::LongPoll(..) | Wake::Stop => None,
        });
        places.collect()
    }

    #[test]
    fn ch_03_a_node_two_blocks_behind_for_half_a_minute_is_told_once_until_it_has_caught_up() {
        let mut rounds = Rounds::new(3);
        for _ in 0..2 {
            for _ in 1..ROUNDS_BEHIND {
                assert_eq!(found(&mut rounds, 0, &[at(10), at(8), at(9)]), []);
            }
            assert_eq!(found(&mut rounds, 0, &[at(11), at(8), at(10)]), [(1, 3)]);
            for _ in 0..20 {
                assert_eq!(found(&mut rounds, 0, &[at(12), at(8), at(11)]), []);
            }
            assert_eq!(found(&mut rounds, 0, &[at(12), at(12), None]), []);
        }
    }

    #[test]
    fn ch_03_more_work_counts_and_only_if_it_stays() {
        let mut rounds = Rounds::new(2);
        let rivals = |found: Vec<Wake>| found.iter().filter(|wake| matches!(wake, Wake::Rival(1))).count();
        for _ in 1..ROUNDS_AHEAD {
            assert_eq!(rivals(rounds.next(0, &[at(5), at(6)])), 0);
        }
        assert_eq!(rivals(rounds.next(0, &[at(6), at(6)])), 0);
        for _ in 1..ROUNDS_AHEAD {
            assert_eq!(rivals(rounds.next(0, &[at(6), at(7)])), 0);
        }
        assert_eq!(rivals(rounds.next(0, &[at(6), at(7)])), 1);
        // A current node that does not answer is no reason by itself: its failures are counted elsewhere.
        let mut rounds = Rounds::new(2);
        for _ in 0..10 {
            assert_eq!(rivals(rounds.next(0, &[None, at(7)])), 0);
        }
    }
}
