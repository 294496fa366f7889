//! A share that solves a block, as it is kept with the block until it is known to be in the log.
//!
//! A kill between the two would lose it, and with it what the block has paid: then whoever starts next puts it into the
//! log. Bytes: job entry ‖ share entry ‖ length of the script u16 ‖ script ‖ worker name. The share's entry has no payee
//! and no job index yet.

use crate::entry::{Entry, JobEntry, PlanEntry, SHARE_BYTES, Share};
use crate::log::{LogError, Reader};
use crate::registry::Registry;
use crate::verify;
use bitcoin::{BlockHash, ScriptBuf};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use stratum::payee::{Payee, WorkerName};
use stratum::share::JudgedShare;
use stratum::target::Work;

/// A share that solves a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockShare {
    hash: BlockHash,
    job: JobEntry,
    payee: Arc<Payee>,
    share: Share,
}

impl BlockShare {
    /// What is kept of a share; it earns nothing.
    pub fn of(share: &JudgedShare) -> Self {
        let roll = share.roll();
        let entry = Share {
            pot: share.pot(),
            site: 0,
            payee: 0,
            job: 0,
            ntime: roll.ntime,
            nonce: roll.nonce,
            version: roll.version,
            extranonce: roll.into(),
            credited: false,
            block_candidate: true,
            received_unix_ms: share.received_unix_ms(),
            total_work: Work(0),
        };
        let job = JobEntry::from(&**share.body());
        Self { hash: share.hash(), job, payee: share.payee().clone(), share: entry }
    }

    /// Its bytes.
    ///
    /// # Panics
    /// If the payee's script has more than 65,535 bytes: it is that of an address.
    pub fn encode(&self) -> Vec<u8> {
        let script = self.payee.script.as_bytes();
        let mut bytes = Vec::new();
        Entry::Job(self.job.clone().into()).encode(&mut bytes);
        Entry::Share(self.share.clone()).encode(&mut bytes);
        bytes.extend(u16::try_from(script.len()).expect("an address has a short script").to_le_bytes());
        bytes.extend(script);
        bytes.extend(self.payee.worker.as_str().as_bytes());
        bytes
    }

    /// The share that solves this block; `None` if the bytes are of no such share.
    pub fn decode(hash: BlockHash, bytes: &[u8]) -> Option<Self> {
        let (Entry::Job(job), length) = Entry::decode(bytes).ok()? else { return None };
        let (Entry::Share(share), SHARE_BYTES) = Entry::decode(&bytes[length..]).ok()? else { return None };
        let (script_bytes, rest) = bytes[length + SHARE_BYTES..].split_first_chunk()?;
        let (script, worker) = rest.split_at_checked(u16::from_le_bytes(*script_bytes).into())?;
        let worker = WorkerName::of_escaped(std::str::from_utf8(worker).ok()?)?;
        let payee = Arc::new(Payee::new(ScriptBuf::from_bytes(script.to_vec()), worker));
        let is_kept = share.block_candidate && !share.credited;
        let solved = verify::block_of(&job, &share, &payee.script)?;
        (is_kept && solved == hash).then_some(Self { hash, job: *job, payee, share })
    }

    /// The block.
    pub fn hash(&self) -> BlockHash {
        self.hash
    }

    pub(crate) fn job(&self) -> &JobEntry {
        &self.job
    }

    pub(crate) fn payee(&self) -> &Arc<Payee> {
        &self.payee
    }

    /// Without its place in the log.
    pub(crate) fn share(&self) -> &Share {
        &self.share
    }

    /// Number of entries that the log had when its job was planned: the job's own entry comes behind those.
    pub(crate) fn planned_at(&self) -> u64 {
        match self.job.plan {
            PlanEntry::Window { log_size, .. } | PlanEntry::Solo { log_size: Some(log_size), .. } => log_size,
            PlanEntry::Solo { log_size: None, .. } => 0,
        }
    }

    /// Whether that is this share on the same job: then it has the same header.
    fn is(&self, other: &Share, registry: &Registry) -> bool {
        let rolled = |share: &Share| (share.pot, share.ntime, share.nonce, share.version, share.extranonce);
        let script = registry.script_number(other.payee).map(|number| registry.script(number));
        rolled(&self.share) == rolled(other) && script == Some(&self.payee.script)
    }
}

/// Those that are not in the log. It is read from where the oldest of their jobs was planned.
///
/// # Errors
/// The log cannot be read.
pub(crate) fn missing(
    dir: &Path,
    registry: &Registry,
    shares: Vec<BlockShare>,
) -> Result<Vec<BlockShare>, LogError> {
    let Some(from) = shares.iter().map(BlockShare::planned_at).min() else { return Ok(shares) };
    let before = Reader::open(dir)?;
    let segment = before.headers().take_while(|header| header.start.index <= from).last();
    let mut jobs: HashMap<u64, Vec<usize>> = HashMap::new();
    let mut is_missing = vec![true; shares.len()];
    for entry in Reader::open_from(dir, segment.map_or(0, |header| header.number))? {
        match entry? {
            (index, Entry::Job(job)) => {
                let on_it: Vec<_> = (0..shares.len()).filter(|at| shares[*at].job == *job).collect();
                if !on_it.is_empty() {
                    jobs.insert(index, on_it);
                }
            }
            (_, Entry::Share(share)) if share.block_candidate => {
                for at in jobs.get(&share.job).into_iter().flatten() {
                    is_missing[*at] &= !shares[*at].is(&share, registry);
                }
            }
            _ => {}
        }
    }
    let mut is_missing = is_missing.into_iter();
    Ok(shares.into_iter().filter(|_| is_missing.next().expect("one for each")).collect())
}
