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
        let wait = match &answer {
            Ok(template) => {
                id = template.long_poll_id().map(str::to_owned);
                backoff = BACKOFF_FIRST;
                // A node without long polling would be asked in a tight loop.
                if id.is_some() { Duration::ZERO } else { super::REFRESH }
            }
            Err(AskError::Rpc(RpcError::Cancelled)) => return,
            // Nothing new for as long as the call may take.
            Err(AskError::Rpc(RpcError::Timeout)) => Duration::ZERO,
            Err(AskError::Rpc(RpcError::Forbidden)) => BACKOFF_MAX,
            Err(_) => {
                id = None;
                let wait = backoff;
                backoff = (wait * 2).min(BACKOFF_MAX);
                wait
            }
        };
        if wake.send(Wake::LongPoll(generation, answer.map(Box::new))).is_err() {
            return;
        }
        let until = Instant::now() + wait;
        while Instant::now() < until && !canceller.is_cancelled() {
            thread::sleep(NAP);
        }
    }
}
