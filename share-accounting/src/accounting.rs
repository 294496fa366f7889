//! The handle by which the pool reaches the accounting thread.

use crate::block_share::BlockShare;
use crate::books::{Books, Inconsistent, ReplayError};
use crate::checkpoint::Keeper;
use crate::entry::{ChainEntry, ChainEvent, Encoded, Entry, Move, Params, Settlement};
use crate::ledger::{Ledger, LedgerError};
use crate::log::append::{AppendError, LogSettings};
use crate::log::{Log, LogError};
use crate::moves::{HOPS_MAX, MoveError, Moves};
use crate::payout::ParamsError;
use crate::publish::{Heads, Logged, Teller};
use crate::recovery::{Recovered, recover};
use crate::settlement::{Credits, Settlements};
use crate::shared::{Counters, Shared};
use crate::tree::TreeHash;
use crate::writer::{Message, Queued, Writer};
use bitcoin::{BlockHash, Network, ScriptBuf};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use stratum::payee::PayeeTag;
use stratum::share::JudgedShare;
use stratum::target::Work;
use tracing::info;

/// Batches that may wait for the accounting thread; at the bound [`Accounting::commit`] gives them back.
pub const QUEUE_BATCHES_MAX: usize = 64;

/// What the accounting is opened with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Data directory: holds `log/` and `ledger.sqlite`.
    pub dir: PathBuf,
    /// The chain.
    pub network: Network,
    /// The rules; logged when they changed.
    pub params: Params,
    /// Size beyond which a log segment is closed: see [`crate::log::append::SEGMENT_BYTES_DEFAULT`].
    pub segment_bytes: u64,
}

impl Settings {
    /// Directory of the share log.
    pub fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// File of the ledger.
    pub fn ledger_path(&self) -> PathBuf {
        self.dir.join("ledger.sqlite")
    }
}

/// Why the accounting cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The rules cannot be used.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// The share log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// It opens, but does not add up.
    #[error("{0}: restore the log from a backup")]
    Inconsistent(#[from] Inconsistent),
    /// The window could not be rebuilt from the log.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The first commit failed.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The ledger cannot be opened.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The system has no thread to give.
    #[error("cannot start the accounting thread: {0}")]
    Thread(std::io::Error),
}

/// Why a commit failed; nothing of it is credited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The log cannot be written at the moment; it recovers without a restart.
    #[error("the share log cannot be written")]
    LogUnavailable,
    /// The accounting thread has stopped.
    #[error("the accounting has stopped")]
    Stopped,
    /// An event that cannot follow the entries before it; the reason is logged.
    #[error("the share log takes no such event here")]
    Refused,
}

/// Why a settlement is not in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// As for shares.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// It does not follow from the entries before.
    #[error("no settlement can be made: {0}")]
    Refused(&'static str),
}

/// Why a payee has not moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MovingError {
    /// As for shares.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Nothing was ever credited to it: whoever likes could fill the log.
    #[error("the old address has no share in the log")]
    Unknown,
    /// The same, with one share.
    #[error("the old address is the end of {HOPS_MAX} moves in a row: it stays")]
    TooFar,
    /// It cannot, or not by this signature.
    #[error(transparent)]
    Refused(#[from] MoveError),
}

/// Why shares of blocks are not in the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// As for shares.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Whether they are there already cannot be told.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What has become of shares that an earlier process has left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// So many were not in the log, and are now.
    pub logged: usize,
    /// Headers of those that are not: they are of a longer log than this one, which may come back.
    pub elsewhere: Vec<BlockHash>,
}

/// The outcome of a commit.
pub type CommitResult = Result<(), CommitError>;

/// Called once on the accounting thread, with where each of the batch's shares is in the log, in their order, and with
/// the shares themselves: must not block.
pub type Done = Box<dyn FnOnce(Result<&[Logged], CommitError>, Vec<JudgedShare>) + Send>;

/// Shares that are committed together.
pub struct Batch {
    /// In the order of their judgement.
    pub shares: Vec<JudgedShare>,
    /// Told when they are durable, or that they are not.
    pub done: Done,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch({} shares)", self.shares.len())
    }
}

/// Why there is no window to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WindowError {
    /// The accounting thread has stopped.
    #[error("the accounting has stopped")]
    Stopped,
    /// A commit takes longer than the caller waits.
    #[error("the share log is busy with a slow commit")]
    Busy,
    /// The window reaches back to shares that must be read from the log, and that failed (logged).
    #[error("the share log cannot be read")]
    LogUnreadable,
}

/// A window on its way; it can be waited for more than once, until it is there.
#[derive(Debug)]
pub struct WindowAnswer(Receiver<Result<Snapshot, WindowError>>);

impl WindowAnswer {
    /// Waits for the window.
    ///
    /// # Errors
    /// [`WindowError::Busy`] if it takes longer than `patience`; or the thread has stopped, or the log must be
    /// read for a wider window and cannot.
    pub fn wait(&self, patience: Duration) -> Result<Snapshot, WindowError> {
        self.0.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => WindowError::Busy,
            RecvTimeoutError::Disconnected => WindowError::Stopped,
        })?
    }
}

/// The window at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Number of log entries that it was taken from.
    pub log_size: u64,
    /// Root of the tree over them.
    pub log_root: TreeHash,
    /// W.
    pub window: Work,
    /// Credited work by script; none is zero.
    pub weights: BTreeMap<ScriptBuf, Work>,
    /// Their sum: min(W, all credited work).
    pub total: Work,
    /// Credits that settlements have locked, by who is paid.
    pub locked: Arc<Credits>,
    /// Payees that have moved.
    pub moves: Arc<Moves>,
}

/// What the log says of credits, beside the blocks that leave them.
#[derive(Debug, Clone, Default)]
pub struct Adjustments {
    /// Credits that are paid from the reserve.
    pub settlements: Settlements,
    /// Payees that have moved.
    pub moves: Arc<Moves>,
}

/// Handle to the accounting thread; cheap to clone.
#[derive(Debug, Clone)]
pub struct Accounting {
    epoch: u16,
    log_id: [u8; 16],
    heads: Heads,
    messages: SyncSender<Message>,
    shared: Arc<Shared>,
}

/// The accounting thread; [`AccountingThread::stop`] ends it.
#[derive(Debug)]
pub struct AccountingThread {
    messages: SyncSender<Message>,
    thread: JoinHandle<()>,
}

/// The wall clock in Unix milliseconds, for the log only.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Accounting {
    /// Locks the directory, recovers and replays the log from its newest checkpoint on, makes the new epoch durable, and starts the thread.
    ///
    /// # Errors
    /// Nothing is served from books that do not add up: every error is final and says its remedy.
    pub fn open(settings: Settings) -> Result<(Accounting, AccountingThread), OpenError> {
        settings.params.split.check()?;
        let log_settings = LogSettings {
            dir: settings.log_dir(),
            network: settings.network,
            site: settings.params.site,
            segment_bytes: settings.segment_bytes,
        };
        let span = settings.params.span;
        let Recovered { mut log, mut books, missing, read_from } = recover(log_settings, span)?;
        if books.moves.log_id().is_some_and(|signed_for| signed_for != log.log_id()) {
            let what = "its payees have signed their moves for another log".into();
            return Err(Inconsistent { index: 0, what }.into());
        }
        let mut ledger = Ledger::open(&settings.ledger_path())?;
        let identity = ledger.identify(log.log_id(), books.epoch)?;
        start_epoch(&mut log, &mut books, identity.epoch, settings.params.clone())?;
        info!(
            epoch = identity.epoch,
            entries = books.size,
            payees = books.registry.len(),
            read_from_segment = read_from,
            "share log replayed"
        );
        let shared = Arc::new(Shared::default());
        shared.log_entries.store(books.size, Ordering::Relaxed);
        let (messages, receiver) = sync_channel(QUEUE_BATCHES_MAX);
        let tags = books.registry.payees_from(0).map(|(_, script, _)| PayeeTag::of(script)).collect();
        let (teller, log_id) = (Teller::new(tags), log.log_id());
        let heads = teller.listener();
        let mut keeper = Keeper::new(settings.log_dir());
        if let Some(checkpoint) = missing {
            keeper.keep(|| checkpoint);
        }
        let writer = Writer::new(log, keeper, books, span, identity.worker_salt, shared.clone(), teller);
        let thread = std::thread::Builder::new()
            .name("accounting".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(OpenError::Thread)?;
        let accounting = Self { epoch: identity.epoch, log_id, heads, messages: messages.clone(), shared };
        Ok((accounting, AccountingThread { messages, thread }))
    }

    /// This process's epoch: one more than at the start before, modulo 65,536; durable already.
    pub fn epoch(&self) -> u16 {
        self.epoch
    }

    /// Drawn at random when the log was created.
    pub fn log_id(&self) -> [u8; 16] {
        self.log_id
    }

    /// For the one who publishes the log: how far it is durable.
    pub fn heads(&self) -> Heads {
        self.heads.clone()
    }

    /// Queues shares for the log; never blocks. `done` is called exactly once if this returns `Ok`.
    ///
    /// # Errors
    /// Gives the batch back if [`QUEUE_BATCHES_MAX`] batches wait already or the thread has stopped.
    pub fn commit(&self, batch: Batch) -> Result<(), Batch> {
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        match self.messages.try_send(Message::Shares(Queued::new(batch))) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                self.shared.queued.fetch_sub(1, Ordering::Relaxed);
                let Message::Shares(queued) = message else {
                    unreachable!("what comes back is what was sent")
                };
                Err(queued.take())
            }
        }
    }

    /// Sets the window to the span of the settings at this network difficulty and asks what it holds of durable
    /// shares; never blocks.
    ///
    /// # Errors
    /// The thread has stopped, or too much waits for it already.
    pub fn ask_window(&self, network: Work) -> Result<WindowAnswer, WindowError> {
        let (reply, answer) = sync_channel(1);
        self.messages.try_send(Message::Window { network, reply }).map_err(|error| match error {
            TrySendError::Full(_) => WindowError::Busy,
            TrySendError::Disconnected(_) => WindowError::Stopped,
        })?;
        Ok(WindowAnswer(answer))
    }

    /// Logs shares that solve a block without credit, but for those that are in the log already, and waits until they are
    /// durable.
    ///
    /// # Errors
    /// None of them is logged: the log cannot be read or written.
    pub fn restore(&self, shares: Vec<BlockShare>) -> Result<Restored, RestoreError> {
        let (reply, answer) = sync_channel(1);
        self.messages.send(Message::Restore { shares, reply }).map_err(|_| CommitError::Stopped)?;
        answer.recv().map_err(|_| CommitError::Stopped)?
    }

    /// Logs an event that came at this time of the wall clock, Unix milliseconds, and waits until it is durable.
    ///
    /// # Errors
    /// The event is not in the log.
    pub fn event(&self, unix_ms: u64, event: ChainEvent) -> CommitResult {
        let (reply, answer) = sync_channel(1);
        let entry = ChainEntry { unix_ms, event };
        self.messages.send(Message::Event { entry, reply }).map_err(|_| CommitError::Stopped)?;
        answer.recv().map_err(|_| CommitError::Stopped)?
    }

    /// Logs a settlement that follows from these adjustments, and waits until it is durable: from then on its credits are
    /// locked. Gives its index.
    ///
    /// # Errors
    /// It is not in the log: that cannot be written, or the settlement does not follow from the entries before.
    pub fn settle(&self, settlement: Settlement, from: &Adjustments) -> Result<u64, SettleError> {
        let (reply, answer) = sync_channel(1);
        let message = Message::Settle { settlement: Box::new(settlement), moves: from.moves.len(), reply };
        self.messages.send(message).map_err(|_| CommitError::Stopped)?;
        answer.recv().map_err(|_| CommitError::Stopped)?
    }

    /// Logs that a payee moves to another address, if its owner has signed that, and waits until it is durable, no longer
    /// than that for a slow disk: then it may come all the same. Gives its index.
    ///
    /// # Errors
    /// It is not in the log, or not yet: why.
    pub fn move_payee(&self, moved: Move, patience: Duration) -> Result<u64, MovingError> {
        let (reply, answer) = sync_channel(1);
        let message = Message::Move { moved: Box::new(moved), reply };
        self.messages.try_send(message).map_err(|_| CommitError::LogUnavailable)?;
        answer.recv_timeout(patience).map_err(|_| CommitError::LogUnavailable)?
    }

    /// What the log says of credits beside the blocks that leave them; waits no longer than that for a slow disk.
    ///
    /// # Errors
    /// The thread is busy, or has stopped.
    pub fn adjustments(&self, patience: Duration) -> Result<Adjustments, WindowError> {
        let (reply, answer) = sync_channel(1);
        self.messages.try_send(Message::Adjustments(reply)).map_err(|error| match error {
            TrySendError::Full(_) => WindowError::Busy,
            TrySendError::Disconnected(_) => WindowError::Stopped,
        })?;
        answer.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => WindowError::Busy,
            RecvTimeoutError::Disconnected => WindowError::Stopped,
        })
    }

    /// Payee indexes of a script, which its shares name; none if it has no share in the log.
    pub fn payees_of(&self, script: &ScriptBuf) -> Vec<u32> {
        self.shared.payees().by_script.get(script).cloned().unwrap_or_default()
    }

    /// Index of the entry that registers a payee index.
    pub fn payee_entry(&self, payee: u32) -> Option<u64> {
        self.shared.payees().entries.get(payee as usize).copied() // u32 fits usize
    }

    /// Counters since the start.
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }
}

impl AccountingThread {
    /// Commits what is queued, then ends the thread. Batches sent later are given back.
    ///
    /// # Errors
    /// If the thread had panicked: the process should end with a failure too.
    pub fn stop(self) -> std::thread::Result<()> {
        // If the send fails the thread is gone already and join says how.
        let _ = self.messages.send(Message::Stop);
        self.thread.join()
    }

    /// Whether the thread has ended without being told to: a fault that must end the process.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Logs the rules if they changed, and the start of the epoch.
fn start_epoch(log: &mut Log, books: &mut Books, epoch: u16, params: Params) -> Result<(), OpenError> {
    let mut entries = Vec::new();
    if books.params.as_ref() != Some(&params) {
        entries.push(Entry::Params(params.into()));
    }
    entries.push(Entry::Chain(ChainEntry { unix_ms: unix_ms(), event: ChainEvent::EpochStart { epoch } }));
    let mut encoded = Encoded::default();
    entries.iter().for_each(|entry| encoded.push(entry));
    log.begin_epoch(epoch);
    log.commit(&encoded, books.total_work.0)?;
    for (index, entry) in (books.size..).zip(&entries) {
        books.apply(index, entry)?;
    }
    Ok(())
}
