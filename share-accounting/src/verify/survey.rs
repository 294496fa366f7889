//! The first reading: what each job says that its payout was computed from, and which jobs solve blocks.

use super::jobs::{Jobs, TEMPLATE_BITS, coinbase, start_of_epoch};
use super::shares::hashes;
use crate::commitment::Commitment;
use crate::entry::{ChainEntry, ChainEvent, Entry, JobEntry, PayeeEntry, PlanEntry};
use crate::window::Span;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::{BlockHash, ScriptBuf, TxOut, Txid, consensus};
use std::collections::{BTreeMap, HashMap, HashSet};
use stratum::class::{BEFORE_SCRIPT_BYTES, SizeClass};
use stratum::extranonce::EXTRANONCE_BYTES;
use stratum::job::TemplateId;
use stratum::target::{Target, Work};

/// Satoshis that there will ever be, rounded up.
pub(super) const SATOSHIS_MAX: u64 = 21_000_000 * 100_000_000;

/// A place in the log from which payouts were computed: in this order the pool has computed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub log_size: u64,
    pub template: TemplateId,
    /// Index of the job entry.
    pub job: u64,
}

/// What a job claims to pay.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub network: Work,
    pub class: SizeClass,
    pub out_bytes: u32,
    /// Bytes of its coinbase before the extranonce, and of the script, with an extranonce of the usual length.
    pub before_extranonce: usize,
    pub script_bytes: usize,
    pub basis: ClaimedBasis,
    pub prev_hash: BlockHash,
    pub value: u64,
    /// Of its outputs without the commitments.
    pub paid: sha256::Hash,
    pub commitment: Option<Commitment>,
}

#[derive(Debug, Clone)]
pub(super) enum ClaimedBasis {
    Solo(ScriptBuf),
    Window { ledger_block: BlockHash },
}

/// When templates were made, at the earliest.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// Unix ms at which each template was replaced: then the next one was there.
    replaced: BTreeMap<TemplateId, u64>,
    /// Unix ms at which each epoch began.
    epochs: HashMap<u16, u64>,
}

impl Made {
    fn note(&mut self, chain: &ChainEntry) {
        match chain.event {
            ChainEvent::Superseded(template) => {
                self.replaced.entry(template).or_insert(chain.unix_ms);
            }
            ChainEvent::EpochStart { epoch } => {
                self.epochs.entry(epoch).or_insert(chain.unix_ms);
            }
            _ => {}
        }
    }

    /// Unix ms before which a template was not there, by what the log says of those before it in its epoch.
    pub fn since(&self, template: TemplateId) -> Option<u64> {
        let before = self.replaced.range(start_of_epoch(template)..template).next_back();
        let epoch = u16::try_from(template.0 >> TEMPLATE_BITS).ok();
        before.map(|(_, at)| *at).or_else(|| self.epochs.get(&epoch?).copied())
    }

    /// Whether the log says so of the one just before: then that is when it was made.
    pub fn is_known(&self, template: TemplateId) -> bool {
        let is_first = template.0 - start_of_epoch(template).0 <= 1;
        is_first || self.replaced.contains_key(&TemplateId(template.0.saturating_sub(1)))
    }
}

/// The outputs of a coinbase taken apart.
#[derive(Debug)]
pub(super) struct Paid {
    pub outputs: Vec<TxOut>,
    pub commitment: Option<Commitment>,
}

impl Paid {
    /// Takes off the witness commitment, the last one, and the commitment to the log, the one before.
    pub fn of(mut outputs: Vec<TxOut>) -> Self {
        if outputs.last().is_some_and(|last| last.script_pubkey.as_bytes().starts_with(&WITNESS_COMMITMENT)) {
            outputs.pop();
        }
        let commitment = outputs.last().and_then(Commitment::of_output);
        if commitment.is_some() {
            outputs.pop();
        }
        Self { outputs, commitment }
    }

    pub fn digest(outputs: &[TxOut]) -> sha256::Hash {
        sha256::Hash::hash(&outputs.iter().flat_map(consensus::serialize).collect::<Vec<_>>())
    }

    /// `None` if that is more than there is.
    pub fn value(&self) -> Option<u64> {
        let sum = |sum: u64, output: &TxOut| sum.checked_add(output.value.to_sat());
        self.outputs.iter().try_fold(0, sum).filter(|value| *value <= SATOSHIS_MAX)
    }
}

/// OP_RETURN, 36 bytes, and the mark of a witness commitment (BIP 141).
const WITNESS_COMMITMENT: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

#[derive(Debug, Default)]
pub(super) struct Survey {
    pub claims: BTreeMap<Place, Claim>,
    /// Jobs whose window lies in the future, with the size that they claim.
    pub future: HashMap<u64, u64>,
    /// Blocks that shares on a job solve, with their coinbases.
    pub solved: HashMap<u64, HashMap<BlockHash, Txid>>,
    /// Since when templates have been made, as far as the log says.
    pub made: Made,
    spans: Vec<Span>,
    networks: HashSet<u128>,
    jobs: Jobs,
    scripts: Vec<ScriptBuf>,
}

impl Survey {
    pub fn note(&mut self, index: u64, entry: &Entry) {
        match entry {
            Entry::Job(job) => self.note_job(index, job),
            Entry::Share(share) if share.block_candidate => {
                let script = self.scripts.get(share.payee as usize); // u32 fits usize
                let hashed = script.and_then(|script| hashes(share, script, &mut self.jobs));
                // One that solves nothing leaves nothing in the ledger.
                if let Some((hash, coinbase)) =
                    hashed.filter(|(hash, _)| self.jobs.is_solved_by(share.job, *hash))
                {
                    self.solved.entry(share.job).or_default().insert(hash, coinbase);
                }
            }
            Entry::Payee(payee) => self.note_payee(payee),
            Entry::Params(params) => self.spans.push(params.span),
            Entry::Chain(chain) => {
                self.jobs.note(chain);
                self.made.note(chain);
            }
            Entry::Share(_) | Entry::Settlement(_) | Entry::Move(_) => {}
        }
    }

    fn note_payee(&mut self, payee: &PayeeEntry) {
        let at = payee.index as usize; // u32 fits usize
        match self.scripts.get_mut(at) {
            Some(script) => script.clone_from(&payee.script),
            // One that skips an index ends the second reading.
            None => self.scripts.push(payee.script.clone()),
        }
    }

    fn note_job(&mut self, index: u64, job: &JobEntry) {
        // What is wrong with it is said in the second reading.
        let (Ok(()), Ok((coinbase, script_end))) = (self.jobs.add(index, job), coinbase(job)) else { return };
        let (log_size, basis) = match &job.plan {
            PlanEntry::Solo { script, log_size } => (*log_size, ClaimedBasis::Solo(script.clone())),
            PlanEntry::Window { log_size, ledger_block } => {
                (Some(*log_size), ClaimedBasis::Window { ledger_block: *ledger_block })
            }
        };
        // Before jobs had commitments a solo job did not say when it was planned; when it was logged, at the latest.
        let log_size = log_size.unwrap_or(index);
        if log_size > index {
            self.future.insert(index, log_size);
            return;
        }
        let paid = Paid::of(coinbase.output);
        let Some(value) = paid.value() else { return };
        let before_extranonce = job.coinbase.extranonce_offset();
        // The gap is zeros, and a V2 client may have asked for a longer one; text behind it has none.
        let behind = &job.coinbase.bytes()[before_extranonce + EXTRANONCE_BYTES..script_end];
        let longer = behind.iter().take_while(|byte| **byte == 0).count();
        let script_bytes = script_end - (BEFORE_SCRIPT_BYTES + 1) - longer;
        let network = Target::from_nbits(job.nbits).expect("the jobs have taken it").work();
        self.networks.insert(network.0);
        let claim = Claim {
            network,
            class: job.class,
            out_bytes: job.out_bytes,
            before_extranonce,
            script_bytes,
            basis,
            prev_hash: job.prev_hash,
            value,
            paid: Paid::digest(&paid.outputs),
            commitment: paid.commitment,
        };
        self.claims.insert(Place { log_size, template: job.template, job: index }, claim);
    }

    /// The largest window that any payout of the log can need.
    pub fn largest_window(&self) -> Work {
        let windows = self
            .spans
            .iter()
            .flat_map(|span| self.networks.iter().map(|network| span.window_work(Work(*network))));
        windows.max_by_key(|work| work.0).unwrap_or(Work(1))
    }
}
