//! Recomputes everything that a share log claims, from its entries alone.
//!
//! The log is read twice. The first reading (`survey`) notes what each job says that its payout was computed from;
//! the second follows the books entry by entry, computes each payout at its place (`plans`; of a job whose ledger is not
//! known, what the window alone gives: `owed`), hashes every share again (`shares`), and asks chance (`statistics`). What
//! does not agree is a [`Finding`]: the entry, and the [`Lie`] that it tells.
//! Where two headers look alike (`seen`), the same is done once more, to say whether they are the same.
//!
//! Memory: the window of the books, jobs until an hour after the log says that they were replaced, a print of each header
//! under recent previous blocks, and a few bytes for each job. A hostile log may hold anything: no entry makes this panic,
//! but one without such events keeps all its jobs. All settlements are kept.
//!
//! [`light`] reads a small part of a published log instead, chosen by chance, and asks it some of the same questions;
//! [`listing`] checks nothing, and puts together what stands of a share in several entries.

pub mod lie;
pub mod light;
pub mod listing;
pub(crate) mod recall;
pub mod receipted;

mod jobs;
mod owed;
mod plans;
mod seen;
mod shares;
pub mod statistics;
mod survey;
#[cfg(test)]
mod tests;
mod tips;
mod twice;

pub use lie::{Finding, Lie};
pub use twice::InChain;

use crate::books::Books;
use crate::entry::{ChainEvent, Encoded, Entry, JobEntry, Params, PlanEntry, Reserve, Share};
use crate::moves::Moves;
use crate::settlement::{Credits, Settlements};
use crate::tree::{Tree, TreeHash};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network, Script, ScriptBuf};
use jobs::Jobs;
use plans::Plans;
use seen::Seen;
use shares::Shares;
use statistics::Statistics;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use stratum::payee::PayeeTag;
use stratum::target::Work;
use survey::Survey;

/// Findings that are kept; further ones are counted.
pub const FINDINGS_MAX: usize = 1_000;

/// What an audit has found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Entries read.
    pub entries: u64,
    /// Root of the tree over them.
    pub root: TreeHash,
    /// Shares hashed again.
    pub shares: u64,
    /// Of these, shares that earn.
    pub credited: u64,
    /// Shares without credit whose job is too old to be kept: they weigh nothing and were not hashed.
    pub not_hashed: u64,
    /// Jobs, with those left out.
    pub jobs: u64,
    /// Jobs whose payout starts from a pool block that no share of this log solves: what was owed is not known, so they
    /// are left out but for what follows from the window alone.
    pub jobs_left_out: u64,
    /// The newest block that the log knows of.
    pub newest_tip: Option<BlockHash>,
    /// Settlements that start from a pool block that no share of this log solves: computed from nothing, so left out.
    pub settlements_left_out: u64,
    /// What has become of all of them, as the log says.
    pub settlements: Settlements,
    /// Those that the log calls paid, and the newest entry that does.
    pub said_paid: BTreeMap<u64, u64>,
    /// What is owed behind each block that shares of this log solve, and what settlements have paid of that, too.
    /// [`Report::paid_twice`] compares the two in a chain.
    pub owed: BTreeMap<BlockHash, Arc<Credits>>,
    /// The reserve output of each block that shares of this log solve, if it has one. A node can tell whether it is
    /// still there.
    pub reserves: BTreeMap<BlockHash, Reserve>,
    /// Jobs of which the log does not say when they were made: whether their window was the newest one is not known.
    pub jobs_of_unknown_age: u64,
    /// All work that was ever credited.
    pub total_work: u128,
    /// Blocks that shares of this log solve, by the share's index.
    pub blocks: BTreeMap<u64, BlockHash>,
    /// The block that each of them builds on.
    pub built_on: BTreeMap<u64, BlockHash>,
    /// The block that each job that pays a window builds on, and the pool block that its ledger is of, with the first
    /// entry that says so. A node can tell whether it is the newest one there.
    pub ledgers: BTreeMap<(BlockHash, BlockHash), u64>,
    /// Of these, those whose pool block no share of this log solves, although the log goes on for a minute or more behind
    /// the entry: whatever a node was handed is logged. A node can tell whether there was such a chain.
    pub unsolved: BTreeMap<(BlockHash, BlockHash), u64>,
    /// The block that each job builds on, and the network target that it names, with the first entry that says so. A
    /// node can tell whether it is that of the chain.
    pub targets: BTreeMap<(BlockHash, u32), u64>,
    /// Payees that have moved to another address, each by a signature of the old one, and the log that these are signed for.
    pub moves: Arc<Moves>,
    /// Whether the log's id was not known: they may be signed for another log.
    pub moves_of_any_log: bool,
    /// The rules that are in force in the end.
    pub params: Option<Params>,
    /// What chance says of the shares.
    pub statistics: Statistics,
    /// Scripts by their numbers in the statistics.
    pub scripts: Vec<ScriptBuf>,
    /// What is wrong, by entry; at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// All that is wrong.
    pub findings_total: u64,
}

impl Report {
    pub(crate) fn found(&mut self, index: u64, lie: Lie) {
        self.findings_total += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { index, lie });
        }
    }

    /// Whether nothing is wrong in the log itself and nothing had to be left out. Of settlements that
    /// [may be paid](Report::may_be_paid) a chain must say more.
    pub fn is_proven(&self) -> bool {
        self.is_honest() && self.jobs_left_out == 0 && self.settlements_left_out == 0
    }

    /// Whether nothing is wrong.
    pub fn is_honest(&self) -> bool {
        self.findings_total == 0
    }
}

/// Audits a log that `read` gives from its first entry on, twice, and twice more if two headers look alike; it may grow
/// meanwhile. Without `log_id` payees may have signed their moves for another log.
///
/// # Errors
/// The log cannot be read.
pub fn audit<I, E>(
    network: Network,
    log_id: Option<[u8; 16]>,
    read: impl FnMut() -> Result<I, E>,
) -> Result<Report, E>
where
    I: Iterator<Item = Result<(u64, Entry), E>>,
{
    audit_with(Seen::default(), network, log_id, read)
}

fn audit_with<I, E>(
    seen: Seen,
    network: Network,
    log_id: Option<[u8; 16]>,
    mut read: impl FnMut() -> Result<I, E>,
) -> Result<Report, E>
where
    I: Iterator<Item = Result<(u64, Entry), E>>,
{
    let check = |seen, survey, entries| {
        let mut audit = Audit::new(network, survey);
        audit.shares.seen = seen;
        audit.books.moves = Moves::of(log_id).into();
        audit.report.moves_of_any_log = log_id.is_none();
        for entry in entries {
            let (index, entry) = entry?;
            if !audit.take(index, &entry) {
                break;
            }
        }
        Ok(audit.finish())
    };
    let (survey, entries) = survey(read()?)?;
    // A pool that runs goes on writing: what came since is left for another time.
    let (report, seen) = check(seen, survey, read()?.take(entries))?;
    let Some((comparing, beyond)) = seen.into_comparing() else { return Ok(report) };
    let (survey, _) = self::survey(read()?.take(entries))?;
    let (mut report, _) = check(comparing, survey, read()?.take(entries))?;
    let is_twice = report.findings.iter().any(|finding| matches!(finding.lie, Lie::Twice(_)));
    report.findings_total += if is_twice { beyond } else { 0 };
    Ok(report)
}

/// What the log says of itself, and how many entries it has.
fn survey<E>(entries: impl Iterator<Item = Result<(u64, Entry), E>>) -> Result<(Survey, usize), E> {
    let (mut survey, mut count) = (Survey::default(), 0);
    for entry in entries {
        let (index, entry) = entry?;
        survey.note(index, &entry);
        count += 1;
    }
    Ok((survey, count))
}

/// The block that a share on a job solves, if it does.
pub(crate) fn block_of(job: &JobEntry, share: &Share, script: &Script) -> Option<BlockHash> {
    let (mut jobs, share) = (Jobs::default(), Share { job: 0, ..share.clone() });
    jobs.add(0, job).ok()?;
    let hash = shares::header_hash(&share, PayeeTag::of(script), &mut jobs)?;
    jobs.is_solved_by(0, hash).then_some(hash)
}

/// So many bytes of entries fill the lanes of the hash, and the processor's nearest cache not yet.
const UNHASHED_BYTES: usize = 16 << 10;

/// A block's share may come into the log so much later than shares on the work that follows it.
const COMING_MS: u64 = 60_000;

/// How far the log is old enough to hold the share of each block that its jobs name.
#[derive(Debug, Default)]
struct Age {
    /// The last entry of each second and when that second began, Unix ms.
    newest: VecDeque<(u64, u64)>,
    /// Entries below this one are.
    old: u64,
}

/// A second.
const SECOND_MS: u64 = 1_000;

impl Age {
    fn note(&mut self, index: u64, unix_ms: u64) {
        match self.newest.back_mut() {
            Some((last, began)) if unix_ms < began.saturating_add(SECOND_MS) => *last = index,
            _ => self.newest.push_back((index, unix_ms)),
        }
        let is_old = |began: u64| began.saturating_add(SECOND_MS + COMING_MS) < unix_ms;
        while let Some((last, _)) = self.newest.front().filter(|(_, began)| is_old(*began)) {
            self.old = *last;
            self.newest.pop_front();
        }
    }
}

struct Audit {
    books: Books,
    tree: Tree,
    jobs: Jobs,
    plans: Plans,
    shares: Shares,
    report: Report,
    age: Age,
    /// Entries that are not in the tree yet: many are hashed at once.
    unhashed: Encoded,
}

impl Audit {
    fn new(network: Network, survey: Survey) -> Self {
        let mut books = Books::new(network, Work(u128::MAX));
        // No window of this log is larger, so none reaches back to what the books have let go.
        let _ = books.window.resize(survey.largest_window());
        Self {
            books,
            tree: Tree::default(),
            jobs: Jobs::default(),
            plans: Plans::new(network, survey),
            shares: Shares::default(),
            report: Report::default(),
            age: Age::default(),
            unhashed: Encoded::default(),
        }
    }

    /// Takes the next entry; `false` if nothing behind it can be checked.
    fn take(&mut self, index: u64, entry: &Entry) -> bool {
        if self.plans.are_due(index) {
            self.hash_entries();
            self.plans.compute_at(&mut self.books, self.tree.root(), &mut self.report);
        }
        if let Entry::Settlement(settlement) = entry {
            self.plans.check_settlement(index, settlement, &self.books, &mut self.report);
        }
        if let Err(lie) = self.book(index, entry) {
            self.report.found(index, lie);
            return false;
        }
        self.unhashed.push(entry);
        if self.unhashed.bytes().len() >= UNHASHED_BYTES {
            self.hash_entries();
        }
        match entry {
            Entry::Job(job) => {
                self.report.targets.entry((job.prev_hash, job.nbits)).or_insert(index);
                if let PlanEntry::Window { ledger_block, .. } = job.plan {
                    self.report.ledgers.entry((job.prev_hash, ledger_block)).or_insert(index);
                    self.shares.end_solo(job.template, self.plans.made_at(job.template));
                }
                self.report.jobs_of_unknown_age += u64::from(!self.plans.age_is_known(job.template));
                match self.jobs.add(index, job) {
                    Ok(()) => self.plans.check(index, job, &self.books, &mut self.report),
                    Err(lie) => self.report.found(index, lie),
                }
                self.report.jobs += 1;
            }
            Entry::Share(share) => {
                self.age.note(index, share.received_unix_ms);
                if share.credited {
                    self.plans.credited(index, share.received_unix_ms);
                }
                self.shares.take(index, share, &mut self.jobs, &self.books, &mut self.report);
            }
            Entry::Chain(chain) => {
                match chain.event {
                    ChainEvent::NewTip(tip) => self.report.newest_tip = Some(tip),
                    ChainEvent::SettlementPaid { settlement, .. } => {
                        self.report.said_paid.insert(settlement, index);
                    }
                    _ => {}
                }
                self.jobs.note(chain);
                self.shares.note(chain);
            }
            Entry::Payee(_) | Entry::Params(_) | Entry::Settlement(_) | Entry::Move(_) => {}
        }
        true
    }

    fn book(&mut self, index: u64, entry: &Entry) -> Result<(), Lie> {
        if let Entry::Params(params) = entry {
            params.split.check().map_err(|error| Lie::Rules(error.to_string()))?;
        }
        self.books.apply(index, entry).map_err(|inconsistent| Lie::Inconsistent(inconsistent.what))
    }

    fn hash_entries(&mut self) {
        self.tree.extend(self.unhashed.leaves());
        self.unhashed.clear();
    }

    fn finish(mut self) -> (Report, Seen) {
        self.hash_entries();
        self.shares.hash(&self.books.registry, &mut self.report);
        let Self { books, tree, shares, mut report, age, .. } = self;
        let solved: HashSet<BlockHash> =
            report.blocks.values().copied().chain([BlockHash::all_zeros()]).collect();
        let is_unsolved = |&(&(_, named), &entry): &(&(BlockHash, BlockHash), &u64)| {
            entry < age.old && !solved.contains(&named)
        };
        report.unsolved =
            report.ledgers.iter().filter(is_unsolved).map(|(job, entry)| (*job, *entry)).collect();
        let scripts = (0..books.registry.scripts()).map(|number| books.registry.script(number).clone());
        report.scripts = scripts.collect();
        report.entries = tree.size();
        report.root = tree.root();
        report.total_work = books.total_work.0;
        report.settlements = books.settlements;
        report.moves = books.moves;
        report.params = books.params;
        report.findings.sort_by_key(|finding| finding.index);
        (report, shares.seen)
    }
}
