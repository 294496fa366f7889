//! What the accounting thread tells of the log: how far it is durable.

use crate::tree::{self, TreeHash};
use bitcoin::BlockHash;
use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use stratum::payee::PayeeTag;
use tlog_tiles::{Hash, check_tree};

/// Shares whose hashes wait to be taken; beyond it the oldest are forgotten, and can be asked for by index alone.
const HASHES_WAITING_MAX: usize = 1 << 18;

/// Where the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of entries.
    pub size: u64,
    /// Root of the tree over them.
    pub root: TreeHash,
}

impl Head {
    /// Of a log without entries.
    pub const EMPTY: Self = Self { size: 0, root: tree::EMPTY };

    /// Whether a log with this head goes on from one with an earlier head, by the proof that it does (RFC 6962 §2.1.2).
    /// Every log goes on from the empty one.
    pub fn goes_on_from(&self, earlier: &Head, proof: &[TreeHash]) -> bool {
        if earlier.size == 0 || self == earlier {
            return true;
        }
        let proof = proof.iter().copied().map(Hash).collect();
        check_tree(&proof, self.size, Hash(self.root), earlier.size, Hash(earlier.root)).is_ok()
    }
}

/// A share that was logged: hash of its header, and index of its entry.
pub type Logged = (BlockHash, u64);

#[derive(Debug, Default)]
struct News {
    head: Option<Head>,
    logged: VecDeque<Logged>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Channel {
    /// Of the payees that the log had at the start, by index.
    tags: Vec<PayeeTag>,
    news: Mutex<News>,
    changed: Condvar,
}

/// Who tells; when it is dropped there is no more to come.
#[derive(Debug)]
pub(crate) struct Teller(Arc<Channel>);

/// Who listens, one at a time. Nobody need, and nobody is waited for.
#[derive(Debug, Clone)]
pub struct Heads(Arc<Channel>);

impl Teller {
    /// Of a log with these payees, by index.
    pub fn new(tags: Vec<PayeeTag>) -> Self {
        Self(Arc::new(Channel { tags, ..Channel::default() }))
    }

    pub fn listener(&self) -> Heads {
        Heads(Arc::clone(&self.0))
    }

    /// The log is durable up to there.
    pub fn tell(&self, head: Head, logged: impl IntoIterator<Item = Logged>) {
        let mut news = self.0.news.lock().unwrap_or_else(PoisonError::into_inner);
        news.head = Some(head);
        news.logged.extend(logged);
        let beyond = news.logged.len().saturating_sub(HASHES_WAITING_MAX);
        news.logged.drain(..beyond);
        self.0.changed.notify_all();
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.0.news.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.0.changed.notify_all();
    }
}

impl Heads {
    /// Tags of the payees that the log had at the start, by index.
    pub(crate) fn tags(&self) -> &[PayeeTag] {
        &self.0.tags
    }

    /// Waits for a head that was not taken before, and takes it with the shares logged since; `None` once there is no
    /// more to come.
    pub(crate) fn next(&self) -> Option<(Head, VecDeque<Logged>)> {
        let news = self.0.news.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = self.0.changed.wait_while(news, |news| news.head.is_none() && !news.ended);
        let mut news = waiting.unwrap_or_else(PoisonError::into_inner);
        let head = news.head.take()?;
        Some((head, mem::take(&mut news.logged)))
    }

    /// Whether there is no more to come than what [`Heads::next`] has not given out yet.
    pub(crate) fn ended(&self) -> bool {
        self.0.news.lock().unwrap_or_else(PoisonError::into_inner).ended
    }
}
