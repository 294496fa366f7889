//! What comes back to a shard from the threads that write.

use super::HELD_SHARES_MAX;
use bitcoin::BlockHash;
use stratum::share::JudgedShare;
use stratum_net::pending::PENDING_MAX;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Room for what comes back to a shard: one commit, and the files of held blocks. Before it is noticed that no more may
/// be held, as many shares may wait to be judged as may wait, and one read brings at most 205 more (16 KiB of the
/// shortest submits).
pub const RETURNS_QUEUE_LEN: usize = 1 + HELD_SHARES_MAX + PENDING_MAX + 256;

/// What comes back.
#[derive(Debug)]
pub enum Return {
    /// The batch in flight is durable: where in the log each of its shares is.
    Committed(Vec<u64>),
    /// The batch in flight could not be committed: its shares.
    Failed(Vec<JudgedShare>),
    /// A block's file is on disk, or cannot be.
    BlockStored(BlockHash),
}

/// Tells a shard what became of its own; one that is gone needs no word.
///
/// # Panics
/// If the queue is full, which [`RETURNS_QUEUE_LEN`] rules out: the shard would wait for ever for what is lost.
pub(super) fn tell(shard: &mpsc::Sender<Return>, returned: Return) {
    if let Err(TrySendError::Full(returned)) = shard.try_send(returned) {
        panic!("a shard has no room for {returned:?}");
    }
}
