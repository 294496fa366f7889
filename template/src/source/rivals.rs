//! Watches whether another node has more work than the current one (CH-03).

use super::Wake;
use crate::bitcoind::ask;
use crate::bitcoind::rpc::{Canceller, Purpose, Rpc};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(5);
/// A rival must be ahead in so many rounds in a row: blocks do not reach all nodes at once.
const ROUNDS: u32 = 3;
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
        let mut ahead = vec![0_u32; rpcs.len()];
        while !stop.is_cancelled() {
            let work: Vec<Option<String>> = rpcs.iter_mut().map(|rpc| ask::chain_work(rpc).ok()).collect();
            let current = current.load(Ordering::Relaxed);
            for place in 0..work.len() {
                let more = work[current].is_some() && work[place] > work[current];
                ahead[place] = if more { ahead[place] + 1 } else { 0 };
                if ahead[place] >= ROUNDS && wake.send(Wake::Rival(place)).is_err() {
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
