//! The jobs that shares may refer to, as something that can be hashed.

use super::lie::Lie;
use crate::entry::{ChainEntry, ChainEvent, JobEntry, PlanEntry};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, ScriptBuf, Transaction, consensus};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use stratum::extranonce::EXTRANONCE_BYTES;
use stratum::hasher::SecretState;
use stratum::job::{Basis, Coinbase, JobBody, Payout, TemplateId, Transactions};
use stratum::target::Target;

/// How long a job is kept after it was superseded: no honest share is credited so late, by far.
const KEPT_MS: u64 = 3_600_000;
/// A template's number has the epoch in front of that many bits, which count up.
pub(super) const TEMPLATE_BITS: u32 = 48;
/// Newer templates that are looked at: between two with shares there are seldom many without.
const NEWER_MAX: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Jobs {
    by_index: HashMap<u64, Job, SecretState>,
    templates: BTreeMap<TemplateId, Template>,
    /// Templates that are not replaced yet.
    open: BTreeSet<TemplateId>,
    /// Those that are, with the time, in the order in which the log says so.
    replaced: VecDeque<(u64, TemplateId)>,
}

/// What the jobs of all size classes come from.
#[derive(Debug, Default)]
struct Template {
    /// Their entries.
    jobs: Vec<u64>,
    /// When the first share on it was received, Unix ms.
    received: Option<u64>,
    /// When it was replaced, Unix ms.
    superseded: Option<u64>,
}

#[derive(Debug)]
struct Job {
    body: Arc<JobBody>,
    /// Where its coinbase's script ends.
    script_end: usize,
    /// The same with a longer gap for the extranonce, if a share fills one.
    longer: BTreeMap<usize, Arc<JobBody>>,
}

/// The coinbase of a job, and where its script ends.
///
/// # Errors
/// It is no coinbase of ours.
pub(super) fn coinbase(job: &JobEntry) -> Result<(Transaction, usize), Lie> {
    let coinbase: Transaction = consensus::deserialize(job.coinbase.bytes())
        .map_err(|_| Lie::Job("its coinbase is no transaction"))?;
    let bytes_max = job.class.coinbase_bytes_max();
    if job.coinbase.bytes().len() > bytes_max || job.out_bytes as usize > bytes_max {
        return Err(Lie::Job("its coinbase, or the room that it claims, is larger than its size class"));
    }
    let [input] = &coinbase.input[..] else { return Err(Lie::Job("its coinbase has not one input")) };
    // Consensus allows a script of 100 bytes, so its length has one byte.
    let script_start = 4 + 1 + 36 + 1;
    let script = script_start..script_start + input.script_sig.len();
    let gap = job.coinbase.tag_offset()..job.coinbase.extranonce_offset() + EXTRANONCE_BYTES;
    let inside = script.start <= gap.start && gap.end <= script.end && script.len() <= 100;
    if !input.previous_output.is_null() || !inside {
        return Err(Lie::Job("tag, difficulty and extranonce do not lie in its coinbase's script"));
    }
    Ok((coinbase, script.end))
}

impl Jobs {
    pub fn add(&mut self, index: u64, entry: &JobEntry) -> Result<(), Lie> {
        let (_, script_end) = coinbase(entry)?;
        let network_target = Target::from_nbits(entry.nbits).map_err(|_| Lie::Job("its target is none"))?;
        let body = JobBody {
            template: entry.template,
            height: entry.height,
            version: entry.version,
            prev_hash: entry.prev_hash,
            nbits: entry.nbits,
            network_target,
            hardest_share: network_target,
            ntime_min: entry.ntime_min,
            ntime: entry.ntime_min,
            coinbase: entry.coinbase.clone(),
            merkle_branch: entry.merkle_branch.clone(),
            class: entry.class,
            out_bytes: entry.out_bytes,
            payout: Arc::new(Payout { outputs: Vec::new(), basis: basis(&entry.plan) }),
            transactions: Transactions::default(),
        };
        self.by_index.insert(index, Job { body: Arc::new(body), script_end, longer: BTreeMap::new() });
        let template = self.templates.entry(entry.template).or_default();
        template.jobs.push(index);
        if template.superseded.is_none() {
            self.open.insert(entry.template);
            // Work that came late may be older than what was worked on before.
            let newer =
                self.templates.range(entry.template..end_of_epoch(entry.template)).skip(1).take(NEWER_MAX);
            let replaced = newer.filter_map(|(_, newer)| newer.received).next();
            replaced.into_iter().for_each(|at| self.supersede(entry.template, at));
        }
        Ok(())
    }

    /// The job of an index, with room for so many bytes of extranonce.
    pub fn find(&mut self, index: u64, extranonce_bytes: usize) -> Option<Arc<JobBody>> {
        let job = self.by_index.get_mut(&index)?;
        if extranonce_bytes == EXTRANONCE_BYTES {
            return Some(job.body.clone());
        }
        let Job { body, script_end, longer } = job;
        let coinbase = &body.coinbase;
        if extranonce_bytes < EXTRANONCE_BYTES
            || coinbase.extranonce_offset() + extranonce_bytes > *script_end
        {
            return None;
        }
        let same = || {
            let (bytes, tag_offset) = (coinbase.bytes().clone(), coinbase.tag_offset());
            let coinbase = Coinbase::with_gap_for(bytes, tag_offset, extranonce_bytes);
            Arc::new(JobBody { coinbase, ..JobBody::clone(body) })
        };
        Some(longer.entry(extranonce_bytes).or_insert_with(same).clone())
    }

    /// Whether a header hash meets the network target of a job.
    pub fn is_solved_by(&self, index: u64, hash: BlockHash) -> bool {
        let job = self.by_index.get(&index);
        job.is_some_and(|job| job.body.network_target.is_met_by(hash.as_byte_array()))
    }

    /// Takes from an event what concerns jobs.
    pub fn note(&mut self, chain: &ChainEntry) {
        match chain.event {
            ChainEvent::Superseded(template) => self.supersede(template, chain.unix_ms),
            // Work of a process before cannot come back.
            ChainEvent::EpochStart { .. } => {
                self.supersede_all(TemplateId(0)..TemplateId(u64::MAX), chain.unix_ms)
            }
            _ => {}
        }
    }

    /// A share on a template was received: those before it in its epoch were replaced by then, whether or not the log
    /// notes that.
    pub fn received(&mut self, template: TemplateId, unix_ms: u64) {
        if let Some(known) = self.templates.get_mut(&template) {
            known.received.get_or_insert(unix_ms);
        }
        self.supersede_all(start_of_epoch(template)..template, unix_ms);
    }

    fn supersede_all(&mut self, templates: Range<TemplateId>, unix_ms: u64) {
        while let Some(template) = self.open.range(templates.clone()).next().copied() {
            self.supersede(template, unix_ms);
        }
    }

    fn supersede(&mut self, template: TemplateId, unix_ms: u64) {
        self.open.remove(&template);
        let known = self.templates.entry(template).or_default();
        if known.superseded.is_none() {
            known.superseded = Some(unix_ms);
            self.replaced.push_back((unix_ms, template));
        }
        while let Some((_, old)) =
            self.replaced.front().filter(|(at, _)| at.saturating_add(KEPT_MS) < unix_ms)
        {
            for job in self.templates.remove(old).unwrap_or_default().jobs {
                self.by_index.remove(&job);
            }
            self.replaced.pop_front();
        }
    }

    /// When the job's template was replaced, Unix ms.
    pub fn superseded_at(&self, body: &JobBody) -> Option<u64> {
        self.templates.get(&body.template)?.superseded
    }
}

pub(super) fn start_of_epoch(template: TemplateId) -> TemplateId {
    TemplateId(template.0 >> TEMPLATE_BITS << TEMPLATE_BITS)
}

/// Template numbers are not used up.
fn end_of_epoch(template: TemplateId) -> TemplateId {
    TemplateId(template.0 | ((1 << TEMPLATE_BITS) - 1))
}

fn basis(plan: &PlanEntry) -> Basis {
    match plan {
        PlanEntry::Solo { script, log_size } => {
            Basis::Solo { script: ScriptBuf::clone(script), log_size: log_size.unwrap_or(0) }
        }
        PlanEntry::Window { log_size, ledger_block } => {
            Basis::Window { log_size: *log_size, ledger_block: *ledger_block, credit_delta: Vec::new() }
        }
    }
}
