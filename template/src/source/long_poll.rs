//! One node's long poll on its own thread.

use super::Wake;
use crate::bitcoind::ask::{self, AskError};
use crate::bitcoind::rpc::{Canceller, Node, Purpose, Rpc, RpcError};
use bitcoin::Network;
use std::sync::mpsc::SyncSender;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// First wait after a failure; BIP 22 demands that it grows.
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
    let mut backoff = BACKOFF_FIRST;
    while !canceller.is_cancelled() {
        let answer = ask::template(&mut rpc, network, id.as_deref());
        if matches!(answer, Err(AskError::Rpc(RpcError::Cancelled))) {
            return;
        }
        match &answer {
            Ok(template) => id = template.long_poll_id().map(str::to_owned),
            // Nothing new for as long as the call may take: the same question again.
            Err(AskError::Rpc(RpcError::Timeout)) => {}
            Err(_) => id = None,
        }
        let wait = pause(answer.as_ref().err(), id.is_some(), &mut backoff);
        if wake.send(Wake::LongPoll(generation, answer.map(Box::new))).is_err() {
            return;
        }
        let until = Instant::now() + wait;
        while Instant::now() < until && !canceller.is_cancelled() {
            thread::sleep(NAP);
        }
    }
}

/// How long to wait before the next call. `can_wait`: the node has named an id to wait with.
fn pause(failure: Option<&AskError>, can_wait: bool, backoff: &mut Duration) -> Duration {
    match failure {
        None => {
            *backoff = BACKOFF_FIRST;
            // A node without long polling would be asked in a tight loop.
            if can_wait { Duration::ZERO } else { super::REFRESH }
        }
        Some(AskError::Rpc(RpcError::Timeout)) => Duration::ZERO,
        // Only a person can change it.
        Some(AskError::Rpc(RpcError::Forbidden)) => BACKOFF_MAX,
        Some(_) => {
            let wait = *backoff;
            *backoff = (wait * 2).min(BACKOFF_MAX);
            wait
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gb_06_failed_polls_are_further_and_further_apart_and_good_ones_follow_at_once() {
        let mut backoff = BACKOFF_FIRST;
        let busy = AskError::Rpc(RpcError::WorkQueueFull(String::new()));
        let mut seconds = || pause(Some(&busy), false, &mut backoff).as_secs();
        assert_eq!([(); 8].map(|()| seconds()), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(None, true, &mut backoff), Duration::ZERO);
        assert_eq!(pause(Some(&busy), false, &mut backoff), BACKOFF_FIRST);
        let timeout = AskError::Rpc(RpcError::Timeout);
        assert_eq!(pause(Some(&timeout), true, &mut backoff), Duration::ZERO);
        let forbidden = AskError::Rpc(RpcError::Forbidden);
        assert_eq!(pause(Some(&forbidden), false, &mut backoff), BACKOFF_MAX);
        assert_eq!(pause(None, false, &mut backoff), crate::source::REFRESH);
    }
}
