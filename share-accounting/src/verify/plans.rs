//! Each payout computed again at the place in the log that its job names.

use super::Report;
use super::jobs::coinbase;
use super::lie::{Lie, WrongOutput};
use super::survey::{Claim, ClaimedBasis, Made, Paid, Place, SATOSHIS_MAX, Survey};
use crate::books::Books;
use crate::commitment::{Commitment, Committed, ParamsHash};
use crate::entry::{JobEntry, Params};
use crate::payout::{self, Room};
use crate::tree::TreeHash;
use bitcoin::hashes::Hash;
use bitcoin::hex::DisplayHex;
use bitcoin::{Amount, BlockHash, Network, ScriptBuf, TxOut};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use stratum::job::TemplateId;
use stratum::target::Work;

/// A plan is made from the newest window, which is there within milliseconds. While a disk hangs it is made from the
/// last one that was known, for ten minutes at most.
const FRESH_MS: u64 = 900_000;

type Credits = Arc<BTreeMap<ScriptBuf, u64>>;

pub(super) struct Plans {
    network: Network,
    claims: BTreeMap<Place, Claim>,
    future: HashMap<u64, u64>,
    solved: HashMap<u64, HashSet<BlockHash>>,
    /// What is owed behind each pool block.
    credits: HashMap<BlockHash, Credits>,
    /// What was found wrong with jobs whose entries are still to come.
    wrong: HashMap<u64, Wrong>,
    weighed: Option<Weighed>,
    made: Made,
    /// Jobs that pay the window as it is, until the next share weighs.
    fresh: Vec<Place>,
}

enum Wrong {
    Lie(Lie),
    Outputs(Vec<(TxOut, &'static str)>),
}

/// The window at a place: the jobs of all size classes are computed from it.
struct Weighed {
    log_size: u64,
    window: Work,
    weights: BTreeMap<ScriptBuf, Work>,
    /// With the ledger at a block.
    commitment: HashMap<BlockHash, Commitment>,
}

/// What a job should pay: each output and whose it is, and what is owed afterwards.
struct Expected {
    outputs: Vec<(TxOut, &'static str)>,
    credits: Credits,
}

impl Plans {
    pub fn new(network: Network, survey: Survey) -> Self {
        let Survey { claims, future, solved, made, .. } = survey;
        let credits = [(BlockHash::all_zeros(), Credits::default())].into();
        let (wrong, weighed, fresh) = (HashMap::new(), None, Vec::new());
        Self { network, claims, future, solved, credits, wrong, weighed, made, fresh }
    }

    /// Whether payouts were planned when the log had no more entries than that.
    pub fn are_due(&self, size: u64) -> bool {
        self.claims.first_key_value().is_some_and(|(next, _)| next.log_size <= size)
    }

    /// Computes the payouts that were planned when the log was as long as the books are now.
    pub fn compute_at(&mut self, books: &mut Books, root: TreeHash, report: &mut Report) {
        while self.are_due(books.size)
            && let Some((place, claim)) = self.claims.pop_first()
        {
            match self.compute(place, &claim, books, root, report) {
                Ok(()) => self.fresh.push(place),
                Err(lie) => {
                    self.wrong.insert(place.job, Wrong::Lie(lie));
                }
            }
        }
    }

    /// A share weighs from now on: plans that are made much later must have it.
    pub fn credited(&mut self, index: u64, received_unix_ms: u64) {
        for Place { log_size, template, job } in self.fresh.drain(..) {
            let made = self.made.since(template).filter(|_| job > index);
            let age = made.map_or(0, |made| made.saturating_sub(received_unix_ms));
            if age > FRESH_MS {
                let lie = Lie::OldPlan { log_size, seconds: age / 1_000 };
                self.wrong.entry(job).or_insert(Wrong::Lie(lie));
            }
        }
    }

    /// Whether the log says since when a template has been there.
    pub fn age_is_known(&self, template: TemplateId) -> bool {
        self.made.is_known(template)
    }

    fn compute(
        &mut self,
        place: Place,
        claim: &Claim,
        books: &mut Books,
        root: TreeHash,
        report: &mut Report,
    ) -> Result<(), Lie> {
        let params = books.params.clone().ok_or(Lie::Rules("none are in the log yet".to_owned()))?;
        let window = params.span.window_work(claim.network);
        if self
            .weighed
            .as_ref()
            .is_none_or(|known| (known.log_size, known.window) != (place.log_size, window))
        {
            assert!(books.window.resize(window), "the books keep the largest window of the log");
            let weights = books.weights();
            self.weighed =
                Some(Weighed { log_size: place.log_size, window, weights, commitment: HashMap::new() });
        }
        let ledger_block = match &claim.basis {
            // The window has always been empty, so no block can have left a credit.
            ClaimedBasis::Solo(_) => BlockHash::all_zeros(),
            // A block whose share is in the log is the pool's newest one where it is built on.
            ClaimedBasis::Window { ledger_block }
                if claim.prev_hash != *ledger_block && self.credits.contains_key(&claim.prev_hash) =>
            {
                return Err(Lie::OldLedger { ledger_block: *ledger_block, newer: claim.prev_hash });
            }
            ClaimedBasis::Window { ledger_block } => *ledger_block,
        };
        let Some(credits) = self.credits.get(&ledger_block).cloned() else {
            report.jobs_left_out += 1;
            return Ok(());
        };
        let weighed = self.weighed.as_mut().expect("weighed just above");
        let expected = expected(claim, &weighed.weights, &credits, &params)?;
        if expected.credits.values().map(|sats| u128::from(*sats)).sum::<u128>() > SATOSHIS_MAX.into() {
            return Err(Lie::Money);
        }
        for block in self.solved.remove(&place.job).into_iter().flatten() {
            self.credits.insert(block, expected.credits.clone());
        }
        let outputs: Vec<_> = expected.outputs.iter().map(|(output, _)| output.clone()).collect();
        if Paid::digest(&outputs) != claim.paid {
            self.wrong.insert(place.job, Wrong::Outputs(expected.outputs));
            return Ok(());
        }
        let network = self.network;
        let committed = weighed.commitment.entry(ledger_block).or_insert_with(|| {
            let (log_size, weights) = (place.log_size, &weighed.weights);
            let params = ParamsHash::of(&params);
            Committed { network, log_size, log_root: root, weights, credits: &credits, params }.commitment()
        });
        match claim.commitment {
            None => Err(Lie::NoCommitment),
            Some(found) if found != *committed => Err(Lie::Commitment {
                found: found.0.to_lower_hex_string(),
                expected: committed.0.to_lower_hex_string(),
            }),
            Some(_) => Ok(()),
        }
    }

    /// Says what is wrong with a job, now that its entry is there.
    pub fn check(&mut self, index: u64, job: &JobEntry, report: &mut Report) {
        if let Some(log_size) = self.future.remove(&index) {
            return report.found(index, Lie::Future { log_size });
        }
        let outputs = coinbase(job).map_or_else(|_| Vec::new(), |(coinbase, _)| coinbase.output);
        let paid = Paid::of(outputs);
        if paid.value().is_none() {
            return report.found(index, Lie::Money);
        }
        match self.wrong.remove(&index) {
            Some(Wrong::Lie(lie)) => report.found(index, lie),
            Some(Wrong::Outputs(expected)) => {
                report.found(index, Lie::Outputs(first_wrong(&paid.outputs, &expected)));
            }
            None => {}
        }
    }
}

fn expected(
    claim: &Claim,
    weights: &BTreeMap<ScriptBuf, Work>,
    credits: &Credits,
    params: &Params,
) -> Result<Expected, Lie> {
    let value = Amount::from_sat(claim.value);
    if let ClaimedBasis::Solo(script) = &claim.basis {
        if !weights.is_empty() {
            return Err(Lie::Solo);
        }
        let output = TxOut { value, script_pubkey: script.clone() };
        return Ok(Expected { outputs: vec![(output, "its one payee's")], credits: Credits::default() });
    }
    let room = Room::of(claim.class, claim.out_bytes);
    let plan = payout::plan(value, weights, credits, &params.split, room).ok_or(Lie::EmptyWindow)?;
    let count = plan.outputs.len();
    let has_reserve = plan.reserve.to_sat() > 0;
    let whose = |place: usize, output: &TxOut| match place {
        _ if place < plan.miners => "a miner's",
        _ if has_reserve && place + 1 == count => "the reserve's",
        _ if output.value == plan.fee && output.script_pubkey == params.split.fee_script => {
            "the operator's fee"
        }
        _ => "a donation",
    };
    let outputs =
        plan.outputs.iter().enumerate().map(|(place, output)| (output.clone(), whose(place, output)));
    Ok(Expected { outputs: outputs.collect(), credits: Arc::new(plan.credit_after) })
}

fn first_wrong(found: &[TxOut], expected: &[(TxOut, &'static str)]) -> WrongOutput {
    let differs = |place: &usize| found.get(*place) != expected.get(*place).map(|(output, _)| output);
    let place = (0..found.len().max(expected.len())).find(differs).unwrap_or_default();
    let pair = |output: &TxOut| (output.script_pubkey.clone(), output.value);
    WrongOutput {
        place,
        found: found.get(place).map(pair),
        expected: expected.get(place).map(|(output, _)| pair(output)),
        whose: expected.get(place).map_or("which the rules do not give", |(_, whose)| whose),
    }
}
