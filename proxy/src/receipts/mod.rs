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

use self::expected::Expected;
use self::folder::Folder;
use crate::forward::ACCOUNTS_MAX;
use crate::health::Health;
use crate::metrics::Metrics;
use bitcoin::hex::FromHex;
use share_accounting::entry::Entry;
use share_accounting::publish::Head;
use share_accounting::publish::journal::{Fate, Line, Rolled};
use share_accounting::publish::key::LogVerifier;
use share_accounting::publish::receipt::Receipts;
use share_accounting::tree::TreeHash;
use std::collections::BTreeMap;
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
/// Before the first contact nobody has looked; shares from longer before it are not watched.
const BEFORE_CONTACT_MS: u64 = 60_000;
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
    logs: BTreeMap<usize, Log>,
    accepted: Receiver<(usize, Line)>,
    /// How often they are asked, while shares wait for their receipts.
    every: Duration,
    metrics: Metrics,
    health: Arc<Health>,
}

/// A log that is asked.
struct Log {
    url: String,
    verifier: LogVerifier,
    folder: Folder,
    payees: BTreeMap<String, Payee>,
    head: Option<Head>,
    /// It is not asked any more: it is none.
    is_false: bool,
    /// The last share that should be in the log and is not. Nobody takes that back.
    missing: Option<String>,
    /// Why there are no receipts at the moment.
    trouble: Option<String>,
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
    let keeper = Keeper { logs, accepted, every, metrics, health };
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

/// The address in a user's name: what stands before the first dot. It becomes part of file names, so nothing else passes.
fn payee_of(user: &str) -> Option<&str> {
    let payee = user.split('.').next().unwrap_or(user);
    let is_address = (1..=ADDRESS_BYTES_MAX).contains(&payee.len())
        && payee.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_address.then_some(payee)
}

impl Keeper {
    fn run(mut self) {
        let mut next = Instant::now() + self.every;
        loop {
            match self.accepted.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok((upstream, line)) => {
                    let log = self.logs.get_mut(&upstream).expect("others are not handed on");
                    if !log.expect(&line) {
                        self.metrics.receipts_unwatched(1);
                    }
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            for (upstream, log) in &mut self.logs {
                log.round(&self.metrics);
                self.health.receipts(
                    *upstream,
                    [&log.missing, &log.trouble].into_iter().flatten().cloned().collect(),
                );
            }
            let expected = self.logs.values().map(Log::expected).sum::<usize>();
            self.metrics.receipts_expected(expected);
            next = Instant::now() + self.every;
        }
    }
}

impl Log {
    fn open(folder: PathBuf, LogAddress { url, key }: LogAddress) -> anyhow::Result<Self> {
        let verifier = LogVerifier::parse(&key)?;
        let lines = crate::journal::lines_since(&folder, unix_ms().saturating_sub(DAY_MS));
        let folder = Folder::open(folder.join("receipts"))?;
        let head = folder.head(&verifier)?;
        let mut payees = BTreeMap::<String, Payee>::new();
        for (payee, next) in folder.seen()? {
            payees.insert(payee, Payee { next: Some(next), expected: Expected::default() });
        }
        let url = url.trim_end_matches('/').to_owned();
        let (missing, trouble) = (None, None);
        let mut log = Self { url, verifier, folder, payees, head, is_false: false, missing, trouble };
        // Shares of the run before, of payees for whom somebody has looked.
        for line in lines.unwrap_or_default() {
            let payee = payee_of(&line.user).filter(|payee| log.payees.contains_key(*payee));
            if line.fate == Fate::Accepted && payee.is_some() {
                log.expect(&line);
            }
        }
        log.forget_kept()?;
        Ok(log)
    }

    /// What is kept already is not waited for.
    fn forget_kept(&mut self) -> io::Result<()> {
        for (payee, receipts) in self.folder.newest(unix_ms().saturating_sub(DAY_MS))? {
            if let Some(payee) = self.payees.get_mut(&payee) {
                for (rolled, _) in shares(&receipts) {
                    payee.expected.found(&rolled);
                }
            }
        }
        Ok(())
    }

    /// Whether the share is watched.
    fn expect(&mut self, line: &Line) -> bool {
        let (Some(payee), Some(rolled)) = (payee_of(&line.user), line.rolled) else { return false };
        if self.is_false || (self.payees.len() >= ACCOUNTS_MAX && !self.payees.contains_key(payee)) {
            return false;
        }
        self.payees.entry(payee.to_owned()).or_default().expected.accepted(rolled, line.hash, line.at)
    }

    fn expected(&self) -> usize {
        self.payees.values().map(|payee| payee.expected.len()).sum()
    }

    /// Asks for all payees whose shares wait.
    fn round(&mut self, metrics: &Metrics) {
        let waiting = self.payees.iter().filter(|(_, payee)| !payee.expected.is_empty());
        let waiting: Vec<_> = waiting.map(|(name, _)| name.clone()).collect();
        if self.is_false || waiting.is_empty() {
            return;
        }
        let asked = waiting.iter().try_for_each(|payee| self.ask(payee, metrics));
        if let Err(failure @ Failure::TwoLogs { .. }) = &asked {
            error!(log = self.url, %failure, "the pool's log is a lie");
            self.is_false = true;
            self.payees.clear();
        }
        let trouble = asked.err().map(|failure| format!("no receipts from {}: {failure}", self.url));
        if let Some(reason) = trouble.as_ref().filter(|_| self.trouble.is_none()) {
            warn!(reason, "no receipts at the moment");
        }
        self.trouble = trouble;
        self.folder.prune();
    }

    /// Fetches what there is of a payee, up to the newest head.
    fn ask(&mut self, name: &str, metrics: &Metrics) -> Result<(), Failure> {
        let asked_at = unix_ms();
        let mut next = match self.payees.get(name).and_then(|payee| payee.next) {
            Some(next) => next,
            None => self.first_contact(name, asked_at, metrics)?,
        };
        for _ in 0..ANSWERS_MAX {
            let address = format!("{}/receipts?payee={name}&from={next}", self.url);
            let text = fetch::get(&address, RECEIPTS_BYTES_MAX)?;
            let receipts: Receipts = parsed(&text)?;
            let head = receipts.head(&self.verifier).map_err(|error| Failure::Answer(error.to_string()))?;
            let whole = head.size <= receipts.next;
            if receipts.next < next || receipts.next > head.size || (receipts.next == next && !whole) {
                return Err(Failure::Answer("it does not go on".to_owned()));
            }
            self.follow(head, &receipts.checkpoint)?;
            if !receipts.receipts.is_empty() {
                self.folder.keep(name, next, receipts.next, &text)?;
            }
            next = receipts.next;
            let payee = self.payees.entry(name.to_owned()).or_default();
            payee.next = Some(next);
            let mut kept = 0;
            for (rolled, credited) in shares(&receipts) {
                let Some(hash) = payee.expected.found(&rolled) else { continue };
                kept += 1;
                if !credited {
                    warn!(%hash, log = self.url, "a share that was acknowledged is in the log without credit");
                    self.missing =
                        Some(format!("share {hash} was acknowledged and is in the log without credit"));
                }
            }
            metrics.receipts_kept(kept);
            debug!(payee = name, next, kept, "receipts");
            if whole {
                self.say_missing(name, asked_at, head, metrics);
                return Ok(());
            }
        }
        Ok(())
    }

    fn say_missing(&mut self, name: &str, asked_at: u64, head: Head, metrics: &Metrics) {
        let Some(payee) = self.payees.get_mut(name) else { return };
        let missing = payee.expected.missing(asked_at);
        for hash in &missing {
            error!(%hash, payee = name, log = self.url, entries = head.size, "a share that was acknowledged is not in the pool's log");
        }
        metrics.receipts_missing(missing.len());
        if let Some(hash) = missing.first() {
            let (count, size) = (missing.len(), head.size);
            self.missing = Some(format!(
                "{count} shares that were acknowledged are not among the {size} entries of the log, {hash} is one"
            ));
        }
    }

    /// Where to begin with a payee that nobody has looked for.
    fn first_contact(&mut self, name: &str, asked_at: u64, metrics: &Metrics) -> Result<u64, Failure> {
        let note = fetch::get(&format!("{}/checkpoint", self.url), PROOF_BYTES_MAX)?;
        let head = self.verifier.head(&note).map_err(|error| Failure::Answer(error.to_string()))?.0;
        let before = asked_at.saturating_sub(BEFORE_CONTACT_MS);
        if let Some(payee) = self.payees.get_mut(name) {
            metrics.receipts_unwatched(payee.expected.forget_before(before).len());
        }
        info!(payee = name, log = self.url, entries = head.size, "receipts are fetched from here on");
        Ok(head.size.saturating_sub(BACK))
    }

    /// A head must go on from the one before.
    fn follow(&mut self, head: Head, note: &str) -> Result<(), Failure> {
        let before = self.head.unwrap_or(head);
        if head.size < before.size {
            return Err(Failure::Answer(format!("an old head of {} entries", head.size)));
        }
        if head != before {
            let proof = match before.size {
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
            self.head = Some(head);
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
