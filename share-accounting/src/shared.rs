//! What others read of the accounting thread without asking it.

use crate::registry::Registry;
use bitcoin::ScriptBuf;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// Counters since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Commits that became durable.
    pub commits: u64,
    /// Commits that failed.
    pub commits_failed: u64,
    /// Whether the newest commit failed: the log cannot be written at the moment.
    pub failing: bool,
    /// Time spent in commits that became durable, in nanoseconds.
    pub commit_ns_total: u64,
    /// The last of them, in nanoseconds.
    pub commit_ns_last: u64,
    /// Entries in the log.
    pub log_entries: u64,
    /// Shares made durable.
    pub shares: u64,
    /// Shares whose commit failed.
    pub shares_failed: u64,
    /// Batches that wait.
    pub queue_batches: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub commits: AtomicU64,
    pub commits_failed: AtomicU64,
    pub failing: AtomicBool,
    pub commit_ns_total: AtomicU64,
    pub commit_ns_last: AtomicU64,
    pub log_entries: AtomicU64,
    pub shares: AtomicU64,
    pub shares_failed: AtomicU64,
    pub queued: AtomicUsize,
    payees: RwLock<Payees>,
}

/// Payee indexes by script, and the entry that registers each.
#[derive(Debug, Default)]
pub(crate) struct Payees {
    pub by_script: HashMap<ScriptBuf, Vec<u32>>,
    pub entries: Vec<u64>,
}

impl Shared {
    /// Adds the payees from an index on, which are in the log.
    pub fn note_payees(&self, registry: &Registry, from: usize) {
        if from < registry.len() {
            let mut payees = self.payees.write().unwrap_or_else(PoisonError::into_inner);
            for (index, script, entry) in registry.payees_from(from) {
                payees.by_script.entry(script.clone()).or_default().push(index);
                payees.entries.push(entry);
            }
        }
    }

    pub fn payees(&self) -> RwLockReadGuard<'_, Payees> {
        self.payees.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn counters(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            commits: read(&self.commits),
            commits_failed: read(&self.commits_failed),
            failing: self.failing.load(Ordering::Relaxed),
            commit_ns_total: read(&self.commit_ns_total),
            commit_ns_last: read(&self.commit_ns_last),
            log_entries: read(&self.log_entries),
            shares: read(&self.shares),
            shares_failed: read(&self.shares_failed),
            queue_batches: self.queued.load(Ordering::Relaxed) as u64, // usize fits u64
        }
    }
}
