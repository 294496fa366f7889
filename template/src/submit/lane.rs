//! One node's blocks: several connections work on what is due, and repeat it until there is a verdict.

use super::file::{self, BlockFile};
use super::{Block, OnEvent, Outcome, SubmitEvent, Verdict, spawn};
use crate::bitcoind::rpc::{Canceller, Node, Purpose, Rpc, RpcError};
use std::collections::BinaryHeap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Calls that may be under way at one node: a call that hangs holds up no other block (SB-03).
const LANES: usize = 4;
/// Failed calls are repeated at once, then after this much more each time …
const BACKOFF_STEP: Duration = Duration::from_millis(100);
/// … up to this …
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// … and after this long …
const EAGER: Duration = Duration::from_secs(900);
/// … at this pace for ever.
const BACKOFF_LATE: Duration = Duration::from_secs(60);
/// A node that has not judged is asked again after this long, later by [`BACKOFF_LATE`].
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Blocks on top of a rival after which ours has lost.
const LOST_DEPTH: u64 = 6;
/// Blocks of ours below one that are handed in with it.
const ANCESTORS_MAX: usize = 8;
/// `getblockheader` does not know the block.
const NO_SUCH_BLOCK: i32 = -5;

/// A block that waits for its verdict at one node.
pub(super) struct Pending {
    due: Instant,
    since: Instant,
    attempts: u32,
    ask: bool,
    told: Option<Outcome>,
    block: Arc<Block>,
}

impl Pending {
    pub(super) fn new(block: Arc<Block>) -> Self {
        let now = Instant::now();
        Self { due: now, since: now, attempts: 0, ask: false, told: None, block }
    }

    fn later(mut self, call: Call) -> Self {
        let now = Instant::now();
        self.due = now + wait(call, self.attempts, now.duration_since(self.since));
        self.attempts = self.attempts.saturating_add(1);
        self
    }
}

/// How a call went that has brought no final verdict.
#[derive(Debug, Clone, Copy)]
enum Call {
    /// The node has not judged yet.
    Undecided,
    /// It brought no answer that we can use.
    Failed,
}

/// The schedule of repetitions, which never ends: how long to wait after a call for a block that is `age` old,
/// with so many calls before that one.
fn wait(call: Call, calls_before: u32, age: Duration) -> Duration {
    match call {
        _ if age > EAGER => BACKOFF_LATE,
        Call::Undecided => ASK_AGAIN,
        Call::Failed => BACKOFF_STEP.saturating_mul(calls_before).min(BACKOFF_MAX),
    }
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}
impl Eq for Pending {}
impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Pending {
    /// What is due first is the greatest: a heap gives that first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.due.cmp(&self.due)
    }
}

#[derive(Default)]
struct State {
    pending: BinaryHeap<Pending>,
    /// First calls under way.
    first_calls: usize,
    stopping: bool,
}

struct Shared {
    node: usize,
    address: Arc<str>,
    state: Mutex<State>,
    changed: Condvar,
    on_event: Arc<OnEvent>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One node's blocks.
pub(super) struct NodeQueue {
    shared: Arc<Shared>,
    lanes: Mutex<Vec<(Canceller, JoinHandle<()>)>>,
}

impl NodeQueue {
    pub(super) fn start(node: usize, settings: &Node, on_event: &Arc<OnEvent>) -> Self {
        let shared = Arc::new(Shared {
            node,
            address: settings.address.as_str().into(),
            state: Mutex::default(),
            changed: Condvar::new(),
            on_event: Arc::clone(on_event),
        });
        let lanes = (0..LANES).map(|_| {
            let rpc = Rpc::new(settings, Purpose::Submit);
            let canceller = rpc.canceller();
            let shared = Arc::clone(&shared);
            (canceller, spawn("submit", move || Lane { shared, rpc }.run()))
        });
        Self { lanes: Mutex::new(lanes.collect()), shared }
    }

    pub(super) fn address(&self) -> Arc<str> {
        Arc::clone(&self.shared.address)
    }

    pub(super) fn push(&self, pending: Pending) {
        self.shared.lock().pending.push(pending);
        self.shared.changed.notify_one();
    }

    /// Whether one of its threads has ended.
    pub(super) fn is_finished(&self) -> bool {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.iter().any(|(_, thread)| thread.is_finished())
    }

    /// Waits until every block was offered once, at most until `deadline`, and ends the threads.
    pub(super) fn stop(&self, deadline: Instant) {
        let mut state = self.shared.lock();
        while state.first_calls > 0 || state.pending.iter().any(|pending| pending.attempts == 0) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.stopping = true;
        drop(state);
        self.shared.changed.notify_all();
        let lanes = std::mem::take(&mut *self.lanes.lock().unwrap_or_else(PoisonError::into_inner));
        for (canceller, _) in &lanes {
            canceller.cancel();
        }
        for (_, thread) in lanes {
            if thread.join().is_err() {
                tracing::error!("a submit thread has panicked");
            }
        }
    }
}

/// What to do after a call.
enum Step {
    Judged(Verdict, String),
    /// The node knows the block but has not judged it.
    Undecided,
    Failed(String),
}

/// One connection and its thread.
struct Lane {
    shared: Arc<Shared>,
    rpc: Rpc,
}

impl Lane {
    fn run(mut self) {
        while let Some(pending) = self.next() {
            let first = pending.attempts == 0;
            let again = self.work(pending);
            let mut state = self.shared.lock();
            state.first_calls -= usize::from(first);
            state.pending.extend(again);
            drop(state);
            self.shared.changed.notify_all();
        }
    }

    /// Waits for a block that is due; `None` when it is time to end.
    fn next(&self) -> Option<Pending> {
        let mut state = self.shared.lock();
        loop {
            if state.stopping {
                return None;
            }
            let now = Instant::now();
            let wait = state.pending.peek().map(|next| next.due.saturating_duration_since(now));
            state = match wait {
                Some(Duration::ZERO) => {
                    let pending = state.pending.pop()?;
                    state.first_calls += usize::from(pending.attempts == 0);
                    return Some(pending);
                }
                Some(wait) => {
                    self.shared.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// One attempt; gives the block back unless its verdict is final.
    fn work(&mut self, mut pending: Pending) -> Option<Pending> {
        let step = if pending.ask { self.ask(&pending.block) } else { self.offer(&pending.block) };
        match step {
            Step::Judged(verdict, words) => {
                let outcome = Outcome::Judged { verdict, words: words.clone() };
                self.tell(&mut pending, outcome);
                if verdict.is_final() {
                    // After the event: a crash in between repeats the event, and loses none.
                    pending.block.record(self.shared.node, verdict, &words);
                    return None;
                }
                pending.ask = verdict == Verdict::Inconclusive;
                Some(pending.later(Call::Undecided))
            }
            Step::Undecided => Some(pending.later(Call::Undecided)),
            Step::Failed(why) => {
                self.tell(&mut pending, Outcome::Retrying(why));
                Some(pending.later(Call::Failed))
            }
        }
    }

    fn offer(&mut self, block: &Block) -> Step {
        let params = match block.params() {
            Ok(params) => params,
            Err(e) => return Step::Failed(e.to_string()),
        };
        match self.rpc.call::<Option<String>>("submitblock", &params) {
            Ok(words) => {
                let verdict = Verdict::of(words.as_deref());
                if verdict == Verdict::Early && self.is_buried(block) {
                    return Step::Judged(Verdict::Lost, words.unwrap_or_default());
                }
                if verdict == Verdict::Early {
                    self.offer_ancestors(block);
                }
                Step::Judged(verdict, words.unwrap_or_else(|| "null".to_owned()))
            }
            Err(RpcError::Undecodable(words)) => Step::Judged(Verdict::Undecodable, words),
            Err(e) => Step::Failed(e.to_string()),
        }
    }

    /// Hands in the blocks that this one builds on, as far as they were ours, oldest first: a node that has
    /// crashed forgets blocks that it had accepted. The block itself is due again soon.
    fn offer_ancestors(&mut self, block: &Block) {
        let first = block.file.as_ref().and_then(BlockFile::parent);
        let ancestors: Vec<_> = std::iter::successors(first, BlockFile::parent).take(ANCESTORS_MAX).collect();
        for file in ancestors.into_iter().rev() {
            let Ok(stored) = file.read() else { continue };
            let params = file::submit_params(&stored.block);
            let answer = self.rpc.call::<Option<String>>("submitblock", &params);
            tracing::warn!(hash = %stored.hash, height = stored.height, ?answer, "the node may have lost this block of ours; handed in again");
        }
    }

    /// Asks what became of a block that the node had not judged.
    fn ask(&mut self, block: &Block) -> Step {
        #[derive(serde::Deserialize)]
        struct Header {
            confirmations: i64,
        }
        match self.rpc.ask::<Header>("getblockheader", &serde_json::json!([block.hash])) {
            Ok(Header { confirmations }) if confirmations > 0 => {
                Step::Judged(Verdict::Accepted, format!("getblockheader: {confirmations} confirmations"))
            }
            Ok(Header { confirmations }) if self.is_buried(block) => {
                Step::Judged(Verdict::Lost, format!("getblockheader: {confirmations} confirmations"))
            }
            Ok(_) => Step::Undecided,
            // It has forgotten the block: offer it again.
            Err(RpcError::Node { code: NO_SUCH_BLOCK, .. }) => self.offer(block),
            Err(e) => Step::Failed(e.to_string()),
        }
    }

    /// Whether the node's best chain is so far beyond the block's height that it cannot win any more.
    fn is_buried(&mut self, block: &Block) -> bool {
        self.rpc
            .ask::<u64>("getblockcount", &serde_json::json!([]))
            .is_ok_and(|height| height >= u64::from(block.height) + LOST_DEPTH)
    }

    /// Tells the caller what is new.
    fn tell(&self, pending: &mut Pending, outcome: Outcome) {
        if pending.told.as_ref() == Some(&outcome) {
            return;
        }
        pending.told = Some(outcome.clone());
        let block = &pending.block;
        (self.shared.on_event)(SubmitEvent {
            hash: block.hash,
            height: block.height,
            note: Arc::clone(&block.note),
            node: Arc::clone(&self.shared.address),
            outcome,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits after calls that fail and take so long each, for an hour.
    fn waits(a_call: Duration) -> Vec<Duration> {
        let (mut age, mut waits) = (Duration::ZERO, Vec::new());
        while age < Duration::from_secs(3_600) {
            age += a_call;
            let calls_before = u32::try_from(waits.len()).unwrap();
            waits.push(wait(Call::Failed, calls_before, age));
            age += waits[waits.len() - 1];
        }
        waits
    }

    #[test]
    fn b08_a_failed_call_is_repeated_at_once_then_less_and_less_often_for_ten_minutes_and_slowly_for_ever() {
        let millis: Vec<u128> = waits(Duration::ZERO).iter().map(Duration::as_millis).collect();
        assert_eq!(millis[..5], [0, 100, 200, 300, 400]);
        assert_eq!(millis[48..53], [4_800, 4_900, 5_000, 5_000, 5_000]);
        // From refused connections to calls that hang until their time is over.
        for a_call in [0, 1, 2_000, 30_000].map(Duration::from_millis) {
            let waits = waits(a_call);
            assert_eq!(waits[0], Duration::ZERO);
            assert!(waits.is_sorted());
            let eager = waits.iter().position(|wait| *wait == BACKOFF_LATE).expect("the slow pace comes");
            let until_slow: Duration = waits[..eager].iter().map(|wait| *wait + a_call).sum();
            assert!(until_slow >= Duration::from_secs(600), "{until_slow:?}");
            assert!(waits[..eager].iter().all(|wait| *wait <= BACKOFF_MAX));
            assert!(waits[eager..].iter().all(|wait| *wait == BACKOFF_LATE));
        }
        assert_eq!(wait(Call::Failed, u32::MAX, Duration::MAX), BACKOFF_LATE);
        assert_eq!(wait(Call::Failed, u32::MAX, EAGER), BACKOFF_MAX);
    }

    #[test]
    fn b08_a_node_that_has_not_judged_is_asked_each_second_and_slowly_later() {
        assert_eq!([0, 1, 500].map(|calls| wait(Call::Undecided, calls, EAGER)), [ASK_AGAIN; 3]);
        assert_eq!(wait(Call::Undecided, 0, EAGER + BACKOFF_STEP), BACKOFF_LATE);
    }
}
