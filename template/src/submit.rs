//! Blocks on their way to the nodes: never lost, never withheld, until there is a verdict.
//!
//! A block is on disk before the first node hears of it, goes to every node at once over connections of
//! its own, and is offered again until the node has said what becomes of it: in this process, and in the
//! next one if this one dies. No check of ours can hold a block back: a bad block is refused for free,
//! a good one held back is lost (SB-02).

mod ballast;
mod file;
mod lane;
mod verdict;

pub use verdict::Verdict;

use crate::bitcoind::rpc::Node;
use crate::block;
use ballast::Ballast;
use bitcoin::BlockHash;
use file::{BlockFile, FileError, StoredBlock};
use lane::{NodeQueue, Pending};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use stratum::job::Solution;

/// Blocks that may wait to be written; beyond, [`Submitter::submit`] waits.
pub const BLOCK_QUEUE_LEN: usize = 64;
/// Blocks without a verdict that are kept in memory; more are read from disk for each attempt.
const BLOCKS_IN_MEMORY_MAX: usize = 64;

/// What happened to a block at one node.
#[derive(Debug, Clone)]
pub struct SubmitEvent {
    /// The block.
    pub hash: BlockHash,
    /// Its height.
    pub height: u32,
    /// What the caller gave along with it.
    pub note: Arc<[u8]>,
    /// Address of the node.
    pub node: Arc<str>,
    /// What happened.
    pub outcome: Outcome,
}

/// What happened to a block at one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The node has judged, or says that it cannot yet ([`Verdict::is_final`]).
    Judged {
        /// What it means.
        verdict: Verdict,
        /// The node's own words (SB-04).
        words: String,
    },
    /// The call failed, and is being repeated. Told when it fails in another way than before.
    Retrying(String),
    /// The file could not be written; the block goes out all the same, but only while we run.
    NotOnDisk(String),
}

/// A block of an earlier process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The block.
    pub hash: BlockHash,
    /// Its height.
    pub height: u32,
    /// What the caller gave along with it; empty if the file's end is torn.
    pub note: Vec<u8>,
}

impl Recovered {
    fn of(stored: &StoredBlock) -> Self {
        Self { hash: stored.hash, height: stored.height, note: stored.note.clone() }
    }
}

/// The blocks in `dir` that have a verdict and are wanted, lowest first. For books that may have missed one:
/// a verdict is written as soon as a node has spoken, whether or not the listener has got so far.
///
/// # Errors
/// The folder cannot be read.
pub fn judged(dir: &Path, wanted: impl FnMut(BlockHash) -> bool) -> Result<Vec<Recovered>, OpenError> {
    let judged = file::with_verdict(dir, wanted);
    let judged = judged.map_err(|source| OpenError::Folder { path: dir.to_owned(), source })?;
    Ok(judged.iter().map(|(_, stored)| Recovered::of(stored)).collect())
}

/// Why the submitter cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder of blocks cannot be made or read.
    #[error("cannot use the block folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no node to submit to.
    #[error("no node is configured to submit blocks to")]
    NoNode,
}

/// The submitter has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the block submitter has stopped")]
pub struct Stopped;

/// Called once a block is on disk, or cannot be; must not block. Whoever waits for it may then tell its miner.
pub type Stored = Box<dyn FnOnce() + Send>;

/// Called with each event, from several threads at once.
pub type OnEvent = dyn Fn(SubmitEvent) + Send + Sync;

/// A block that waits for verdicts.
struct Block {
    hash: BlockHash,
    height: u32,
    note: Arc<[u8]>,
    /// `submitblock`'s parameters, unless they are read from `file` each time.
    params: Option<Box<RawValue>>,
    file: Option<BlockFile>,
    judgements: Mutex<Vec<Judgement>>,
    in_memory: Arc<AtomicUsize>,
}

/// One node's final word on a block.
struct Judgement {
    address: Arc<str>,
    verdict: Option<(Verdict, String)>,
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.params.is_some() {
            self.in_memory.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A block that waits to be written.
struct Incoming {
    solution: Solution,
    note: Vec<u8>,
    stored: Stored,
}

/// Hands blocks to all nodes.
pub struct Submitter {
    queue: Option<SyncSender<Incoming>>,
    writer: Option<JoinHandle<()>>,
    nodes: Arc<[NodeQueue]>,
}

impl std::fmt::Debug for Submitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Submitter").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}

impl Submitter {
    /// Starts, and resubmits what an earlier process left in `dir` without a verdict (SB-01): those blocks
    /// are returned. Keeps space back in `dir` for blocks that find the disk full (D04).
    ///
    /// # Errors
    /// If the folder cannot be used or no node is given.
    pub fn open(
        dir: &Path,
        nodes: &[Node],
        on_event: impl Fn(SubmitEvent) + Send + Sync + 'static,
    ) -> Result<(Self, Vec<Recovered>), OpenError> {
        if nodes.is_empty() {
            return Err(OpenError::NoNode);
        }
        let folder = |source| OpenError::Folder { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(folder)?;
        let left_over = file::without_verdict(dir).map_err(folder)?;
        let on_event: Arc<OnEvent> = Arc::new(on_event);
        let nodes: Arc<[NodeQueue]> =
            nodes.iter().enumerate().map(|(i, node)| NodeQueue::start(i, node, &on_event)).collect();
        let desk = Desk {
            dir: dir.to_owned(),
            ballast: Ballast::of(dir),
            nodes: Arc::clone(&nodes),
            on_event,
            in_memory: Arc::new(AtomicUsize::new(0)),
        };
        let mut recovered = Vec::with_capacity(left_over.len());
        for (file, stored) in left_over {
            recovered.push(Recovered::of(&stored));
            desk.dispatch(&stored, Some(file));
        }
        desk.ballast.keep();
        let (queue, incoming) = sync_channel(BLOCK_QUEUE_LEN);
        let writer = spawn("blocks", move || desk.run(&incoming));
        Ok((Self { queue: Some(queue), writer: Some(writer), nodes }, recovered))
    }

    /// Queues a block; `note`, a text, is kept with it and comes back in each event, also after a restart.
    /// It goes to the log if it cannot be kept. `stored` is called when a kill of the process cannot lose the block any more.
    ///
    /// If [`BLOCK_QUEUE_LEN`] blocks wait to be written this waits too: a block is never dropped.
    ///
    /// # Errors
    /// [`Stopped`] if the writer has ended, which only a bug can cause.
    pub fn submit(&self, solution: Solution, note: Vec<u8>, stored: Stored) -> Result<(), Stopped> {
        let queue = self.queue.as_ref().ok_or(Stopped)?;
        match queue.try_send(Incoming { solution, note, stored }) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(block)) => {
                tracing::warn!("the block queue is full");
                queue.send(block).map_err(|_| Stopped)
            }
            Err(TrySendError::Disconnected(_)) => Err(Stopped),
        }
    }

    /// Whether a thread of it has ended without being told to: blocks may be lost from here on, so the process
    /// must not go on.
    pub fn is_finished(&self) -> bool {
        self.writer.as_ref().is_none_or(JoinHandle::is_finished)
            || self.nodes.iter().any(|node| node.is_finished())
    }

    /// Stops: writes what is queued, waits up to `grace` until each node was asked once, and breaks the
    /// other calls off. What has no verdict yet is submitted again by the next process.
    pub fn close(mut self, grace: Duration) {
        self.stop(grace);
    }

    fn stop(&mut self, grace: Duration) {
        self.queue = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the block writer has panicked");
        }
        let deadline = Instant::now() + grace;
        for node in self.nodes.iter() {
            node.stop(deadline);
        }
    }
}

impl Drop for Submitter {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new().name(name.to_owned()).spawn(run).expect("the system can start a thread")
}

/// The writer thread's own: from a solution to a file, and on to the nodes.
struct Desk {
    dir: PathBuf,
    ballast: Ballast,
    nodes: Arc<[NodeQueue]>,
    on_event: Arc<OnEvent>,
    in_memory: Arc<AtomicUsize>,
}

impl Desk {
    fn run(&self, incoming: &Receiver<Incoming>) {
        for Incoming { solution, note, stored: tell } in incoming {
            let stored = StoredBlock {
                hash: solution.hash,
                height: solution.body.height,
                block: block::bytes(&solution),
                note,
            };
            self.send_out(&stored, tell);
            self.ballast.keep();
        }
    }

    fn send_out(&self, stored: &StoredBlock, tell: Stored) {
        let mut written = BlockFile::write(&self.dir, stored);
        let full = written.as_ref().err().filter(|e| e.is_disk_full()).map(ToString::to_string);
        if full.is_some() && self.ballast.give_up() {
            // At once: the share log waits for space too.
            written = BlockFile::write(&self.dir, stored);
        }
        let (file, failure) = match written {
            Ok(file) => (Some(file), None),
            Err(e) => (None, Some(e)),
        };
        self.dispatch(stored, file);
        tell();
        // Words come last: whoever reads the log may be slow.
        let (hash, height) = (stored.hash, stored.height);
        if let Some(error) = full {
            tracing::error!(%hash, height, error, "the disk is full: make room, or the next block may not be written");
        }
        if let Some(e) = failure {
            self.report_not_on_disk(stored, &e);
        }
    }

    fn dispatch(&self, stored: &StoredBlock, file: Option<BlockFile>) {
        let crowded = self.in_memory.load(Ordering::Relaxed) >= BLOCKS_IN_MEMORY_MAX;
        let params = if crowded && file.is_some() {
            None
        } else {
            self.in_memory.fetch_add(1, Ordering::Relaxed);
            Some(file::submit_params(&stored.block))
        };
        let block = Arc::new(Block {
            hash: stored.hash,
            height: stored.height,
            note: stored.note.as_slice().into(),
            params,
            file,
            judgements: Mutex::new(
                self.nodes.iter().map(|node| Judgement { address: node.address(), verdict: None }).collect(),
            ),
            in_memory: Arc::clone(&self.in_memory),
        });
        for node in self.nodes.iter() {
            node.push(Pending::new(Arc::clone(&block)));
        }
    }

    fn report_not_on_disk(&self, stored: &StoredBlock, e: &FileError) {
        let (hash, height) = (stored.hash, stored.height);
        let note = String::from_utf8_lossy(&stored.note);
        tracing::error!(%hash, height, error = %e, %note, "block file cannot be written; the block is submitted all the same, but a restart loses its note: complete the ledger by this line");
        for node in self.nodes.iter() {
            (self.on_event)(SubmitEvent {
                hash,
                height,
                note: stored.note.as_slice().into(),
                node: node.address(),
                outcome: Outcome::NotOnDisk(e.to_string()),
            });
        }
    }
}

impl Block {
    /// The parameters of `submitblock`, from memory or disk.
    fn params(&self) -> Result<Cow<'_, RawValue>, FileError> {
        match (&self.params, &self.file) {
            (Some(params), _) => Ok(Cow::Borrowed(params)),
            (None, Some(file)) => Ok(Cow::Owned(file::submit_params(&file.read()?.block))),
            (None, None) => unreachable!("a block without a file is kept in memory"),
        }
    }

    /// Keeps a node's final verdict, and closes the file once one node has accepted or all have judged.
    ///
    /// A closed file is closed for every node: while we run, those that are silent are offered the block until they
    /// judge, but the next process offers it to none. They hear of an accepted block from the network.
    fn record(&self, node: usize, verdict: Verdict, words: &str) {
        let mut judgements = self.judgements.lock().unwrap_or_else(PoisonError::into_inner);
        judgements[node].verdict = Some((verdict, words.to_owned()));
        let accepted = judgements.iter().flat_map(|j| &j.verdict).any(|(verdict, _)| verdict.is_success());
        let settled = accepted || judgements.iter().all(|j| j.verdict.is_some());
        let Some(file) = self.file.as_ref().filter(|_| settled) else { return };
        let lines: String = judgements
            .iter()
            .filter_map(|j| j.verdict.as_ref().map(|(v, words)| format!("{}: {v}: {words}\n", j.address)))
            .collect();
        if let Err(e) = file.write_verdict(&lines) {
            tracing::error!(hash = %self.hash, error = %e, "verdict cannot be written; the block is submitted again at the next start");
        }
    }
}

#[cfg(test)]
#[path = "../../tests/support/small_disk.rs"]
mod small_disk;
#[cfg(test)]
#[path = "submit_tests.rs"]
mod tests;
