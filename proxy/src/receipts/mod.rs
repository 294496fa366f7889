//! Receipts for the shares that a Sluice pool has acknowledged: fetched from its log, checked and kept, without anybody
//! asking. Who is missing one is told.
//!
//! - [`expected`]: what is waited for, pure; [`folder`]: what is kept
//! - this module: the thread that asks
//!
//! A receipt is believed as far as its signature and its path go: that the log holds such an entry for this payee. Whether
//! that is the very work of the share is for `sluice-verify published --receipts … --journal …`, which has the whole log.

pub mod expected;
mod folder;

use self::expected::{Expected, MISSING_AFTER, NotFound, Taken};
use self::folder::Folder;
use crate::forward::ACCOUNTS_MAX;
use crate::health::Health;
use crate::metrics::Metrics;
use bitcoin::BlockHash;
use bitcoin::hex::FromHex;
use share_accounting::entry::Entry;
use share_accounting::publish::Head;
use share_accounting::publish::journal::{Fate, Line, Rolled};
use share_accounting::publish::key::LogVerifier;
use share_accounting::publish::receipt::Receipts;
use share_accounting::tree::TreeHash;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use stratum_net::clock::unix_ms;
use stratum_net::fetch;
use tracing::{debug, error, info, warn};

/// Shares that wait to be taken over from the journal; further ones are not watched.
const WAITING_MAX: usize = 16_384;
/// Answers that are asked for one payee in a row: a million entries of the log.
const ANSWERS_MAX: usize = 64;
/// Where a payee that is new begins: so many entries before the end.
const BACK: u64 = 1 << 16;
/// Failures in a row after which the others are left for the next round.
const FAILURES_MAX: usize = 3;
/// No payee is asked for once a round has lasted so long; the next begins with it.
const ROUND_MAX: Duration = Duration::from_secs(60);
/// How far back the journal is read at a start.
const DAY_MS: u64 = 86_400_000;
/// The longest addresses have 90 characters (BIP 173).
const ADDRESS_BYTES_MAX: usize = 90;
/// Longest answer with receipts, and longest proof or checkpoint, in bytes.
const RECEIPTS_BYTES_MAX: usize = 8 << 20;
const PROOF_BYTES_MAX: usize = 64 << 10;

/// Where a pool publishes its log, and who signs it.
#[derive(Debug, Clone)]
pub struct LogAddress {
    /// As in `http://HOST:PORT/log`.
    pub url: String,
    /// The public key that signs it, as the pool gives it out.
    pub key: String,
}

/// Why there are no receipts at the moment.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Fetch(#[from] fetch::FetchError),
    #[error("what it answers is no receipt of this log: {0}")]
    Answer(String),
    #[error("receipts cannot be kept: {0}")]
    Disk(#[from] io::Error),
    /// Signed, and not true.
    #[error(
        "two logs are shown: the head of {now} entries does not go on from that of {before}; both are kept in {kept}"
    )]
    TwoLogs { before: u64, now: u64, kept: String },
}

/// Who asks: a thread.
pub struct Keeper {
    logs: Logs,
    accepted: Receiver<(usize, Line)>,
    /// How often they are asked, while shares wait for their receipts.
    every: Duration,
    metrics: Metrics,
    health: Arc<Health>,
}

/// Logs by the numbers of their upstreams.
struct Logs(BTreeMap<usize, Log>);

/// A log that is asked.
struct Log {
    url: String,
    verifier: LogVerifier,
    folder: Folder,
    payees: BTreeMap<String, Payee>,
    head: Option<Head>,
    /// When that was first seen, Unix milliseconds.
    head_since: u64,
    /// Who is asked for first in the next round.
    first: String,
    /// It is not asked any more: it is none.
    is_false: bool,
    /// The last share that should be in the log and is not. Nobody takes that back.
    missing: Option<String>,
    /// Why there are no receipts at the moment.
    trouble: Option<String>,
    /// Shares that nobody looks for, for there are too many.
    unwatched: usize,
}

/// A payee of a log.
#[derive(Debug, Default)]
struct Payee {
    /// Entries before this one have been looked through; nobody has looked yet.
    next: Option<u64>,
    expected: Expected,
}

/// Starts the thread for these upstreams: their numbers, folders and logs. It ends some time after the journal, which
/// gives the lines that it has written to the closure that comes back.
///
/// # Errors
/// A folder cannot be read, or holds what is not signed by the key.
pub fn start(
    logs: impl IntoIterator<Item = (usize, PathBuf, LogAddress)>,
    every: Duration,
    metrics: Metrics,
    health: Arc<Health>,
) -> anyhow::Result<impl FnMut(usize, Line) + Send + 'static> {
    let logs = logs.into_iter().map(|(upstream, folder, log)| Ok((upstream, Log::open(folder, log)?)));
    let logs: BTreeMap<usize, Log> = logs.collect::<anyhow::Result<_>>()?;
    let watched: Vec<_> = logs.keys().copied().collect();
    let (send, accepted) = sync_channel(WAITING_MAX);
    let counters = metrics.clone();
    let keeper = Keeper { logs: Logs(logs), accepted, every, metrics, health };
    thread::Builder::new().name("receipts".to_owned()).spawn(move || keeper.run())?;
    Ok(move |upstream, line: Line| expect(&send, &counters, &watched, upstream, line))
}

/// Hands on a line of the journal, if it is one that a receipt is owed for.
fn expect(
    send: &SyncSender<(usize, Line)>,
    metrics: &Metrics,
    watched: &[usize],
    upstream: usize,
    line: Line,
) {
    if line.fate == Fate::Accepted && watched.contains(&upstream) && send.try_send((upstream, line)).is_err()
    {
        metrics.receipts_unwatched(1);
    }
}

/// The address in a user's name, which ends as pools read it. It becomes part of file names, so nothing else passes.
pub fn payee_of(user: &str) -> Option<&str> {
    let payee = user.split(['.', '_', '/']).next().unwrap_or(user);
    let is_address = (1..=ADDRESS_BYTES_MAX).contains(&payee.len())
        && payee.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_address.then_some(payee)
}

impl Keeper {
    fn run(mut self) {
        let mut next = Instant::now() + self.every;
        loop {
            match self.accepted.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok((upstream, line)) => self.logs.take(upstream, &line, &self.metrics),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    self.round();
                    next = Instant::now() + self.every;
                }
            }
        }
    }

    /// Asks each log. What is acknowledged meanwhile is taken between two questions.
    fn round(&mut self) {
        let Self { logs, accepted, metrics, health, .. } = self;
        for upstream in logs.numbers() {
            let mut round = Round::new(logs.of(upstream));
            while let Some(payee) = round.next_payee() {
                round.ask(logs.of(upstream), &payee, metrics);
                while let Ok((upstream, line)) = accepted.try_recv() {
                    logs.take(upstream, &line, metrics);
                }
            }
            let log = logs.of(upstream);
            round.end(log);
            let wrong = log.missing.iter().chain(&log.trouble).cloned();
            health.receipts(upstream, wrong.chain(log.unwatched()).collect());
        }
        metrics.receipts_expected(logs.0.values().map(Log::expected).sum());
    }
}

impl Logs {
    fn numbers(&self) -> Vec<usize> {
        self.0.keys().copied().collect()
    }

    fn of(&mut self, upstream: usize) -> &mut Log {
        self.0.get_mut(&upstream).expect("others are not asked for")
    }

    /// Takes a share that was acknowledged.
    fn take(&mut self, upstream: usize, line: &Line, metrics: &Metrics) {
        match self.of(upstream).expect(line) {
            Taken::Expected => {}
            Taken::Found { .. } => metrics.receipts_kept(1),
            Taken::Unwatched => metrics.receipts_unwatched(1),
        }
    }
}

/// One time round a log's payees.
struct Round {
    until: Instant,
    payees: VecDeque<String>,
    failures: usize,
    failure: Option<Failure>,
}

impl Round {
    fn new(log: &Log) -> Self {
        let waiting = log.payees.iter().filter(|(_, payee)| !payee.expected.is_empty());
        let (mut payees, mut before) = (VecDeque::new(), VecDeque::new());
        for (name, _) in waiting {
            if *name < log.first { &mut before } else { &mut payees }.push_back(name.clone());
        }
        payees.append(&mut before);
        Self { until: Instant::now() + ROUND_MAX, payees, failures: 0, failure: None }
    }

    fn next_payee(&mut self) -> Option<String> {
        (self.failures < FAILURES_MAX && Instant::now() < self.until).then(|| self.payees.pop_front())?
    }

    fn ask(&mut self, log: &mut Log, payee: &str, metrics: &Metrics) {
        match log.ask(payee, metrics) {
            Ok(()) => self.failures = 0,
            Err(failure) => {
                let is_lie = matches!(failure, Failure::TwoLogs { .. });
                self.failures = if is_lie { FAILURES_MAX } else { self.failures + 1 };
                self.failure = Some(failure);
            }
        }
    }

    /// Notes how it went.
    fn end(mut self, log: &mut Log) {
        log.first = self.payees.pop_front().unwrap_or_default();
        if let Some(failure @ Failure::TwoLogs { .. }) = &self.failure {
            error!(log = log.url, %failure, "the pool's log is a lie");
            log.is_false = true;
            log.payees.clear();
        }
        // Nobody takes back that a log is a lie.
        if !log.is_false || self.failure.is_some() {
            let failure = self.failure.map(|failure| format!("no receipts from {}: {failure}", log.url));
            let trouble = failure.or_else(|| log.waits_too_long());
            if let Some(reason) = trouble.as_ref().filter(|_| log.trouble.is_none()) {
                warn!(reason, "receipts have to wait");
            }
            log.trouble = trouble;
        }
        log.folder.prune();
    }
}

impl Log {
    fn open(folder: PathBuf, LogAddress { url, key }: LogAddress) -> anyhow::Result<Self> {
        let verifier = LogVerifier::parse(&key)?;
        let day_ago = unix_ms().saturating_sub(DAY_MS);
        let lines = crate::journal::lines_since(&folder, day_ago).unwrap_or_default();
        let folder = Folder::open(folder.join("receipts"))?;
        let head = folder.head(&verifier)?;
        let seen = folder.seen()?;
        let payee = |next| Payee { next: Some(next), expected: Expected::default() };
        let payees = seen.iter().map(|(name, seen)| (name.clone(), payee(seen.next))).collect();
        let mut log = Self {
            url: url.trim_end_matches('/').to_owned(),
            verifier,
            folder,
            payees,
            head,
            head_since: unix_ms(),
            first: String::new(),
            is_false: false,
            missing: None,
            trouble: None,
            unwatched: 0,
        };
        // Shares of the run before, of payees for whom somebody has looked then.
        for line in lines.into_iter().filter(|line| line.fate == Fate::Accepted) {
            let seen = payee_of(&line.user).and_then(|payee| seen.get(payee));
            if seen.is_some_and(|seen| line.at > seen.since) {
                log.expect(&line);
            }
        }
        // What is kept already is not waited for.
        let Self { folder, payees, .. } = &mut log;
        folder.each_since(day_ago, |payee, receipts| {
            if let Some(payee) = payees.get_mut(payee) {
                for (rolled, credited) in shares(receipts) {
                    payee.expected.found(rolled, credited, unix_ms());
                }
            }
        })?;
        Ok(log)
    }

    /// The pool has acknowledged a share.
    fn expect(&mut self, line: &Line) -> Taken {
        let known = payee_of(&line.user).zip(line.rolled).filter(|(payee, _)| {
            !self.is_false && (self.payees.len() < ACCOUNTS_MAX || self.payees.contains_key(*payee))
        });
        let taken = known.map_or(Taken::Unwatched, |(payee, rolled)| {
            let payee = self.payees.entry(payee.to_owned()).or_default();
            payee.expected.accepted(rolled, line.hash, line.at)
        });
        match taken {
            Taken::Found { credited: false } => self.say_uncredited(line.hash),
            Taken::Unwatched => self.unwatched += 1,
            Taken::Found { .. } | Taken::Expected => {}
        }
        taken
    }

    fn expected(&self) -> usize {
        self.payees.values().map(|payee| payee.expected.len()).sum()
    }

    fn unwatched(&self) -> Option<String> {
        let count = self.unwatched;
        (count > 0 && !self.is_false)
            .then(|| format!("{count} acknowledged shares are not looked for in its log"))
    }

    /// Shares wait although nothing fails.
    fn waits_too_long(&self) -> Option<String> {
        let oldest = self.payees.values().filter_map(|payee| payee.expected.oldest()).min()?;
        let seconds = unix_ms().saturating_sub(oldest) / 1_000;
        (seconds > 2 * MISSING_AFTER.as_secs()).then(|| {
            let size = self.head.map_or(0, |head| head.size);
            format!(
                "a share has waited for its receipt for {seconds} s: the log's head of {size} entries is old, or its answers \
                 come too slowly"
            )
        })
    }

    /// Fetches what there is of a payee, up to the newest head.
    fn ask(&mut self, name: &str, metrics: &Metrics) -> Result<(), Failure> {
        let mut next = match self.payees.get(name).and_then(|payee| payee.next) {
            Some(next) => next,
            None => self.first_contact(name, metrics)?,
        };
        for _ in 0..ANSWERS_MAX {
            let address = format!("{}/receipts?payee={name}&from={next}", self.url);
            let receipts: Receipts = parsed(&fetch::get(&address, RECEIPTS_BYTES_MAX)?)?;
            let head = receipts.head(&self.verifier).map_err(|error| Failure::Answer(error.to_string()))?;
            let whole = head.size <= receipts.next;
            if receipts.next < next || receipts.next > head.size || (receipts.next == next && !whole) {
                return Err(Failure::Answer("it does not go on".to_owned()));
            }
            self.follow(head, &receipts.checkpoint)?;
            if !receipts.receipts.is_empty() {
                // What else was in the answer is not kept.
                let text = serde_json::to_vec(&receipts).expect("numbers, strings and lists");
                self.folder.keep(name, next, receipts.next, &text)?;
            }
            next = receipts.next;
            self.take(name, &receipts, metrics);
            if whole {
                self.say_missing(name, head, metrics);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes an answer that was checked.
    fn take(&mut self, name: &str, receipts: &Receipts, metrics: &Metrics) {
        let payee = self.payees.entry(name.to_owned()).or_default();
        payee.next = Some(receipts.next);
        let (mut kept, mut uncredited) = (0, Vec::new());
        for (rolled, credited) in shares(receipts) {
            if let Some(hash) = payee.expected.found(rolled, credited, unix_ms()) {
                kept += 1;
                uncredited.extend((!credited).then_some(hash));
            }
        }
        metrics.receipts_kept(kept);
        debug!(payee = name, next = receipts.next, kept, "receipts");
        uncredited.into_iter().for_each(|hash| self.say_uncredited(hash));
    }

    fn say_uncredited(&mut self, hash: BlockHash) {
        warn!(%hash, log = self.url, "a share that was acknowledged is in the log without credit");
        self.missing = Some(format!("share {hash} was acknowledged and is in the log without credit"));
    }

    fn say_missing(&mut self, name: &str, head: Head, metrics: &Metrics) {
        let Some(payee) = self.payees.get_mut(name) else { return };
        let NotFound { missing, unwatched } = payee.expected.not_found(self.head_since, unix_ms());
        for hash in &missing {
            error!(%hash, payee = name, log = self.url, entries = head.size, "a share that was acknowledged is not in the pool's log");
        }
        metrics.receipts_missing(missing.len());
        metrics.receipts_unwatched(unwatched);
        self.unwatched += unwatched;
        if let Some(hash) = missing.first() {
            let (count, size) = (missing.len(), head.size);
            self.missing = Some(format!(
                "{count} shares that were acknowledged are not among the {size} entries of the log, {hash} is one"
            ));
        }
    }

    /// Where to begin with a payee that nobody has looked for. Shares from before are not watched: how far back they lie is
    /// not known.
    fn first_contact(&mut self, name: &str, metrics: &Metrics) -> Result<u64, Failure> {
        let asked_at = unix_ms();
        let note = fetch::get(&format!("{}/checkpoint", self.url), PROOF_BYTES_MAX)?;
        let head = self.verifier.head(&note).map_err(|error| Failure::Answer(error.to_string()))?.0;
        let from = head.size.saturating_sub(BACK);
        self.folder.begin(name, from)?;
        if let Some(payee) = self.payees.get_mut(name) {
            payee.next = Some(from);
            metrics.receipts_unwatched(payee.expected.forget_until(asked_at).len());
        }
        info!(payee = name, log = self.url, entries = head.size, "receipts are fetched from here on");
        Ok(from)
    }

    /// A head must go on from the one before.
    fn follow(&mut self, head: Head, note: &str) -> Result<(), Failure> {
        let before = self.head.unwrap_or(head);
        if head.size < before.size {
            return Err(Failure::Answer(format!("an old head of {} entries", head.size)));
        }
        if head != before {
            // One of the same size needs no proof to be another log's.
            let proof = match before.size {
                size if size == head.size => Vec::new(),
                0 => Vec::new(),
                from => self.consistency(from, head.size)?,
            };
            if !head.goes_on_from(&before, &proof) {
                let kept = self.folder.keep_other_head(note)?.display().to_string();
                return Err(Failure::TwoLogs { before: before.size, now: head.size, kept });
            }
        }
        if self.head != Some(head) {
            self.folder.keep_head(note)?;
            (self.head, self.head_since) = (Some(head), unix_ms());
        }
        Ok(())
    }

    fn consistency(&self, from: u64, to: u64) -> Result<Vec<TreeHash>, Failure> {
        let address = format!("{}/consistency?from={from}&to={to}", self.url);
        let proof: Vec<String> = parsed(&fetch::get(&address, PROOF_BYTES_MAX)?)?;
        let hashes = proof.iter().map(|hash| TreeHash::from_hex(hash));
        hashes.collect::<Result<_, _>>().map_err(|error| Failure::Answer(error.to_string()))
    }
}

fn parsed<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(text).map_err(|error| Failure::Answer(error.to_string()))
}

/// The shares of receipts, and whether they earn.
fn shares(receipts: &Receipts) -> impl Iterator<Item = (Rolled, bool)> {
    receipts.receipts.iter().filter_map(|receipt| match Entry::decode(&receipt.entry) {
        Ok((Entry::Share(share), _)) => Some((Rolled::from(&share), share.credited)),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
