//! What the log adds up to: payees, credited work, the window. Built by replay, kept by the writer.

use crate::entry::{ChainEvent, DecodeError, Entry, Move, Params};
use crate::journal::{self, Journal};
use crate::log::{LogError, Reader};
use crate::moves::{MoveError, Moves};
use crate::registry::Registry;
use crate::settlement::{Made, Settlements};
use crate::window::{Span, Window};
use bitcoin::{Network, ScriptBuf};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use stratum::pot::Pot;
use stratum::target::{Target, Work};

/// The state that follows from the entries so far, and from nothing else.
#[derive(Debug, PartialEq)]
pub(crate) struct Books {
    pub network: Network,
    pub registry: Registry,
    pub window: Window,
    /// Sum of all credited work.
    pub total_work: Work,
    /// Number of entries.
    pub size: u64,
    pub params: Option<Params>,
    pub epoch: Option<u16>,
    pub settlements: Settlements,
    pub moves: Arc<Moves>,
    /// What all but window, work and size would follow from again.
    pub journal: Journal,
}

/// The books at a moment, without what follows from the journal.
#[derive(Debug)]
pub(crate) struct BooksCopy {
    pub window: Window,
    pub total_work: Work,
    pub size: u64,
    pub journal: Journal,
}

/// Intact entries that contradict each other: a bug, or a forged log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("share log entry {index} is inconsistent: {what}")]
pub struct Inconsistent {
    /// Index of the entry.
    pub index: u64,
    /// What is wrong with it.
    pub what: Cow<'static, str>,
}

/// Why weights cannot be computed from a log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// It reads, but does not add up.
    #[error(transparent)]
    Inconsistent(#[from] Inconsistent),
    /// Fewer entries than asked for.
    #[error("the share log has {0} entries, fewer than asked for")]
    TooShort(u64),
}

/// Why bytes are no journal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error(transparent)]
    Entry(#[from] DecodeError),
    #[error(transparent)]
    Inconsistent(#[from] Inconsistent),
    #[error("an entry that is out of order, or never kept")]
    Order,
}

impl Books {
    /// Books of an empty log with a window of the given size.
    pub fn new(network: Network, window: Work) -> Self {
        Self {
            network,
            registry: Registry::default(),
            window: Window::new(window),
            total_work: Work(0),
            size: 0,
            params: None,
            epoch: None,
            settlements: Settlements::default(),
            moves: Arc::default(),
            journal: Journal::default(),
        }
    }

    /// Takes the next entry and checks it against those before.
    pub fn apply(&mut self, index: u64, entry: &Entry) -> Result<(), Inconsistent> {
        let wrong = |what| Inconsistent { index, what: Cow::Borrowed(what) };
        if index != self.size {
            return Err(wrong("index"));
        }
        match entry {
            Entry::Share(share) => {
                let script =
                    self.registry.script_number(share.payee).ok_or(wrong("payee is not registered"))?;
                if share.job >= index {
                    return Err(wrong("its job comes later"));
                }
                self.credit(script, share.pot, share.credited).ok_or(wrong("work exceeds 128 bits"))?;
                if share.total_work != self.total_work {
                    return Err(wrong("sum of credited work"));
                }
            }
            Entry::Payee(payee) => {
                payee.check().map_err(wrong)?;
                self.registry.register(index, payee).map_err(|_| wrong("payee index"))?;
            }
            Entry::Params(params) => self.params = Some(Params::clone(params)),
            Entry::Chain(chain) => {
                self.settlements.note(&chain.event).map_err(wrong)?;
                if let ChainEvent::EpochStart { epoch } = chain.event {
                    self.epoch = Some(epoch);
                }
            }
            Entry::Settlement(settlement) => {
                self.settlements.begin(index, settlement, self.params.as_ref()).map_err(wrong)?;
            }
            Entry::Move(moved) => {
                let what = |error: MoveError| Cow::Owned(format!("a payee moves, but {error}"));
                let wrong = |error| Inconsistent { index, what: what(error) };
                self.check_move(moved).map_err(wrong)?;
                let known = self.knows(&moved.from);
                Arc::make_mut(&mut self.moves).note(moved, known);
            }
            Entry::Job(_) => {}
        }
        if stays(entry) {
            self.journal.push(index, entry);
        }
        self.size += 1;
        Ok(())
    }

    /// Books registrations from a payee index on, which are in the log now; the registry has them already.
    pub fn keep_payees(&mut self, from: usize) {
        for (index, payee) in self.registry.entries_from(from) {
            self.journal.push(index, &Entry::Payee(payee));
        }
    }

    /// What they can be made from again; takes microseconds, however long the window is.
    pub fn copy(&self) -> BooksCopy {
        let Self { window, total_work, size, journal, .. } = self;
        BooksCopy { window: window.clone(), total_work: *total_work, size: *size, journal: journal.clone() }
    }

    /// Books of what a [`Journal`] of these bytes holds, without any work.
    ///
    /// # Errors
    /// It is none, or contradicts itself.
    pub fn of_journal(network: Network, mut bytes: &[u8]) -> Result<Self, JournalError> {
        let mut books = Self::new(network, Work(u128::MAX));
        while !bytes.is_empty() {
            let (index, entry, rest) = journal::first(bytes)?;
            if index < books.size || index == u64::MAX || !stays(&entry) {
                return Err(JournalError::Order);
            }
            books.size = index;
            books.apply(index, &entry)?;
            bytes = rest;
        }
        Ok(books)
    }

    /// Whether a payee may move here.
    ///
    /// # Errors
    /// Why not.
    pub fn check_move(&self, moved: &Move) -> Result<(), MoveError> {
        // Whether a block has paid a credit of it, too, is asked until it is paid. Credit of another payee must not hide that.
        let is_paid = |made: &Made| made.settlement.credits.iter().any(|(script, _)| *script == moved.from);
        if self.settlements.open().is_some_and(|(_, made)| is_paid(made)) {
            return Err(MoveError::BeingPaid);
        }
        self.moves.check(moved, self.network)
    }

    /// Whether a script has shares of its own, or the rules in force have fee or donations paid to it, which are credits in
    /// small coinbases.
    pub fn knows(&self, script: &ScriptBuf) -> bool {
        let is_of_the_rules = self.params.as_ref().is_some_and(|params| {
            let donations = params.split.donations.iter().map(|donation| &donation.script);
            donations.chain([&params.split.fee_script]).any(|paid| paid == script)
        });
        is_of_the_rules || self.registry.knows(script)
    }

    /// Books one share; `None` if the sum of work overflows.
    pub fn credit(&mut self, script: u32, pot: Pot, credited: bool) -> Option<()> {
        if credited {
            self.total_work = Work(self.total_work.0.checked_add(pot.work().0)?);
            self.window.append(script, pot);
        }
        Some(())
    }

    /// The window's work by who is paid for it; sums to min(W, all credited work).
    pub fn weights(&self) -> BTreeMap<ScriptBuf, Work> {
        let weights = self.window.weights();
        self.moves.gathered(weights.iter().map(|(number, work)| (self.registry.script(*number), *work)))
    }
}

/// Whether the books follow from an entry even once its work has left the window: so it stays in the journal.
fn stays(entry: &Entry) -> bool {
    match entry {
        Entry::Payee(_) | Entry::Params(_) | Entry::Settlement(_) | Entry::Move(_) => true,
        Entry::Chain(chain) => matches!(
            chain.event,
            ChainEvent::EpochStart { .. }
                | ChainEvent::SettlementPaid { .. }
                | ChainEvent::SettlementWithdrawn { .. }
                | ChainEvent::SettlementFailed { .. }
        ),
        Entry::Share(_) | Entry::Job(_) => false,
    }
}

/// Follows the network target through the log while it is replayed, so that no more is kept in
/// memory than the window needs.
pub(crate) fn window_hint(entry: &Entry, span: Span) -> Option<Work> {
    let nbits = match entry {
        Entry::Job(job) => job.nbits,
        Entry::Chain(chain) => match chain.event {
            ChainEvent::Retarget { nbits } => nbits,
            _ => return None,
        },
        _ => return None,
    };
    Some(span.window_work(Target::from_nbits(nbits).ok()?.work()))
}

/// Recomputes the window's weights from the log alone, as they were after its first `log_size`
/// entries, for a window of `window` work. Reads every entry: for tests and auditors.
///
/// # Errors
/// The log cannot be read, contradicts itself, or is shorter.
pub fn weights_at(dir: &Path, log_size: u64, window: Work) -> Result<BTreeMap<ScriptBuf, Work>, ReplayError> {
    Ok(replay(dir, log_size, window)?.weights())
}

/// The books after the first `log_size` entries.
pub(crate) fn replay(dir: &Path, log_size: u64, window: Work) -> Result<Books, ReplayError> {
    let log = Reader::open(dir)?;
    // Of an empty log nothing is asked that depends on it.
    let network = log.headers().next().map_or(Network::Bitcoin, |header| header.network);
    let mut books = Books::new(network, window);
    if log_size == 0 {
        return Ok(books);
    }
    for entry in log {
        let (index, entry) = entry?;
        books.apply(index, &entry)?;
        if books.size == log_size {
            // From here on shares are kept for a window of this size, if it shrinks for a while.
            let _ = books.window.resize(window);
            return Ok(books);
        }
    }
    Err(ReplayError::TooShort(books.size))
}
