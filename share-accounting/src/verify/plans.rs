//! Each payout computed again at the place in the log that its job names.

use super::Report;
use super::jobs::coinbase;
use super::lie::{Lie, WrongOutput};
use super::owed::WithoutLedger;
use super::survey::{Claim, ClaimedBasis, Made, Paid, Place, SATOSHIS_MAX, Survey};
use crate::books::Books;
use crate::commitment::{Commitment, Committed, ParamsHash};
use crate::entry::{JobEntry, Params, Reserve, Settlement};
use crate::payout::{self, Room};
use crate::settlement::{self, Credits};
use crate::tree::TreeHash;
use bitcoin::hashes::Hash;
use bitcoin::hex::DisplayHex;
use bitcoin::{Amount, BlockHash, Network, OutPoint, ScriptBuf, TxOut, Txid};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use stratum::class::Beside;
use stratum::job::TemplateId;
use stratum::target::Work;

/// A plan is made from the newest window, which is there within milliseconds. While a disk hangs it is made from the
/// last one that was known, for ten minutes at most.
const FRESH_MS: u64 = 900_000;

pub(super) struct Plans {
    network: Network,
    claims: BTreeMap<Place, Claim>,
    future: HashMap<u64, u64>,
    solved: HashMap<u64, HashMap<BlockHash, Txid>>,
    /// The ledger behind each pool block.
    ledgers: HashMap<BlockHash, Ledger>,
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
    /// Nothing so far, but the outputs are still to be looked at.
    Unknown(WithoutLedger),
}

/// The window at a place: the jobs of all size classes are computed from it.
struct Weighed {
    log_size: u64,
    window: Work,
    weights: BTreeMap<ScriptBuf, Work>,
    /// What can be paid with the ledger at a block, and the commitment to it.
    ledgers: HashMap<BlockHash, (Arc<Credits>, Commitment)>,
}

/// The ledger behind a pool block.
#[derive(Debug, Default, Clone)]
struct Ledger {
    /// What is owed, and what settlements have locked of it.
    owed: Arc<Credits>,
    /// The pool block before, in its chain.
    before: Option<BlockHash>,
    /// What the block's coinbase has put aside.
    reserve: Option<Reserve>,
}

/// What a job should pay: each output and whose it is, and what is owed afterwards.
struct Expected {
    outputs: Vec<(TxOut, &'static str)>,
    credit_delta: Vec<(ScriptBuf, i64)>,
    /// The last output's satoshis, if that is the reserve's.
    reserve: u64,
}

impl Plans {
    pub fn new(network: Network, survey: Survey) -> Self {
        let Survey { claims, future, solved, made, .. } = survey;
        let ledgers = [(BlockHash::all_zeros(), Ledger::default())].into();
        let (wrong, weighed, fresh) = (HashMap::new(), None, Vec::new());
        Self { network, claims, future, solved, ledgers, wrong, weighed, made, fresh }
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
                match self.wrong.get(&job) {
                    Some(Wrong::Lie(_) | Wrong::Outputs(_)) => {}
                    None | Some(Wrong::Unknown(_)) => drop(self.wrong.insert(job, Wrong::Lie(lie))),
                }
            }
        }
    }

    /// Whether the log says since when a template has been there.
    pub fn age_is_known(&self, template: TemplateId) -> bool {
        self.made.is_known(template)
    }

    /// When a template was made, Unix ms, if the log says so.
    pub fn made_at(&self, template: TemplateId) -> Option<u64> {
        self.made.since(template).filter(|_| self.made.is_known(template))
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
            let (log_size, weights) = (place.log_size, books.weights());
            self.weighed = Some(Weighed { log_size, window, weights, ledgers: HashMap::new() });
        }
        let ledger_block = match &claim.basis {
            // The window has always been empty, so no block can have left a credit.
            ClaimedBasis::Solo(_) => BlockHash::all_zeros(),
            // A block whose share is in the log is the pool's newest one where it is built on.
            ClaimedBasis::Window { ledger_block }
                if claim.prev_hash != *ledger_block && self.ledgers.contains_key(&claim.prev_hash) =>
            {
                return Err(Lie::OldLedger { ledger_block: *ledger_block, newer: claim.prev_hash });
            }
            ClaimedBasis::Window { ledger_block } => *ledger_block,
        };
        let Some(ledger) = self.ledgers.get(&ledger_block).cloned() else {
            report.jobs_left_out += 1;
            check_room(claim, &params)?;
            let weighed = self.weighed.as_ref().expect("weighed just above");
            let outputs = WithoutLedger::of(claim, &weighed.weights, &params)?;
            self.wrong.insert(place.job, Wrong::Unknown(outputs));
            return claim.commitment.map(|_| ()).ok_or(Lie::NoCommitment);
        };
        let weighed = self.weighed.as_mut().expect("weighed just above");
        let network = self.network;
        let (payable, committed) = weighed.ledgers.entry(ledger_block).or_insert_with(|| {
            let owed = books.moves.credits(&ledger.owed);
            let payable = match books.settlements.locked() {
                locked if locked.is_empty() => owed,
                locked => Arc::new(settlement::payable(&owed, &books.moves.credits(locked))),
            };
            let (log_size, weights, credits) = (place.log_size, &weighed.weights, &*payable);
            let params = ParamsHash::of(&params);
            let committed = Committed { network, log_size, log_root: root, weights, credits, params };
            let commitment = committed.commitment();
            (payable, commitment)
        });
        let expected = expected(claim, &weighed.weights, payable, &params)?;
        let owed = changed(&books.moves.credits(&ledger.owed), &expected.credit_delta).ok_or(Lie::Money)?;
        for (block, coinbase) in self.solved.remove(&place.job).into_iter().flatten() {
            let (owed, before) = (owed.clone(), Some(ledger_block));
            let reserve = expected.reserve_in(coinbase);
            // A block that two jobs claim to solve stays where it is: in a chain, and not behind itself.
            if let Entry::Vacant(place) = self.ledgers.entry(block) {
                report.owed.insert(block, owed.clone());
                place.insert(Ledger { owed, before, reserve });
                report.reserves.extend(reserve.map(|reserve| (block, reserve)));
            }
        }
        let outputs: Vec<_> = expected.outputs.iter().map(|(output, _)| output.clone()).collect();
        if Paid::digest(&outputs) != claim.paid {
            self.wrong.insert(place.job, Wrong::Outputs(expected.outputs));
            return Ok(());
        }
        match claim.commitment {
            None => Err(Lie::NoCommitment),
            Some(found) if found != *committed => Err(Lie::Commitment {
                found: found.0.to_lower_hex_string(),
                expected: committed.0.to_lower_hex_string(),
            }),
            Some(_) => Ok(()),
        }
    }

    /// Computes a settlement from the books as they were before its entry.
    pub fn check_settlement(&self, index: u64, settlement: &Settlement, books: &Books, report: &mut Report) {
        let Settlement { matured, ledger_block, credits, reserve, .. } = settlement;
        let ledgers = self.ledgers.get(matured).zip(self.ledgers.get(ledger_block));
        let (Some((old, newest)), Some(params)) = (ledgers, &books.params) else {
            report.settlements_left_out += 1;
            return;
        };
        if !self.chain(*ledger_block).any(|(hash, _)| hash == *matured) {
            let reason = format!("its matured block {matured} is not in the chain of block {ledger_block}");
            return report.found(index, Lie::Settlement(reason));
        }
        let mut reserves: Vec<_> = self.chain(*matured).filter_map(|(_, ledger)| ledger.reserve).collect();
        reserves.reverse();
        let (old, newest) = (books.moves.credits(&old.owed), books.moves.credits(&newest.owed));
        let (before, moves) = (&books.settlements, &books.moves);
        let expected = settlement::propose(&old, &newest, reserves, before, moves, params);
        let expected = expected.unwrap_or_default();
        if let Some(place) = first_difference(credits, &expected.credits) {
            let show = |credits: &[(ScriptBuf, u64)]| match credits.get(place) {
                Some((script, sats)) => format!("{sats} satoshis of script {script:x}"),
                None => "nothing".to_owned(),
            };
            let (found, expected) = (show(credits), show(&expected.credits));
            let reason = format!("credit {place} that it pays is {found} where the ledger gives {expected}");
            return report.found(index, Lie::Settlement(reason));
        }
        if let Some(place) = first_difference(reserve, &expected.reserve) {
            let reason =
                format!("reserve output {place} that it spends is not the next one of the pool's blocks");
            return report.found(index, Lie::Settlement(reason));
        }
        if !expected.is_due(params) {
            let (owed, least) = (expected.owed, params.settlement_at_least);
            let reason = format!("{owed} satoshis are owed where the rules want {least} for a settlement");
            report.found(index, Lie::Settlement(reason));
        }
    }

    /// A pool block and those before it, newest first.
    fn chain(&self, newest: BlockHash) -> impl Iterator<Item = (BlockHash, &Ledger)> {
        let mut next = Some(newest);
        std::iter::from_fn(move || {
            let hash = next?;
            let ledger = self.ledgers.get(&hash)?;
            next = ledger.before;
            Some((hash, ledger))
        })
    }

    /// Says what is wrong with a job, now that its entry is there.
    pub fn check(&mut self, index: u64, job: &JobEntry, books: &Books, report: &mut Report) {
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
            Some(Wrong::Unknown(known)) => {
                if let Err(lie) = known.check(&paid.outputs, books) {
                    report.found(index, lie);
                }
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
        let outputs = vec![(output, "its one payee's")];
        return Ok(Expected { outputs, credit_delta: Vec::new(), reserve: 0 });
    }
    check_room(claim, params)?;
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
    let (outputs, reserve) = (outputs.collect(), plan.reserve.to_sat());
    Ok(Expected { outputs, credit_delta: plan.credit_delta, reserve })
}

/// Nobody is kept out of a coinbase that has room.
fn check_room(claim: &Claim, params: &Params) -> Result<(), Lie> {
    let Claim { class, out_bytes: claimed, before_extranonce, script_bytes, .. } = *claim;
    let fixed = payout::fixed_outputs(&params.split, class);
    let output_bytes = fixed.iter().map(TxOut::size).sum();
    let beside = Beside { before_extranonce, script_bytes, outputs: fixed.len(), output_bytes };
    let room = class.room(&beside).unwrap_or(0);
    if claimed == room { Ok(()) } else { Err(Lie::Room { claimed, class, room }) }
}

impl Expected {
    /// The reserve output of a coinbase that pays this.
    fn reserve_in(&self, coinbase: Txid) -> Option<Reserve> {
        let last = u32::try_from(self.outputs.len().checked_sub(1)?).expect("a coinbase has at most 16 kB");
        let outpoint = OutPoint { txid: coinbase, vout: last };
        (self.reserve > 0).then_some(Reserve { outpoint, sats: self.reserve })
    }
}

/// What is owed after these changes; `None` if that is more than there is.
fn changed(owed: &Arc<Credits>, delta: &[(ScriptBuf, i64)]) -> Option<Arc<Credits>> {
    if delta.is_empty() {
        return Some(owed.clone());
    }
    let mut after = Credits::clone(owed);
    for (script, change) in delta {
        let sats = after.get(script).copied().unwrap_or(0).checked_add_signed(*change)?;
        match sats {
            0 => after.remove(script),
            sats => after.insert(script.clone(), sats),
        };
    }
    let sum = after.values().try_fold(0_u64, |sum, sats| sum.checked_add(*sats));
    sum.filter(|sum| *sum <= SATOSHIS_MAX).map(|_| Arc::new(after))
}

fn first_difference<T: PartialEq>(found: &[T], expected: &[T]) -> Option<usize> {
    (0..found.len().max(expected.len())).find(|place| found.get(*place) != expected.get(*place))
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
