//! Receipts for the shares that a Sluice pool has acknowledged: fetched from its log, checked and kept, without anybody
//! asking. Who is missing one is told.
//!
//! - [`expected`]: what is waited for, pure; [`witnessed`]: whether others see the same log, pure; `folder`: what is kept
//! - `keeper`: the thread that asks
//! - this module: what is asked of one log
//!
//! A share is found by the hash of its header, which is computed again from its entry and that of its job: so the log holds,
//! under a signed head, the very work that was done for this payee, and the job with all that it commits to. What the log
//! makes of that is for `sluice-verify published --receipts … --journal …`, which has the whole log.

pub mod expected;
mod folder;
mod keeper;
pub mod witnessed;

pub use keeper::start;

use self::expected::{Expected, MISSING_AFTER, NotFound, Taken};
use self::folder::{Folder, Seen};
use self::witnessed::{Witnessed, Witnesses};
use crate::forward::ACCOUNTS_MAX;
use crate::metrics::Metrics;
use bitcoin::address::NetworkUnchecked;
use bitcoin::hex::FromHex;
use bitcoin::{Address, BlockHash, ScriptBuf};
use share_accounting::publish::Head;
use share_accounting::publish::journal::{Fate, Line};
use share_accounting::publish::key::LogVerifier;
use share_accounting::publish::receipt::Receipts;
use share_accounting::tree::TreeHash;
use share_accounting::verify::receipted::{self, Receipted};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use stratum_net::clock::unix_ms;
use stratum_net::fetch;
use tracing::{debug, error, info, warn};

/// Answers that are asked for one payee in a row: a million entries of the log.
const ANSWERS_MAX: usize = 64;
/// Heads that are remembered, with the times when they were asked for: a payee that is new begins at the last one before
/// its first share.
const CONTACTS_MAX: usize = 4;
/// Entries before the head of a [`Contact`] that are looked through as well, for shares that were signed while their
/// acknowledgement was on its way: half a minute of the most that pools steer to.
const UNDERWAY_ENTRIES: u64 = 16_384;
/// How far back the journal is read at a start.
const DAY_MS: u64 = 86_400_000;
/// The longest addresses have 90 characters (BIP 173).
const ADDRESS_BYTES_MAX: usize = 90;
/// Longest answer with receipts, and longest proof or checkpoint, in bytes.
const RECEIPTS_BYTES_MAX: usize = 8 << 20;
const PROOF_BYTES_MAX: usize = 64 << 10;

/// Where a pool publishes its log, who signs it, and who is trusted to see the same.
#[derive(Debug, Clone)]
pub struct LogAddress {
    /// As in `http://HOST:PORT/log`.
    pub url: String,
    /// The public key that signs it, as the pool gives it out.
    pub key: String,
    /// Who cosigns it.
    pub witnesses: Witnesses,
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

/// A log that is asked.
struct Log {
    url: String,
    verifier: LogVerifier,
    folder: Folder,
    payees: BTreeMap<String, Payee>,
    head: Option<Head>,
    /// When that was first seen, Unix milliseconds.
    head_since: u64,
    witnessed: Witnessed,
    /// The newest questions for a head, oldest first.
    contacts: VecDeque<Contact>,
    /// Who is asked for first in the next round.
    first: String,
    /// It did not answer when it was asked last.
    is_silent: bool,
    /// It is not asked any more: it is none.
    is_false: bool,
    /// The last share that should be in the log and is not. Nobody takes that back.
    missing: Option<String>,
    /// Why there are no receipts at the moment.
    trouble: Option<String>,
    /// Why it may be a log that nobody else is shown.
    alarm: Option<String>,
    /// Shares that nobody looks for, for there are too many.
    unwatched: usize,
}

/// A head, as large as it was at a time.
#[derive(Debug, Clone, Copy)]
struct Contact {
    /// When it was asked for, Unix milliseconds; shares that were acknowledged later are behind its entries, but for those
    /// that were signed while answer and acknowledgement were on their way.
    at: u64,
    entries: u64,
}

/// A payee of a log.
#[derive(Debug)]
struct Payee {
    /// What its shares pay.
    script: ScriptBuf,
    /// Entries before this one have been looked through; nobody has looked yet.
    next: Option<u64>,
    expected: Expected,
}

/// The address in a user's name, which ends as pools read it, and its script. It becomes part of file names, so nothing
/// else passes.
pub fn payee_of(user: &str) -> Option<(&str, ScriptBuf)> {
    let payee = user.split(['.', '_', '/']).next().unwrap_or(user);
    let is_plain = payee.len() <= ADDRESS_BYTES_MAX && payee.bytes().all(|byte| byte.is_ascii_alphanumeric());
    // Which network it is of is the pool's concern.
    let address = payee.parse::<Address<NetworkUnchecked>>().ok().filter(|_| is_plain)?;
    Some((payee, address.assume_checked().script_pubkey()))
}

impl Log {
    fn open(folder: PathBuf, LogAddress { url, key, witnesses }: LogAddress) -> anyhow::Result<Self> {
        let verifier = LogVerifier::parse(&key)?;
        let day_ago = unix_ms().saturating_sub(DAY_MS);
        let lines = crate::journal::lines_since(&folder, day_ago).unwrap_or_default();
        let folder = Folder::open(folder.join("receipts"))?;
        let head = folder.head(&verifier)?;
        let seen = folder.seen()?;
        let payee = |(name, seen): (&String, &Seen)| {
            let (_, script) = payee_of(name)?;
            Some((name.clone(), Payee { script, next: Some(seen.next), expected: Expected::default() }))
        };
        let payees = seen.iter().filter_map(payee).collect();
        let mut log = Self {
            url: url.trim_end_matches('/').to_owned(),
            verifier,
            folder,
            payees,
            head,
            head_since: unix_ms(),
            witnessed: Witnessed::by(witnesses),
            contacts: VecDeque::new(),
            first: String::new(),
            is_silent: false,
            is_false: false,
            missing: None,
            trouble: None,
            alarm: None,
            unwatched: 0,
        };
        // Shares of the run before, of payees for whom somebody has looked then.
        for line in lines.into_iter().filter(|line| line.fate == Fate::Accepted) {
            let seen = payee_of(&line.user).and_then(|(payee, _)| seen.get(payee));
            if seen.is_some_and(|seen| line.at > seen.since) {
                log.expect(&line);
            }
        }
        // What is kept already is not waited for.
        let Self { folder, payees, .. } = &mut log;
        folder.each_since(day_ago, |payee, receipts| {
            if let Some(payee) = payees.get_mut(payee) {
                for Receipted { share, hash } in receipted::shares(receipts, &payee.script) {
                    if let Some(hash) = hash {
                        payee.expected.found(hash, share.credited, unix_ms());
                    }
                }
            }
        })?;
        Ok(log)
    }

    /// The pool has acknowledged a share.
    fn expect(&mut self, line: &Line) -> Taken {
        let known = payee_of(&line.user).filter(|(payee, _)| {
            !self.is_false && (self.payees.len() < ACCOUNTS_MAX || self.payees.contains_key(*payee))
        });
        let taken = known.map_or(Taken::Unwatched, |(payee, script)| {
            let new = || Payee { script, next: None, expected: Expected::default() };
            let payee = self.payees.entry(payee.to_owned()).or_insert_with(new);
            payee.expected.accepted(line.hash, line.at)
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

    /// For how long what it has signed waits to be cosigned.
    fn uncosigned(&self) -> Duration {
        self.witnessed.waits(unix_ms())
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
            None => self.begin(name, metrics)?,
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
            let Some(payee) = self.payees.get(name) else { return Ok(()) };
            let shares = receipted::shares(&receipts, &payee.script);
            if shares.iter().any(|share| share.hash.is_none()) {
                return Err(Failure::Answer(
                    "a share is there without the job that it was hashed on".to_owned(),
                ));
            }
            if !receipts.receipts.is_empty() {
                // What else was in the answer is not kept.
                let text = serde_json::to_vec(&receipts).expect("numbers, strings and lists");
                self.folder.keep(name, next, receipts.next, &text)?;
            }
            next = receipts.next;
            self.take(name, next, &shares, metrics);
            if whole {
                self.say_missing(name, head, metrics);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes the shares of an answer that was checked; entries before `next` have been looked through.
    fn take(&mut self, name: &str, next: u64, shares: &[Receipted], metrics: &Metrics) {
        let Some(payee) = self.payees.get_mut(name) else { return };
        payee.next = Some(next);
        let (mut kept, mut uncredited) = (0, Vec::new());
        for Receipted { share, hash } in shares {
            let hash = hash.filter(|hash| payee.expected.found(*hash, share.credited, unix_ms()));
            kept += usize::from(hash.is_some());
            uncredited.extend(hash.filter(|_| !share.credited));
        }
        metrics.receipts_kept(kept);
        debug!(payee = name, next, kept, "receipts");
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

    /// Asks for the newest head.
    fn contact(&mut self) -> Result<(), Failure> {
        let at = unix_ms();
        let note = fetch::get(&format!("{}/checkpoint", self.url), PROOF_BYTES_MAX).inspect_err(|_| {
            self.is_silent = true;
        })?;
        let head = self.verifier.head(&note).map_err(|error| Failure::Answer(error.to_string()))?.0;
        self.follow(head, &String::from_utf8_lossy(&note))?;
        let before = self.contacts.back().map_or(at, |contact| contact.at);
        if std::mem::take(&mut self.is_silent) {
            self.witnessed.excuse(at.saturating_sub(before));
        }
        self.contacts.push_back(Contact { at, entries: head.size });
        if self.contacts.len() > CONTACTS_MAX {
            self.contacts.pop_front();
        }
        Ok(())
    }

    /// Asks what witnesses have cosigned.
    fn ask_witnesses(&mut self) -> Result<(), Failure> {
        if !self.witnessed.is_wanted() {
            return Ok(());
        }
        match self.cosigned() {
            Ok(head) => self.witnessed.cosigned(head.size),
            Err(failure @ Failure::TwoLogs { .. }) => return Err(failure),
            Err(failure) => self.witnessed.failed(failure.to_string()),
        }
        if let Some(head) = self.head {
            self.witnessed.signed(head.size, unix_ms());
        }
        Ok(())
    }

    /// The newest head that enough of them have cosigned: of the same log.
    fn cosigned(&mut self) -> Result<Head, Failure> {
        let note = fetch::get(&format!("{}/cosigned", self.url), PROOF_BYTES_MAX)?;
        let head = self.verifier.head(&note).map_err(|error| Failure::Answer(error.to_string()))?.0;
        let count = self.witnessed.count(&note);
        if !self.witnessed.is_enough(count) {
            return Err(Failure::Answer(format!("{count} of the witnesses have cosigned its head")));
        }
        let note = String::from_utf8_lossy(&note);
        match self.head {
            Some(newest) if head.size <= newest.size => self.goes_on(head, newest, &note)?,
            _ => self.follow(head, &note)?,
        }
        Ok(head)
    }

    /// Where to begin with a payee that nobody has looked for: behind it are all its shares since then. Older ones are not
    /// watched, for how far back they lie is not known.
    fn begin(&mut self, name: &str, metrics: &Metrics) -> Result<u64, Failure> {
        let payee = self.payees.get_mut(name).expect("it is asked for");
        let first = payee.expected.oldest().unwrap_or(u64::MAX);
        let before = self.contacts.iter().rev().find(|contact| contact.at < first);
        let Contact { at, entries } = *before.or(self.contacts.front()).expect("each round begins with one");
        let entries = entries.saturating_sub(UNDERWAY_ENTRIES);
        self.folder.begin(name, Seen { next: entries, since: at })?;
        payee.next = Some(entries);
        let older = payee.expected.forget_until(at).len();
        metrics.receipts_unwatched(older);
        self.unwatched += older;
        info!(payee = name, log = self.url, entries, "receipts are fetched from here on");
        Ok(entries)
    }

    /// A head must go on from the one before.
    fn follow(&mut self, head: Head, note: &str) -> Result<(), Failure> {
        let before = self.head.unwrap_or(head);
        if head.size < before.size {
            return Err(Failure::Answer(format!("an old head of {} entries", head.size)));
        }
        self.goes_on(before, head, note)?;
        if self.head != Some(head) {
            self.folder.keep_head(note)?;
            (self.head, self.head_since) = (Some(head), unix_ms());
        }
        Ok(())
    }

    /// Whether a log goes on from a head to another one. If it does not, the note of the one that was not known before is
    /// kept.
    fn goes_on(&self, before: Head, now: Head, note: &str) -> Result<(), Failure> {
        if now == before {
            return Ok(());
        }
        // One of the same size needs no proof to be another log's.
        let proof = match before.size {
            size if size == now.size => Vec::new(),
            0 => Vec::new(),
            from => self.consistency(from, now.size)?,
        };
        if !now.goes_on_from(&before, &proof) {
            let kept = self.folder.keep_other_head(note)?.display().to_string();
            return Err(Failure::TwoLogs { before: before.size, now: now.size, kept });
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

#[cfg(test)]
mod tests;
