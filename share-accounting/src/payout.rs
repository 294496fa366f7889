//! The payout plan: who gets how many satoshis of one block, exactly.
//!
//! Weights are split by cumulative floor in script order, so the parts sum to the reward and nobody
//! owns the rounding. What is below the minimum or does not fit the coinbase is carried as credit,
//! and every satoshi of credit is backed by the reserve output of the same coinbase. Old credit is
//! paid only out of value that this block does not place otherwise. The reference model is `ppa1`
//! (spec of the accounting, §2.4); its vectors are `tests/vectors/ppa-1.json`.

use crate::commitment::Commitment;
use bitcoin::{Amount, Script, ScriptBuf, TxOut};
use ruint::aliases::U256;
use std::collections::BTreeMap;
use stratum::class::SizeClass;
use stratum::target::Work;

/// Basis points of the whole.
const WHOLE_BP: u32 = 10_000;
/// Smallest minimum payout in satoshis: below it outputs are dust to every node.
pub const MIN_PAYOUT_MIN: u64 = 546;
/// Donations a pool may name.
pub const DONATIONS_MAX: usize = 16;

/// How a reward is split, as the operator has set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// The operator's fee in basis points of the coinbase value.
    pub fee_bp: u16,
    /// Where the fee goes; not looked at if `fee_bp` is 0.
    pub fee_script: ScriptBuf,
    /// Further parts of the coinbase value.
    pub donations: Vec<Donation>,
    /// Smallest output to a miner, in satoshis.
    pub min_payout: u64,
    /// Holds what is owed but not paid in the coinbase.
    pub reserve_script: ScriptBuf,
}

/// A part of the coinbase value that goes to a named script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Donation {
    /// Basis points of the coinbase value.
    pub bp: u16,
    /// Who gets it.
    pub script: ScriptBuf,
}

/// Why [`Params`] cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamsError {
    /// More than the whole reward.
    #[error("fee and donations are {0} basis points together: at most 10000")]
    OverWhole(u32),
    /// More donations than [`DONATIONS_MAX`].
    #[error("{0} donations: at most 16")]
    TooManyDonations(usize),
    /// Below [`MIN_PAYOUT_MIN`].
    #[error("minimum payout is {0} satoshis: at least 546, or nodes drop the block's outputs as dust")]
    MinPayout(u64),
    /// A script that must pay is empty or too long.
    #[error("the {0} script is empty or longer than 252 bytes: give an address")]
    Script(&'static str),
}

impl Params {
    /// Checks what the operator has set.
    ///
    /// # Errors
    /// The first thing that is wrong, with its remedy.
    pub fn check(&self) -> Result<(), ParamsError> {
        let bad = |script: &ScriptBuf| script.is_empty() || script.len() > SCRIPT_BYTES_MAX;
        if self.taken_bp() > WHOLE_BP {
            return Err(ParamsError::OverWhole(self.taken_bp()));
        }
        if self.donations.len() > DONATIONS_MAX {
            return Err(ParamsError::TooManyDonations(self.donations.len()));
        }
        if self.min_payout < MIN_PAYOUT_MIN {
            return Err(ParamsError::MinPayout(self.min_payout));
        }
        if self.fee_bp > 0 && bad(&self.fee_script) {
            return Err(ParamsError::Script("fee"));
        }
        if bad(&self.reserve_script) {
            return Err(ParamsError::Script("reserve"));
        }
        if self.donations.iter().any(|donation| bad(&donation.script)) {
            return Err(ParamsError::Script("donation"));
        }
        Ok(())
    }

    fn taken_bp(&self) -> u32 {
        u32::from(self.fee_bp) + self.donations.iter().map(|donation| u32::from(donation.bp)).sum::<u32>()
    }
}

/// Longest script that is paid, in bytes: its length takes one byte in an output.
pub(crate) const SCRIPT_BYTES_MAX: usize = 252;

/// What the coinbase has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes for miner outputs.
    pub out_bytes: u32,
    /// Whether fee and donations are outputs; otherwise they become credits of their scripts.
    pub fee_inline: bool,
}

impl Room {
    /// The room of a class that leaves `out_bytes` for miners.
    pub fn of(class: SizeClass, out_bytes: u32) -> Self {
        Self { out_bytes, fee_inline: class.fee_inline() }
    }
}

/// The outputs that a class holds beside miners and the witness commitment; their values do not matter.
pub fn fixed_outputs(params: &Params, class: SizeClass) -> Vec<TxOut> {
    let to = |script: &ScriptBuf| TxOut { value: Amount::ZERO, script_pubkey: script.clone() };
    let mut outputs = vec![to(&params.reserve_script), Commitment([0; 32]).output()];
    if class.fee_inline() {
        outputs.extend(params.donations.iter().map(|donation| to(&donation.script)));
        outputs.extend((params.fee_bp > 0).then(|| to(&params.fee_script)));
    }
    outputs
}

/// What one coinbase pays and what it changes in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Miners by amount due, donations, fee, reserve; sums to the coinbase value, none is zero.
    pub outputs: Vec<TxOut>,
    /// How many of the outputs pay miners.
    pub miners: usize,
    /// Credits once the block is in the chain, in satoshis; none is zero.
    pub credit_after: BTreeMap<ScriptBuf, u64>,
    /// Change of each credit, in script order; none is zero.
    pub credit_delta: Vec<(ScriptBuf, i64)>,
    /// Value of the reserve output: what the credits grow by in all.
    pub reserve: Amount,
    /// The operator's fee: ⌊value · fee_bp / 10,000⌋.
    pub fee: Amount,
}

/// Bytes of an output to `script` in a transaction.
fn output_bytes(script: &Script) -> u32 {
    assert!(script.len() <= SCRIPT_BYTES_MAX, "payees are standard scripts");
    8 + 1 + script.len() as u32 // at most 252
}

/// ⌊value · part / whole⌋, where part ≤ whole.
fn share_of(value: u64, part: u128, whole: u128) -> u64 {
    let exact = U256::from(value) * U256::from(part) / U256::from(whole);
    exact.try_into().expect("a part of a 64-bit value")
}

/// One payee's side of a plan, in satoshis.
struct Due<'a> {
    script: &'a ScriptBuf,
    /// Part of this block.
    entitled: u64,
    /// Owed from before.
    credit: u64,
    paid: u64,
}

impl Due<'_> {
    fn due(&self) -> u64 {
        self.entitled + self.credit
    }
}

/// Splits a coinbase value. `None` if nobody has any weight: then each connection's job pays its own
/// payee; never the operator.
///
/// # Panics
/// If `params` do not pass [`Params::check`]'s limits, or a sum is not what it must be: no plan is
/// better than a wrong one.
pub fn plan(
    value: Amount,
    weights: &BTreeMap<ScriptBuf, Work>,
    credits: &BTreeMap<ScriptBuf, u64>,
    params: &Params,
    room: Room,
) -> Option<Plan> {
    assert!(params.taken_bp() <= WHOLE_BP, "fee and donations are at most the whole");
    let value = value.to_sat();
    let bp = |bp: u16| share_of(value, bp.into(), WHOLE_BP.into());
    let fee = bp(params.fee_bp);
    let donations = params.donations.iter().map(|donation| (&donation.script, bp(donation.bp)));
    let extra: Vec<_> = donations.chain([(&params.fee_script, fee)]).filter(|(_, sats)| *sats > 0).collect();
    let for_miners = value - extra.iter().map(|(_, sats)| sats).sum::<u64>();

    let mut dues = dues(for_miners, weights, credits)?;
    let paid = select(&mut dues, for_miners, params.min_payout, room.out_bytes);
    let mut reserve = for_miners - paid.iter().map(|&at| dues[at].paid).sum::<u64>();
    let mut outputs: Vec<_> = paid.iter().map(|&at| (dues[at].script, dues[at].paid)).collect();
    let mut after: BTreeMap<ScriptBuf, u64> = dues
        .iter()
        .filter(|due| due.due() > due.paid)
        .map(|due| (due.script.clone(), due.due() - due.paid))
        .collect();
    let miners = outputs.len();
    for (script, sats) in extra {
        if room.fee_inline {
            outputs.push((script, sats));
        } else {
            *after.entry(script.clone()).or_default() += sats;
            reserve += sats;
        }
    }
    if reserve > 0 {
        outputs.push((&params.reserve_script, reserve));
    }
    let output = |(script, sats): (&ScriptBuf, u64)| TxOut {
        value: Amount::from_sat(sats),
        script_pubkey: script.clone(),
    };
    let plan = Plan {
        outputs: outputs.into_iter().map(output).collect(),
        miners,
        credit_delta: delta(credits, &after),
        credit_after: after,
        reserve: Amount::from_sat(reserve),
        fee: Amount::from_sat(fee),
    };
    plan.assert_sums(value, credits);
    Some(plan)
}

impl Plan {
    /// Money neither appears nor vanishes: checked on every plan, in release too.
    fn assert_sums(&self, value: u64, before: &BTreeMap<ScriptBuf, u64>) {
        let paid: u64 = self.outputs.iter().map(|output| output.value.to_sat()).sum();
        assert_eq!(paid, value, "outputs sum to the coinbase value");
        let sum =
            |credits: &BTreeMap<ScriptBuf, u64>| credits.values().map(|sats| u128::from(*sats)).sum::<u128>();
        let grown = sum(before) + u128::from(self.reserve.to_sat());
        assert_eq!(sum(&self.credit_after), grown, "credits grow by the reserve output");
    }
}

/// Entitlement and credit of everybody who has either, in script order; `None` without any weight.
fn dues<'a>(
    for_miners: u64,
    weights: &'a BTreeMap<ScriptBuf, Work>,
    credits: &'a BTreeMap<ScriptBuf, u64>,
) -> Option<Vec<Due<'a>>> {
    let whole =
        weights.values().try_fold(0_u128, |sum, work| sum.checked_add(work.0)).expect("work fits 128 bits");
    if whole == 0 {
        return None;
    }
    let (mut reached, mut placed) = (0_u128, 0_u64);
    let mut dues: Vec<Due<'a>> = Vec::with_capacity(weights.len() + credits.len());
    let mut owed = credits.iter().filter(|(_, sats)| **sats > 0).peekable();
    let carried = |(script, &credit): (&'a ScriptBuf, &u64)| Due { script, entitled: 0, credit, paid: 0 };
    for (script, work) in weights.iter().filter(|(_, work)| work.0 > 0) {
        while let Some(only_credit) = owed.next_if(|(other, _)| *other < script) {
            dues.push(carried(only_credit));
        }
        reached += work.0;
        let upto = share_of(for_miners, reached, whole);
        let credit = owed.next_if(|(other, _)| *other == script).map_or(0, |(_, sats)| *sats);
        dues.push(Due { script, entitled: upto - placed, credit, paid: 0 });
        placed = upto;
    }
    dues.extend(owed.map(carried));
    assert_eq!(placed, for_miners, "entitlements sum to the miners' part");
    Some(dues)
}

/// Decides who is paid and how much; the indexes of those, by amount due.
fn select(dues: &mut [Due<'_>], for_miners: u64, min_payout: u64, out_bytes: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..dues.len()).filter(|&at| dues[at].due() >= min_payout).collect();
    // Equal amounts stay in script order: the sort is stable and `dues` is in script order.
    order.sort_by_key(|&at| std::cmp::Reverse(dues[at].due()));
    let mut room = out_bytes;
    // A strict prefix: who is owed less never goes before who is owed more.
    let fitting = order.iter().take_while(|&&at| {
        let rest = room.checked_sub(output_bytes(dues[at].script));
        room = rest.unwrap_or(room);
        rest.is_some()
    });
    let mut chosen: Vec<usize> = fitting.copied().collect();
    let mut placed: u64 = chosen.iter().map(|&at| dues[at].entitled).sum();
    loop {
        let mut free = for_miners - placed;
        let mut last_below = None;
        for (nth, &at) in chosen.iter().enumerate() {
            let due = &mut dues[at];
            let credit = due.credit.min(free);
            free -= credit;
            due.paid = due.entitled + credit;
            if due.paid < min_payout {
                last_below = Some(nth);
            }
        }
        let Some(nth) = last_below else { return chosen };
        let removed = chosen.remove(nth);
        dues[removed].paid = 0;
        placed -= dues[removed].entitled;
    }
}

/// What changes between two states of the ledger, in script order.
fn delta(before: &BTreeMap<ScriptBuf, u64>, after: &BTreeMap<ScriptBuf, u64>) -> Vec<(ScriptBuf, i64)> {
    let signed = |sats: u64| i64::try_from(sats).expect("there are less than 2^51 satoshis");
    let mut change: BTreeMap<&ScriptBuf, i64> =
        before.iter().map(|(script, sats)| (script, -signed(*sats))).collect();
    for (script, sats) in after {
        *change.entry(script).or_default() += signed(*sats);
    }
    change.into_iter().filter(|(_, sats)| *sats != 0).map(|(script, sats)| (script.clone(), sats)).collect()
}

#[cfg(test)]
mod tests;
