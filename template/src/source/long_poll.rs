//! One node's long poll on its own thread.

use super::Wake;
use crate::bitcoind::ask::{self, AskError};
use crate::bitcoind::rpc::{Canceller, Node, Purpose, Rpc, RpcError};
use bitcoin::Network;
use std::sync::mpsc::SyncSender;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// First wait after a failure, and the longest; BIP 22 demands that it grows.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// How often a wait looks whether to end.
const NAP: Duration = Duration::from_millis(50);

/// Polls until dropped.
pub(super) struct LongPoll {
    canceller: Canceller,
    thread: Option<JoinHandle<()>>,
}

impl LongPoll {
    /// `generation` tells this poll's messages from those of one before it.
    pub(super) fn start(node: &Node, network: Network, generation: u64, wake: SyncSender<Wake>) -> Self {
        let rpc = Rpc::new(node, Purpose::LongPoll);
        let canceller = rpc.canceller();
        let thread = thread::Builder::new()
            .name("long-poll".into())
            .spawn(move || poll(rpc, network, generation, &wake))
            .expect("the system can start a thread");
        Self { canceller, thread: Some(thread) }
    }
}

impl Drop for LongPoll {
    fn drop(&mut self) {
        self.canceller.cancel();
        // Not joined: it may wait to wake the very thread that drops it. It ends by itself.
        self.thread.take();
    }
}

fn poll(mut rpc: Rpc, network: Network, generation: u64, wake: &SyncSender<Wake>) {
    let canceller = rpc.canceller();
    let mut id: Option<String> = None;
    let mut failures = 0;
    while !canceller.is_cancelled() {
        let answer = ask::template(&mut rpc, network, id.as_deref());
        if matches!(answer, Err(AskError::Rpc(RpcError::Cancelled))) {
            return;
        }
        match &answer {
            Ok(template) => id = template.long_poll_id().map(str::to_owned),
            // Perhaps nothing new for as long as the call may take: the same question again.
            Err(AskError::Rpc(RpcError::Timeout)) => {}
            Err(_) => id = None,
        }
        let wait = pause(answer.as_ref().err(), id.is_some(), &mut failures);
        if wake.send(Wake::LongPoll(generation, answer.map(Box::new))).is_err() {
            return;
        }
        let until = Instant::now() + wait;
        while Instant::now() < until && !canceller.is_cancelled() {
            thread::sleep(NAP);
        }
    }
}

/// How long to wait before the next call. `can_wait`: the node has named an id to wait with; `failures`: in a
/// row, before this answer and, on return, with it.
fn pause(failure: Option<&AskError>, can_wait: bool, failures: &mut u32) -> Duration {
    let before = *failures;
    *failures = if failure.is_some() { before.saturating_add(1) } else { 0 };
    match failure {
        None if can_wait => Duration::ZERO,
        // A node without long polling would be asked in a tight loop.
        None => super::REFRESH,
        // Only a person can change it.
        Some(AskError::Rpc(RpcError::Forbidden)) => BACKOFF_MAX,
        // Most often a node with nothing new. One that is gone, or whose address takes packets and gives none,
        // looks the same: after more than one failure BIP 22 forbids to try again at once.
        Some(AskError::Rpc(RpcError::Timeout)) if before == 0 => Duration::ZERO,
        // So many doublings are beyond the longest wait and far from an overflow.
        Some(_) => (BACKOFF_FIRST * (1 << before.min(8))).min(BACKOFF_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: RpcError = RpcError::WorkQueueFull(String::new());

    /// Seconds to wait after each of these answers in a row; `None` is a template.
    fn waits(answers: impl IntoIterator<Item = Option<RpcError>>) -> Vec<u64> {
        let mut failures = 0;
        let wait = |failure: Option<RpcError>| {
            pause(failure.map(AskError::Rpc).as_ref(), true, &mut failures).as_secs()
        };
        answers.into_iter().map(wait).collect()
    }

    #[test]
    fn gb_06_failed_polls_are_further_and_further_apart_and_good_ones_follow_at_once() {
        assert_eq!(waits([(); 8].map(|()| Some(BUSY))), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(waits([Some(BUSY), Some(BUSY), None, None, Some(BUSY)]), [1, 2, 0, 0, 1]);
        assert_eq!(waits([(); 3].map(|()| Some(RpcError::Forbidden))), [60; 3]);
        let mut failures = u32::MAX;
        assert_eq!(pause(Some(&AskError::Rpc(BUSY)), true, &mut failures), BACKOFF_MAX);
        assert_eq!(failures, u32::MAX);
    }

    #[test]
    fn gb_06_one_poll_without_an_answer_is_repeated_at_once_and_a_second_is_not() {
        let silence = [(); 9].map(|()| Some(RpcError::Timeout));
        assert_eq!(waits(silence), [0, 2, 4, 8, 16, 32, 60, 60, 60]);
        // It is the first failure only that may be repeated at once, whatever it was.
        assert_eq!(waits([Some(BUSY), Some(RpcError::Timeout)]), [1, 2]);
        // A node with nothing new between two blocks.
        assert_eq!(waits([Some(RpcError::Timeout), None, Some(RpcError::Timeout)]), [0; 3]);
    }

    #[test]
    fn a_node_that_cannot_be_waited_for_is_asked_at_the_pace_of_a_refresh() {
        assert_eq!(pause(None, false, &mut 0), crate::source::REFRESH);
    }
}
