//! The jobs that shares may refer to, as something that can be hashed.

use super::lie::Lie;
use crate::entry::{ChainEntry, ChainEvent, JobEntry, PlanEntry};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, ScriptBuf, Transaction, consensus};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use stratum::extranonce::EXTRANONCE_BYTES;
use stratum::job::{Basis, Coinbase, JobBody, Payout, TemplateId, Transactions};
use stratum::target::Target;

/// How long a job is kept after it was superseded: no honest share is credited so late, by far.
const KEPT_MS: u64 = 3_600_000;

#[derive(Debug, Default)]
pub(super) struct Jobs {
    by_index: BTreeMap<u64, Job>,
    /// When each template was replaced, Unix ms.
    superseded: HashMap<TemplateId, u64>,
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
        if let ChainEvent::Superseded(template) = chain.event {
            self.supersede(template, chain.unix_ms);
        }
    }

    fn supersede(&mut self, template: TemplateId, unix_ms: u64) {
        self.superseded.entry(template).or_insert(unix_ms);
        let old = |template: &TemplateId| {
            self.superseded.get(template).is_some_and(|at| at.saturating_add(KEPT_MS) < unix_ms)
        };
        self.by_index.retain(|_, job| !old(&job.body.template));
        self.superseded.retain(|_, at| at.saturating_add(KEPT_MS) >= unix_ms);
    }

    /// When the job's template was replaced, Unix ms.
    pub fn superseded_at(&self, body: &JobBody) -> Option<u64> {
        self.superseded.get(&body.template).copied()
    }
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
