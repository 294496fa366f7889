//! Every share hashed again, many side by side.

use super::jobs::{Jobs, start_of_epoch};
use super::lie::Lie;
use super::seen::Seen;
use super::tips::Tips;
use super::{FINDINGS_MAX, Report};
use crate::books::Books;
use crate::entry::{ChainEntry, ChainEvent, EXTRANONCE_ROOM, Share};
use crate::registry::Registry;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Script, ScriptBuf, Txid};
use sha256d::Header;
use std::borrow::Cow;
use std::sync::Arc;
use stratum::extranonce::{EXTRANONCE_BYTES, EXTRANONCE1_BYTES, Extranonce1, Extranonce2};
use stratum::job::{Basis, Filling, Job, JobBody, Roll, TemplateId};
use stratum::payee::PayeeTag;
use stratum::pot::Pot;
use stratum::share::{NTIME_AHEAD_MAX_S, SOLO_AFTER_MAX};

/// Shares that are hashed together.
const TOGETHER: usize = 64;
/// What may lie between the moment when a template is replaced and that when a miner is told, beside the 120 s.
const TELLING_MS: u64 = 10_000;
const CREDITED_MS: u64 = 120_000 + TELLING_MS;
/// The pool measures these two seconds, and its clock can be set meanwhile: when a machine has just started, most of all.
const SOLO_MS: u64 = SOLO_AFTER_MAX.as_millis() as u64 + 60_000; // 2,000

/// Shares on their way through the hashing, and what must be remembered of those behind it.
#[derive(Debug, Default)]
pub(super) struct Shares {
    waiting: Vec<Waiting>,
    fillings: Vec<Filling>,
    roots: Vec<[u8; 32]>,
    headers: Vec<Header>,
    hashes: Vec<[u8; 32]>,
    /// Headers that no other share may have.
    pub(super) seen: Seen,
    /// Tag of each script, by number.
    tags: Vec<PayeeTag>,
    tips: Tips,
    /// Where the newest epoch's templates begin that pay a window, and when the first of them was made, Unix ms.
    solo_ended: Option<(TemplateId, u64)>,
}

#[derive(Debug)]
struct Waiting {
    index: u64,
    job: Job,
    roll: Roll,
    script: u32,
    credited: bool,
    block_candidate: bool,
}

fn roll_of(share: &Share) -> Option<Roll> {
    let extranonce = share.extranonce.as_bytes();
    if !(EXTRANONCE_BYTES..=EXTRANONCE_ROOM).contains(&extranonce.len()) {
        return None;
    }
    let (prefix, rolled) = extranonce.split_at(EXTRANONCE1_BYTES);
    Some(Roll {
        extranonce1: Extranonce1(prefix.try_into().expect("split there")),
        extranonce2: Extranonce2::new(rolled)?,
        ntime: share.ntime,
        nonce: share.nonce,
        version: share.version,
    })
}

fn job_of(body: Arc<JobBody>, tag: PayeeTag, pot: Pot) -> Job {
    Job { body, tag, pot, superseded_at: None }
}

/// An extranonce that no roll has.
const NO_EXTRANONCE: Lie = Lie::Inconsistent(Cow::Borrowed("an extranonce of a size that no job has"));

/// Checks one share by itself, on the job that it names; gives the hash of its header. `scripts` are those that its
/// work may be of instead.
///
/// # Errors
/// What it says that is not so.
pub(super) fn check_alone<'a>(
    share: &Share,
    script: &Script,
    jobs: &mut Jobs,
    scripts: impl Iterator<Item = &'a ScriptBuf>,
) -> Result<BlockHash, Lie> {
    let roll = roll_of(share).ok_or(NO_EXTRANONCE)?;
    let job = job_with(share, PayeeTag::of(script), jobs).ok_or(Lie::UnknownJob(share.job))?;
    let digest = sha256d::sha256d(&job.header(&roll));
    let hash = BlockHash::from_byte_array(digest);
    if !job.pot.target().is_met_by(&digest) {
        let no_work = Lie::NoWork { hash, pot: job.pot };
        return Err(whose_work(&job, &roll, script, scripts).unwrap_or(no_work));
    }
    check_block(job.body.network_target.is_met_by(&digest), share.block_candidate, hash)?;
    Ok(hash)
}

/// That the log calls a share a block if it is one, and else does not.
fn check_block(is_block: bool, said: bool, hash: BlockHash) -> Result<(), Lie> {
    match (is_block, said) {
        (true, false) => Err(Lie::HiddenBlock(hash)),
        (false, true) => Err(Lie::NoBlock(hash)),
        _ => Ok(()),
    }
}

/// The job that a share names, as its payee has it.
fn job_with(share: &Share, tag: PayeeTag, jobs: &mut Jobs) -> Option<Job> {
    let body = jobs.find(share.job, share.extranonce.as_bytes().len())?;
    Some(job_of(body, tag, share.pot))
}

/// The hash of one share's header, as work of the payee with this tag.
pub(super) fn header_hash(share: &Share, tag: PayeeTag, jobs: &mut Jobs) -> Option<BlockHash> {
    let (roll, job) = (roll_of(share)?, job_with(share, tag, jobs)?);
    Some(BlockHash::from_byte_array(sha256d::sha256d(&job.header(&roll))))
}

/// The hashes of one share's header and coinbase.
pub(super) fn hashes(share: &Share, script: &Script, jobs: &mut Jobs) -> Option<(BlockHash, Txid)> {
    let (roll, job) = (roll_of(share)?, job_with(share, PayeeTag::of(script), jobs)?);
    let header = BlockHash::from_byte_array(sha256d::sha256d(&job.header(&roll)));
    Some((header, Txid::from_byte_array(sha256d::sha256d(&job.coinbase(&roll)))))
}

impl Shares {
    /// Takes a share that the books have booked.
    pub fn take(&mut self, index: u64, share: &Share, jobs: &mut Jobs, books: &Books, report: &mut Report) {
        let registry = &books.registry;
        let Some(roll) = roll_of(share) else {
            return report.found(index, NO_EXTRANONCE);
        };
        let Some(body) = jobs.find(share.job, share.extranonce.as_bytes().len()) else {
            if share.credited {
                report.found(index, Lie::UnknownJob(share.job));
            } else {
                report.not_hashed += 1;
            }
            return;
        };
        jobs.received(body.template, share.received_unix_ms);
        let late = jobs.superseded_at(&body).map_or(0, |at| share.received_unix_ms.saturating_sub(at));
        if share.credited {
            if late > CREDITED_MS {
                report.found(index, Lie::TooOld { seconds: late / 1_000 });
            }
            let stale_credit_ms = books.params.as_ref().map_or(0, |params| params.stale_credit_ms.into());
            if let Err(lie) = self.check_credit(share, &body, stale_credit_ms) {
                report.found(index, lie);
            }
        }
        report.credited += u64::from(share.credited);
        let script = registry.script_number(share.payee).expect("the books have booked it");
        let job = job_of(body, self.tag(script, registry), share.pot);
        let Share { credited, block_candidate, .. } = *share;
        self.waiting.push(Waiting { index, job, roll, script, credited, block_candidate });
        if self.waiting.len() >= TOGETHER {
            self.hash(registry, report);
        }
    }

    /// That a share with credit is none that a pool refuses, whatever its hash.
    fn check_credit(&self, share: &Share, body: &JobBody, stale_credit_ms: u64) -> Result<(), Lie> {
        let received = share.received_unix_ms;
        if let Some(ms) = self.tips.stale_for(body.prev_hash, received, stale_credit_ms) {
            return Err(Lie::Stale { ms });
        }
        let latest = (received / 1_000).saturating_add(NTIME_AHEAD_MAX_S.into());
        if share.ntime < body.ntime_min || u64::from(share.ntime) > latest {
            return Err(Lie::Time(share.ntime));
        }
        let is_solo = matches!(body.payout.basis, Basis::Solo { .. });
        let of_epoch = |(epoch, _): &(TemplateId, u64)| is_solo && *epoch == start_of_epoch(body.template);
        let since = self.solo_ended.filter(of_epoch).map_or(0, |(_, ended)| received.saturating_sub(ended));
        if since > SOLO_MS { Err(Lie::SoloEnded { seconds: since / 1_000 }) } else { Ok(()) }
    }

    /// There is a job that pays a window. When its template was made, Unix ms, is not always known.
    pub fn end_solo(&mut self, template: TemplateId, made_at: Option<u64>) {
        let (epoch, known) = (start_of_epoch(template), self.solo_ended);
        if let Some(at) =
            made_at.filter(|at| known.is_none_or(|(before, ended)| before < epoch || *at < ended))
        {
            self.solo_ended = Some((epoch, at));
        }
    }

    /// Takes from an event what concerns shares.
    pub fn note(&mut self, chain: &ChainEntry) {
        if let ChainEvent::NewTip(hash) = chain.event {
            self.tips.new_tip(hash, chain.unix_ms);
        }
    }

    fn tag(&mut self, script: u32, registry: &Registry) -> PayeeTag {
        let at = script as usize; // u32 fits usize
        while self.tags.len() <= at {
            // Script numbers are given in order, and what stands behind one never changes.
            self.tags.push(PayeeTag::of(registry.script(self.tags.len() as u32))); // below `script`
        }
        self.tags[at]
    }

    /// Hashes what waits.
    pub fn hash(&mut self, registry: &Registry, report: &mut Report) {
        let waiting = std::mem::take(&mut self.waiting);
        let Self { fillings, roots, headers, hashes, .. } = self;
        fillings.clear();
        let filling = |one: &Waiting| one.job.filling(one.roll.extranonce1, &one.roll.extranonce2);
        fillings.extend(waiting.iter().map(filling));
        roots.resize(waiting.len(), [0; 32]);
        sha256d::merkle_roots(waiting.len(), |at| waiting[at].job.leaf(&fillings[at]), roots);
        headers.clear();
        let header = |(one, root): (&Waiting, &[u8; 32])| Header {
            bytes: one.job.header_over(root, &one.roll),
            midstate: None,
        };
        headers.extend(waiting.iter().zip(roots.iter()).map(header));
        hashes.resize(waiting.len(), [0; 32]);
        sha256d::header_hashes(headers, hashes);
        report.shares += waiting.len() as u64; // at most 64
        for (at, one) in waiting.iter().enumerate() {
            self.judge(one, self.hashes[at], registry, report);
        }
        self.waiting = waiting;
        self.waiting.clear();
    }

    fn judge(&mut self, share: &Waiting, digest: [u8; 32], registry: &Registry, report: &mut Report) {
        let (index, job) = (share.index, &share.job);
        let hash = BlockHash::from_byte_array(digest);
        if !job.pot.target().is_met_by(&digest) {
            // Among very many the reason of each does not matter, and to look for it takes long.
            let reason = (report.findings_total < FINDINGS_MAX as u64).then(|| {
                let scripts = (0..registry.scripts()).map(|number| registry.script(number));
                whose_work(job, &share.roll, registry.script(share.script), scripts)
            });
            return report.found(index, reason.flatten().unwrap_or(Lie::NoWork { hash, pot: job.pot }));
        }
        let is_block = job.body.network_target.is_met_by(&digest);
        if is_block {
            report.blocks.insert(index, hash);
            report.built_on.insert(index, job.body.prev_hash);
        }
        if self.seen.has_forgotten(&job.body.prev_hash) {
            // Whether it is there twice cannot be told; without credit it does not matter.
            if share.credited {
                report.found(index, Lie::LongGone(job.body.prev_hash));
            }
            return;
        }
        if let Some(first) = self.seen.note(job.body.prev_hash, digest, index) {
            return report.found(index, Lie::Twice(first));
        }
        report.statistics.note(share.script, &digest, job.pot, job.body.network_target, share.credited);
        if let Err(lie) = check_block(is_block, share.block_candidate, hash) {
            report.found(index, lie);
        }
    }
}

/// Easier targets are met by chance too often to say what a share was mined for.
const TELLING_POT_MIN: i8 = -20;

/// Whether the work is another payee's, or was meant to be easier or harder: then it was booked wrongly. If both could
/// be, the one that chance explains least.
fn whose_work<'a>(
    booked: &Job,
    roll: &Roll,
    booked_script: &Script,
    scripts: impl Iterator<Item = &'a ScriptBuf>,
) -> Option<Lie> {
    let meets = |job: &Job| job.pot.target().is_met_by(&sha256d::sha256d(&job.header(roll)));
    let hardest_first = (TELLING_POT_MIN..=Pot::MAX.get()).rev().filter_map(|pot| Pot::try_from(pot).ok());
    let mut other_pots = hardest_first.filter(|pot| *pot != booked.pot);
    let mined = other_pots.find(|pot| meets(&Job { pot: *pot, ..booked.clone() }));
    if let Some(mined) = mined.filter(|mined| *mined > booked.pot) {
        return Some(Lie::OtherPot { booked: booked.pot, mined });
    }
    let mut others = scripts.filter(|script| script.as_script() != booked_script);
    match others.find(|script| meets(&Job { tag: PayeeTag::of(script), ..booked.clone() })) {
        Some(worked) => {
            Some(Lie::OtherPayee { booked: booked_script.to_owned(), worked: ScriptBuf::clone(worked) })
        }
        None => mined.map(|mined| Lie::OtherPot { booked: booked.pot, mined }),
    }
}
