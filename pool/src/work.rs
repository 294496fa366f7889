//! From template, window and ledger to the jobs that miners get.

use crate::class_floor::ClassFloor;
use bitcoin::opcodes::OP_TRUE;
use bitcoin::{Amount, BlockHash, Network, ScriptBuf, TxOut};
use share_accounting::commitment::{Commitment, Committed, ParamsHash};
use share_accounting::entry;
use share_accounting::moves::Moves;
use share_accounting::payout::{self, Room, fixed_outputs};
use share_accounting::tree::TreeHash;
use std::collections::BTreeMap;
use std::sync::Arc;
use stratum::class::SizeClass;
use stratum::encoded::EncodedJob;
use stratum::job::{Basis, JobBody, Payout, TemplateId};
use stratum::target::Work;
use template::assemble::job_body;
use template::coinbase::{CoinbaseError, CoinbaseStyle};
use template::fit::CoinbaseCost;
use template::template::Template;

/// Who has worked, and what is owed, at one moment.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Number of log entries that the weights were taken from.
    pub log_size: u64,
    /// Root of the tree over them.
    pub log_root: TreeHash,
    /// Work within the window, by script; empty before the first share.
    pub weights: BTreeMap<ScriptBuf, Work>,
    /// The pool's newest block on the chain that the work builds on; all zeros before the first.
    pub ledger_block: BlockHash,
    /// Credits in satoshis that can be paid, by script: those that a settlement has locked are not there.
    pub credits: BTreeMap<ScriptBuf, u64>,
    /// Payees that have moved: weights and credits are by who is paid for them.
    pub moves: Arc<Moves>,
}

/// Makes work. It names each template it is given.
#[derive(Debug)]
pub struct Planner {
    style: CoinbaseStyle,
    network: Network,
    params: entry::Params,
    params_hash: ParamsHash,
    epoch: u16,
    /// Version bits that miners are offered for rolling.
    version_mask: u32,
    templates: u64,
}

/// Why there is no work to be made from a template.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A size class has no room for the fixed outputs; [`check_room`] finds that out beforehand.
    #[error(transparent)]
    Coinbase(#[from] CoinbaseError),
    /// Miners that roll such a bit away would make blocks that count for nothing. No node that we know asks
    /// for one (Core's `vbrequired` is always 0), so it is refused and not dealt with job by job.
    #[error(
        "the node requires the version bits {0:08x} that miners may roll: take them out of v1.version_mask and v2.version_mask"
    )]
    VersionBits(u32),
}

/// What all shards go by.
#[derive(Debug, Clone, Default)]
pub struct Current {
    /// Newest block of the best chain, as the node told it. Work may still build on the one before it: then it is
    /// kept, for there is nothing better, but earns nothing.
    pub tip: Option<BlockHash>,
    /// What miners work on, if there is anything.
    pub work: Option<Arc<WorkSet>>,
}

/// Current work for everybody.
#[derive(Debug)]
pub struct WorkSet {
    id: TemplateId,
    prev_hash: BlockHash,
    height: u32,
    split: Split,
}

#[derive(Debug)]
enum Split {
    /// One job a size class, in the order of their codes; not every payee may have the smallest.
    Window { jobs: [Arc<EncodedJob>; SizeClass::ALL.len()], floor: ClassFloor },
    /// One job a payee, made when it is needed.
    Solo { template: Arc<Template>, style: CoinbaseStyle, log_size: u64, commitment: Commitment },
}

impl Planner {
    /// A planner for this start of the server, whose number is `epoch`, by the rules that the log has in force; miners
    /// roll `version_mask`.
    pub fn new(
        style: CoinbaseStyle,
        network: Network,
        params: entry::Params,
        epoch: u16,
        version_mask: u32,
    ) -> Self {
        let params_hash = ParamsHash::of(&params);
        Self { style, network, params, params_hash, epoch, version_mask, templates: 0 }
    }

    /// Makes the work that pays `standing` from a template.
    ///
    /// # Errors
    /// The template cannot be worked on with these settings: no work is better than worthless work.
    pub fn plan(&mut self, template: &Arc<Template>, standing: &Standing) -> Result<WorkSet, PlanError> {
        let fixed = self.version_mask & !template.rolling_mask(self.version_mask);
        if fixed != 0 {
            return Err(PlanError::VersionBits(fixed));
        }
        self.templates += 1;
        let id = TemplateId(u64::from(self.epoch) << 48 | self.templates);
        let commitment = self.commitment(standing);
        let split = if standing.weights.values().all(|work| work.0 == 0) {
            let (template, style) = (template.clone(), self.style.clone());
            Split::Solo { template, style, log_size: standing.log_size, commitment }
        } else {
            let mut jobs = Vec::with_capacity(SizeClass::ALL.len());
            let mut miners_paid = [0; SizeClass::ALL.len()];
            for (class, paid) in SizeClass::ALL.into_iter().zip(&mut miners_paid) {
                let (job, miners) = self.window_job(id, template, class, standing, commitment)?;
                jobs.push(job);
                *paid = miners;
            }
            let jobs = jobs.try_into().expect("one job for each class");
            Split::Window { jobs, floor: ClassFloor::new(&standing.weights, &standing.moves, miners_paid) }
        };
        Ok(WorkSet { id, prev_hash: template.prev_hash(), height: template.height(), split })
    }

    fn commitment(&self, standing: &Standing) -> Commitment {
        let Standing { log_size, log_root, weights, credits, .. } = standing;
        let params = self.params_hash;
        Committed {
            network: self.network,
            log_size: *log_size,
            log_root: *log_root,
            weights,
            credits,
            params,
        }
        .commitment()
    }

    /// The job of one size class, and how many miners it pays.
    fn window_job(
        &self,
        id: TemplateId,
        template: &Arc<Template>,
        class: SizeClass,
        standing: &Standing,
        commitment: Commitment,
    ) -> Result<(Arc<EncodedJob>, usize), CoinbaseError> {
        let template = template.fit(CoinbaseCost::largest(class));
        let split = &self.params.split;
        let fixed = fixed_outputs(split, class);
        let out_bytes = self.style.out_bytes(template.height(), class, &fixed)?;
        let value = Amount::from_sat(template.value());
        let room = Room::of(class, out_bytes);
        let mut plan = payout::plan(value, &standing.weights, &standing.credits, split, room)
            .expect("a window with weight has a plan");
        plan.outputs.push(commitment.output());
        let basis = Basis::Window {
            log_size: standing.log_size,
            ledger_block: standing.ledger_block,
            credit_delta: plan.credit_delta,
        };
        let payout = Arc::new(Payout { outputs: plan.outputs, basis });
        let job = encode(job_body(id, &template, &self.style, class, out_bytes, payout)?)?;
        Ok((job, plan.miners))
    }
}

/// Whether every size class has room for at least one miner beside fee, donations and reserve.
///
/// # Errors
/// The first class that has not.
pub fn check_room(style: &CoinbaseStyle, params: &payout::Params) -> Result<(), CoinbaseError> {
    for class in SizeClass::ALL {
        // The height push is longest here: five bytes until block 2,147,483,647.
        style.out_bytes(u32::MAX >> 1, class, &fixed_outputs(params, class))?;
    }
    Ok(())
}

fn encode(body: JobBody) -> Result<Arc<EncodedJob>, CoinbaseError> {
    Ok(Arc::new(EncodedJob::new(Arc::new(body))))
}

impl WorkSet {
    /// Its name in the share log.
    pub fn id(&self) -> TemplateId {
        self.id
    }

    /// The block that the work builds on.
    pub fn prev_hash(&self) -> BlockHash {
        self.prev_hash
    }

    /// Height of the block that is worked on.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Whether each job pays its own payee alone, for the window is empty.
    pub fn is_solo(&self) -> bool {
        matches!(self.split, Split::Solo { .. })
    }

    /// The job for a payee's machine of a declared size class and a rate, unless each payee has its own.
    pub fn shared(
        &self,
        payee: &ScriptBuf,
        declared: SizeClass,
        hashes_per_s: f64,
    ) -> Option<&Arc<EncodedJob>> {
        match &self.split {
            Split::Window { jobs, floor } => {
                Some(&jobs[usize::from(floor.class(payee, declared, hashes_per_s).code())])
            }
            Split::Solo { .. } => None,
        }
    }

    /// A job of a size class to show the node; where each payee has its own, that of an anyone-can-spend script.
    pub fn sample(&self, class: SizeClass) -> Arc<EncodedJob> {
        match &self.split {
            Split::Window { jobs, .. } => jobs[usize::from(class.code())].clone(),
            Split::Solo { .. } => self.solo(&ScriptBuf::from_bytes(vec![OP_TRUE.to_u8()]), class),
        }
    }

    /// The part of the coinbase value that a size class's job cannot pay and holds in reserve.
    pub fn reserve_ratio(&self, class: SizeClass) -> f64 {
        let Split::Window { jobs, .. } = &self.split else { return 0.0 };
        let payout = &jobs[usize::from(class.code())].body().payout;
        payout.reserve().to_sat() as f64 / payout.value().to_sat() as f64
    }

    /// A job that pays one payee everything.
    ///
    /// # Panics
    /// If the work is not solo work.
    pub fn solo(&self, script: &ScriptBuf, class: SizeClass) -> Arc<EncodedJob> {
        let Split::Solo { template, style, log_size, commitment } = &self.split else {
            panic!("solo jobs are made from solo work only");
        };
        let template = template.fit(CoinbaseCost::largest(class));
        let output = TxOut { value: Amount::from_sat(template.value()), script_pubkey: script.clone() };
        let basis = Basis::Solo { script: script.clone(), log_size: *log_size };
        let payout = Arc::new(Payout { outputs: vec![output, commitment.output()], basis });
        let body = job_body(self.id, &template, style, class, 0, payout).and_then(encode);
        body.expect("one miner's output fits every class, as check_room has made sure at start")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, MASK, script};
    use proptest::prelude::*;

    /// What the coinbase of a job commits to, read from its bytes.
    fn carried(job: &EncodedJob) -> Vec<Commitment> {
        let bytes = job.body().coinbase.bytes();
        let coinbase: bitcoin::Transaction = bitcoin::consensus::deserialize(bytes).unwrap();
        coinbase.output.iter().filter_map(Commitment::of_output).collect()
    }

    #[test]
    fn a_coinbase_of_255_bytes_pays_a_miner_beside_commitment_and_a_reserve_of_any_kind() {
        for reserve_bytes in [22, 34] {
            let reserve_script = ScriptBuf::from_bytes(vec![7; reserve_bytes]);
            let fixed =
                fixed_outputs(&payout::Params { reserve_script, ..testing::split() }, SizeClass::B255);
            let style = CoinbaseStyle::new(9, 9, "").unwrap();
            let room = style.out_bytes(u32::MAX >> 1, SizeClass::B255, &fixed).unwrap();
            assert!(room >= 8 + 1 + 22, "{reserve_bytes}: {room} bytes");
        }
    }

    proptest! {
        #[test]
        fn every_job_commits_once_to_what_it_was_planned_from(
            works in prop::collection::vec(0_u64..1_000, 1..40), owed in 0_u64..9_999, log_size: u64, log_root: [u8; 32]
        ) {
            let weights = (0_u8..).zip(&works).map(|(n, work)| (script(n), Work((*work).into())));
            let weights: BTreeMap<_, _> = weights.filter(|(_, work)| work.0 > 0).collect();
            let credits = BTreeMap::from([(script(99), owed)]);
            let standing = Standing { log_size, log_root, credits, ..testing::standing(weights) };
            let work = testing::planner(MASK).plan(&testing::template(0), &standing).unwrap();
            let expected = Committed {
                network: Network::Regtest,
                log_size,
                log_root,
                weights: &standing.weights,
                credits: &standing.credits,
                params: ParamsHash::of(&testing::rules()),
            };
            for class in SizeClass::ALL {
                prop_assert_eq!(carried(&work.sample(class)), [expected.commitment()]);
            }
        }
    }
}
