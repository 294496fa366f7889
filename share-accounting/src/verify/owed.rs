//! What a job has to pay whatever is owed: for jobs whose ledger is that of a block that no share of the log solves.

use super::lie::Lie;
use super::survey::Claim;
use crate::books::Books;
use crate::entry::Params;
use crate::payout::{self, Room};
use bitcoin::{Amount, ScriptBuf, TxOut};
use std::collections::BTreeMap;
use stratum::target::Work;

/// The part of a payout that follows from the window alone.
#[derive(Debug)]
pub(super) struct WithoutLedger {
    /// What each miner of the window gets of this block, if it is paid at all; old credit comes on top.
    entitled: BTreeMap<ScriptBuf, Amount>,
    /// Donations and the fee: behind the miners.
    beside: Vec<TxOut>,
    reserve_script: ScriptBuf,
}

impl WithoutLedger {
    /// Of a job that claims to pay this window.
    ///
    /// # Errors
    /// There is no window.
    pub fn of(claim: &Claim, weights: &BTreeMap<ScriptBuf, Work>, params: &Params) -> Result<Self, Lie> {
        // With room for everybody and nothing owed, each is paid its part of the window.
        let everybody = payout::Params { min_payout: 0, ..params.split.clone() };
        let room = Room { out_bytes: u32::MAX, fee_inline: true };
        let value = Amount::from_sat(claim.value);
        let plan =
            payout::plan(value, weights, &BTreeMap::new(), &everybody, room).ok_or(Lie::EmptyWindow)?;
        let mut outputs = plan.outputs;
        let beside = outputs.split_off(plan.miners);
        let entitled = outputs.into_iter().map(|output| (output.script_pubkey, output.value)).collect();
        // Where they are no outputs, they are owed, and so in the reserve.
        let beside = if claim.class.fee_inline() { beside } else { Vec::new() };
        Ok(Self { entitled, beside, reserve_script: params.split.reserve_script.clone() })
    }

    /// Whether any ledger gives these outputs.
    ///
    /// # Errors
    /// Why none does.
    pub fn check(&self, outputs: &[TxOut], books: &Books) -> Result<(), Lie> {
        let lie = |what: String| Err(Lie::WithoutLedger(what));
        let without_reserve =
            outputs.split_last().filter(|(last, _)| last.script_pubkey == self.reserve_script);
        let miners = outputs
            .strip_suffix(&self.beside[..])
            .or_else(|| without_reserve?.1.strip_suffix(&self.beside[..]));
        let Some(miners) = miners else {
            return lie("the operator's fee and the donations are not what the rules give".to_owned());
        };
        // Where the fee is in the reserve, that is the last output.
        let miners = match miners.split_last() {
            Some((last, others)) if last.script_pubkey == self.reserve_script => others,
            _ => miners,
        };
        for TxOut { value, script_pubkey: script } in miners {
            match self.entitled.get(script) {
                Some(entitled) if value < entitled => {
                    let (paid, entitled) = (value.to_sat(), entitled.to_sat());
                    return lie(format!(
                        "script {script:x} gets {paid} satoshis where its part of the window alone is {entitled}"
                    ));
                }
                None if !may_be_owed(script, books) => {
                    return lie(format!(
                        "script {script:x} is paid {} satoshis, and nothing can be owed to it",
                        value.to_sat()
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a credit can be this script's: a share was booked to it, or to one that has moved to it, or the rules give it
/// something.
fn may_be_owed(script: &ScriptBuf, books: &Books) -> bool {
    let split = books.params.as_ref().map(|params| &params.split);
    let by_the_rules = split.is_some_and(|split| {
        let donations = split.donations.iter().map(|donation| &donation.script);
        donations.chain([&split.fee_script]).any(|named| named == script)
    });
    by_the_rules || books.registry.knows(script) || books.moves.names(script)
}
