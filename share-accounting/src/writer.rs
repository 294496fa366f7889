//! The accounting thread: the one owner of the log and the window.
//!
//! Group commit is self-clocking: it takes what is queued, appends it as one block, syncs once, and
//! only then books the shares and tells their owners. While it syncs, the next group gathers. There
//! is no timer, so an idle server answers after one sync and a busy one after at most two.

use crate::accounting::{
    Adjustments, Batch, CommitError, CommitResult, MovingError, RestoreError, Restored, SettleError,
    Snapshot, WindowError,
};
use crate::block_share::{self, BlockShare};
use crate::books::{Books, replay};
use crate::by_address::ByAddress;
use crate::checkpoint::{Checkpoint, Keeper};
use crate::entry::{ChainEntry, Encoded, Entry, JobEntry, Move, Settlement, Share, WorkerTag};
use crate::log::Log;
use crate::log::append::AppendError;
use crate::moves::{HOPS_MAX, MoveError};
use crate::publish::{Head, Logged, Teller};
use crate::shared::Shared;
use crate::window::Span;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Instant;
use stratum::job::JobBody;
use stratum::payee::Payee;
use stratum::pot::Pot;
use stratum::share::JudgedShare;
use stratum::target::Work;
use tracing::{debug, error};

/// Shares in one group: the block of a full one has about 5 MB.
const GROUP_SHARES_MAX: usize = 65_536;

/// What the thread is asked.
#[derive(Debug)]
pub(crate) enum Message {
    Shares(Queued),
    Window { network: Work, reply: SyncSender<Result<Snapshot, WindowError>> },
    Event { entry: ChainEntry, reply: SyncSender<CommitResult> },
    Settle { settlement: Box<Settlement>, moves: usize, reply: SyncSender<Result<u64, SettleError>> },
    Adjustments(SyncSender<Adjustments>),
    Move { moved: Box<Move>, reply: SyncSender<Result<u64, MovingError>> },
    Restore { shares: Vec<BlockShare>, reply: SyncSender<Result<Restored, RestoreError>> },
    Stop,
}

/// A batch on its way: its owner is told even if the thread ends with the batch still queued.
pub(crate) struct Queued(Option<Batch>);

impl Queued {
    pub fn new(batch: Batch) -> Self {
        Self(Some(batch))
    }

    /// Takes the batch out; its owner is not told.
    pub fn take(mut self) -> Batch {
        self.0.take().expect("only taking empties it, and that consumes it")
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if let Some(Batch { shares, done }) = self.0.take() {
            done(Err(CommitError::Stopped), shares);
        }
    }
}

impl std::fmt::Debug for Queued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queued({} shares)", self.0.as_ref().map_or(0, |batch| batch.shares.len()))
    }
}

/// A group on its way into the log, with what must be taken back if it fails.
#[derive(Debug, Default)]
struct Staged {
    entries: Encoded,
    /// Script number and pot of each credited share.
    credits: Vec<(u32, Pot)>,
    total_work: Work,
    jobs: Vec<Arc<JobBody>>,
    /// Hash of each share's header, and its index.
    logged: Vec<Logged>,
}

impl Staged {
    fn clear(&mut self) {
        self.entries.clear();
        self.credits.clear();
        self.jobs.clear();
        self.logged.clear();
    }
}

/// No index or sum is left: more payees than 2^32 or more work than 2^128.
#[derive(Debug)]
struct Exhausted;

pub(crate) struct Writer {
    log: Log,
    keeper: Keeper,
    books: Books,
    span: Span,
    worker_salt: [u8; 16],
    /// Log indexes of jobs that shares may still come for.
    jobs: ByAddress<JobBody>,
    /// Indexes of payees whose shares came before.
    payees: ByAddress<Payee>,
    shared: Arc<Shared>,
    /// Empty between groups; its room stays, up to that of the largest group.
    staged: Staged,
    teller: Teller,
}

impl Writer {
    pub fn new(
        log: Log,
        keeper: Keeper,
        books: Books,
        span: Span,
        worker_salt: [u8; 16],
        shared: Arc<Shared>,
        teller: Teller,
    ) -> Self {
        teller.tell(Head { size: log.size(), root: log.root() }, []);
        shared.note_payees(&books.registry, 0);
        let (jobs, payees) = (ByAddress::default(), ByAddress::default());
        let staged = Staged::default();
        Self { log, keeper, books, span, worker_salt, jobs, payees, shared, staged, teller }
    }

    pub fn run(mut self, messages: &Receiver<Message>) {
        let mut held = None;
        while let Some(message) = held.take().or_else(|| messages.recv().ok()) {
            match message {
                Message::Shares(first) => held = self.commit_group(first, messages),
                Message::Window { network, reply } => {
                    // Whoever asked may have gone away; that is its affair.
                    let _ = reply.send(self.window(network));
                }
                Message::Event { entry, reply } => {
                    let _ = reply.send(self.event(entry));
                }
                Message::Settle { settlement, moves, reply } => {
                    let _ = reply.send(self.settle(*settlement, moves));
                }
                Message::Adjustments(reply) => {
                    let (settlements, moves) = (self.books.settlements.clone(), self.books.moves.clone());
                    let _ = reply.send(Adjustments { settlements, moves });
                }
                Message::Move { moved, reply } => {
                    let _ = reply.send(self.move_payee(*moved));
                }
                Message::Restore { shares, reply } => {
                    let _ = reply.send(self.restore(shares));
                }
                Message::Stop => {
                    self.drain(messages);
                    break;
                }
            }
        }
        // While the directory is still ours.
        self.keeper.finish();
    }

    /// Commits what was queued before the stop; what comes later is given back or told so.
    fn drain(&mut self, messages: &Receiver<Message>) {
        let mut held = None;
        while let Some(message) = held.take().or_else(|| messages.try_recv().ok()) {
            if let Message::Shares(first) = message {
                held = self.commit_group(first, messages);
            }
        }
    }

    /// Commits a batch and those queued behind it; returns the message that ended the group.
    fn commit_group(&mut self, first: Queued, messages: &Receiver<Message>) -> Option<Message> {
        let mut group = vec![first.take()];
        let mut shares = group[0].shares.len();
        let mut ended_by = None;
        while shares < GROUP_SHARES_MAX {
            match messages.try_recv() {
                Ok(Message::Shares(queued)) => {
                    let batch = queued.take();
                    shares += batch.shares.len();
                    group.push(batch);
                }
                Ok(other) => {
                    ended_by = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        self.shared.queued.fetch_sub(group.len(), Ordering::Relaxed);
        let mut judged = group.iter().flat_map(|batch| &batch.shares);
        let result = self.commit(|writer, staged| judged.try_for_each(|share| writer.stage(share, staged)));
        let counter = if result.is_ok() { &self.shared.shares } else { &self.shared.shares_failed };
        counter.fetch_add(shares as u64, Ordering::Relaxed); // usize fits u64
        let mut logged = &self.staged.logged[..];
        for Batch { shares, done } in group {
            let of_batch = |()| logged.split_off(..shares.len()).expect("each share of the group was logged");
            done(result.map(of_batch), shares);
        }
        self.staged.clear();
        ended_by
    }

    /// Commits the shares that are staged so. What of it is in the log is staged still.
    fn commit(
        &mut self,
        stage: impl FnOnce(&mut Self, &mut Staged) -> Result<(), Exhausted>,
    ) -> CommitResult {
        let payees = self.books.registry.len();
        let mut staged = std::mem::take(&mut self.staged);
        staged.total_work = self.books.total_work;
        let staged_all = stage(self, &mut staged);
        let result = self.commit_staged(staged_all, &mut staged);
        if result.is_ok() {
            self.books.keep_payees(payees);
            self.shared.note_payees(&self.books.registry, payees);
            // Who asks by a head finds the payees of all its shares.
            self.tell(staged.logged.iter().copied());
        } else {
            self.books.registry.truncate(payees);
            self.payees.clear();
            staged.jobs.iter().for_each(|body| self.jobs.remove(body));
        }
        self.staged = staged;
        result
    }

    /// Makes staged shares durable and books them.
    fn commit_staged(&mut self, staged_all: Result<(), Exhausted>, staged: &mut Staged) -> CommitResult {
        let result = match staged_all {
            Ok(()) => self.append(&staged.entries),
            Err(Exhausted) => {
                error!("the share log is out of payee numbers or its sum of work is full: start a new log");
                Err(CommitError::LogUnavailable)
            }
        };
        result?;
        self.books.size += u64::from(staged.entries.count());
        for (script, pot) in staged.credits.drain(..) {
            self.books.credit(script, pot, true).expect("the sum was checked when the share was staged");
        }
        assert_eq!(self.books.total_work, staged.total_work, "the books hold what the log says");
        assert_eq!(self.books.size, self.log.size(), "the books have as many entries as the log");
        Ok(())
    }

    /// Encodes a share, behind the job and payee entries that it is the first to need.
    fn stage(&mut self, share: &JudgedShare, staged: &mut Staged) -> Result<(), Exhausted> {
        let payee = self.payee_index(share.payee(), staged)?;
        let job = match self.jobs.find(share.body()) {
            Some(index) => index,
            None => {
                let index = self.books.size + u64::from(staged.entries.count());
                staged.entries.push(&Entry::Job(JobEntry::from(&**share.body()).into()));
                staged.jobs.push(share.body().clone());
                self.jobs.insert(share.body(), index);
                index
            }
        };
        let work = share.credited_work();
        staged.total_work = Work(staged.total_work.0.checked_add(work.0).ok_or(Exhausted)?);
        if share.credited() {
            let script = self.books.registry.script_number(payee).expect("the index was just looked up");
            staged.credits.push((script, share.pot()));
        }
        let roll = share.roll();
        staged.logged.push((share.hash(), self.books.size + u64::from(staged.entries.count())));
        staged.entries.push(&Entry::Share(Share {
            pot: share.pot(),
            site: self.log.site(),
            payee,
            job,
            ntime: roll.ntime,
            nonce: roll.nonce,
            version: roll.version,
            extranonce: roll.into(),
            credited: share.credited(),
            block_candidate: share.block_candidate(),
            received_unix_ms: share.received_unix_ms(),
            total_work: staged.total_work,
        }));
        Ok(())
    }

    /// The same for one that was judged by an earlier process: a share without credit behind a job of its own.
    fn stage_restored(&mut self, block: &BlockShare, staged: &mut Staged) -> Result<(), Exhausted> {
        let payee = self.payee_index(block.payee(), staged)?;
        let job = self.books.size + u64::from(staged.entries.count());
        staged.entries.push(&Entry::Job(block.job().clone().into()));
        staged.logged.push((block.hash(), job + 1));
        let (site, total_work) = (self.log.site(), staged.total_work);
        staged.entries.push(&Entry::Share(Share { site, payee, job, total_work, ..block.share().clone() }));
        Ok(())
    }

    fn restore(&mut self, shares: Vec<BlockShare>) -> Result<Restored, RestoreError> {
        let mut missing = block_share::missing(self.log.dir(), &self.books.registry, shares)?;
        let (size, mut elsewhere) = (self.books.size, Vec::new());
        missing.retain(|block| {
            let is_of_this_log = block.planned_at() <= size;
            if !is_of_this_log {
                let hash = block.hash();
                error!(%hash, "the share of a block is of a longer share log than this one: it cannot be logged");
                elsewhere.push(hash);
            }
            is_of_this_log
        });
        if missing.is_empty() {
            return Ok(Restored { logged: 0, elsewhere });
        }
        let result = self.commit(|writer, staged| {
            missing.iter().try_for_each(|block| writer.stage_restored(block, staged))
        });
        self.staged.clear();
        result?;
        Ok(Restored { logged: missing.len(), elsewhere })
    }

    fn payee_index(&mut self, payee: &Arc<Payee>, staged: &mut Staged) -> Result<u32, Exhausted> {
        if let Some(index) = self.payees.find(payee) {
            return Ok(u32::try_from(index).expect("it was one when it was put there"));
        }
        let worker = WorkerTag::of(payee, &self.worker_salt);
        let next = self.books.size + u64::from(staged.entries.count());
        let registry = &mut self.books.registry;
        let index = match registry.find(worker, &payee.script) {
            Some(index) => index,
            None => {
                let entry = registry.next_entry(worker, &payee.script).map_err(|_| Exhausted)?;
                registry.register(next, &entry).map_err(|_| Exhausted)?;
                let index = entry.index;
                staged.entries.push(&Entry::Payee(entry));
                index
            }
        };
        self.payees.insert(payee, index.into());
        Ok(index)
    }

    /// Makes a commit durable and counts it.
    fn append(&mut self, entries: &Encoded) -> CommitResult {
        let start = Instant::now();
        let segment = self.log.start().header.number;
        let result = self.log.commit(entries, self.books.total_work.0);
        let was_failing = self.shared.failing.swap(result.is_err(), Ordering::Relaxed);
        let spent = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        match result {
            Ok(()) => {
                self.shared.commits.fetch_add(1, Ordering::Relaxed);
                self.shared.commit_ns_total.fetch_add(spent, Ordering::Relaxed);
                self.shared.commit_ns_last.store(spent, Ordering::Relaxed);
                self.shared.log_entries.store(self.log.size(), Ordering::Relaxed);
                if self.log.start().header.number != segment && !was_failing {
                    // The commit began a segment, and the books are still as they were there. None is written for
                    // segments that fail: a full disk would not get better by it.
                    let (start, span, books) = (self.log.start(), self.span, &self.books);
                    self.keeper.keep(|| Checkpoint::new(start.clone(), span, books.copy()));
                }
                Ok(())
            }
            Err(error) => {
                self.shared.commits_failed.fetch_add(1, Ordering::Relaxed);
                // The log has said what broke; failures until it recovers are no news.
                if let AppendError::TooLarge(_) = error {
                    error!(%error, "commit refused");
                } else {
                    debug!(%error, "commit failed");
                }
                Err(CommitError::LogUnavailable)
            }
        }
    }

    /// Tells those who publish the log how far it is durable.
    fn tell(&self, logged: impl IntoIterator<Item = Logged>) {
        self.teller.tell(Head { size: self.log.size(), root: self.log.root() }, logged);
    }

    fn event(&mut self, entry: ChainEntry) -> CommitResult {
        if let Err(reason) = self.books.settlements.check_event(&entry.event) {
            error!(reason, ?entry, "an event is left out");
            return Err(CommitError::Refused);
        }
        self.append_one(&Entry::Chain(entry))
    }

    fn settle(&mut self, settlement: Settlement, moves: usize) -> Result<u64, SettleError> {
        if moves != self.books.moves.len() {
            return Err(SettleError::Refused("a payee has moved meanwhile"));
        }
        let checked = self.books.settlements.check_next(&settlement, self.books.params.as_ref());
        checked.map_err(SettleError::Refused)?;
        let index = self.books.size;
        self.append_one(&Entry::Settlement(settlement.into()))?;
        Ok(index)
    }

    /// A payee is paid to another address from this entry on.
    fn move_payee(&mut self, moved: Move) -> Result<u64, MovingError> {
        if !self.books.knows(&moved.from) {
            match self.books.moves.hops(&moved.from) {
                None => return Err(MovingError::Unknown),
                Some(hops) if hops >= HOPS_MAX => return Err(MovingError::TooFar),
                Some(_) => {}
            }
        }
        if moved.log_id != self.log.log_id() {
            return Err(MoveError::OtherLog.into());
        }
        self.books.check_move(&moved)?;
        let index = self.books.size;
        self.append_one(&Entry::Move(moved.into()))?;
        Ok(index)
    }

    /// Makes an entry durable that the books will take.
    fn append_one(&mut self, entry: &Entry) -> CommitResult {
        let mut entries = Encoded::default();
        entries.push(entry);
        self.append(&entries)?;
        self.books.apply(self.books.size, entry).expect("it was tried before");
        self.tell([]);
        Ok(())
    }

    fn window(&mut self, network: Work) -> Result<Snapshot, WindowError> {
        let window = self.span.window_work(network);
        if !self.books.window.resize(window) {
            let rebuilt = replay(self.log.dir(), self.books.size, window).map_err(|error| {
                error!(%error, "cannot rebuild the window from the share log");
                WindowError::LogUnreadable
            })?;
            assert_eq!(rebuilt.total_work, self.books.total_work, "the log holds what the books say");
            self.books.window = rebuilt.window;
        }
        let (weights, total) = (self.books.weights(), self.books.window.total());
        assert_eq!(weights.values().map(|work| work.0).sum::<u128>(), total.0, "weights sum to the window");
        assert_eq!(self.books.size, self.log.size(), "the books have as many entries as the log");
        let (log_size, log_root) = (self.books.size, self.log.root());
        let moves = self.books.moves.clone();
        let locked = moves.credits(self.books.settlements.locked());
        Ok(Snapshot { log_size, log_root, window, weights, total, locked, moves })
    }
}

#[cfg(test)]
mod tests;
