//! Settlements: credits paid from the reserve, by a transaction that whoever holds the reserve's key signs. Pure.
//!
//! - [`propose`]: which credits are paid, and from which outputs. Nobody chooses: it follows from the ledger at two
//!   blocks of one chain and from the settlements before.
//! - [`Settlements`]: what the log's entries say of them. From its entry on a settlement's credits are locked: no
//!   coinbase pays them any more, whatever becomes of its transaction. They are owed again only when it is withdrawn
//!   before anybody could sign it, or when it has failed for good.
//! - [`Settlement::transaction`]: the one that pays it
//!
//! What was owed is the ledger's, and its blocks'. A settlement takes as much from the credits as from the reserve, so
//! credits that are not locked and outputs that are not spent remain equal, to the satoshi, unless something else spends
//! the reserve.

use crate::entry::{ChainEvent, Params, Reserve, Settlement};
use crate::moves::Moves;
use crate::payout::MIN_PAYOUT_MIN;
use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Credits in satoshis, by script.
pub type Credits = BTreeMap<ScriptBuf, u64>;

/// Most credits of one settlement. With [`RESERVES_MAX`] inputs its transaction has less than 100,000 virtual bytes,
/// the most that nodes pass on.
pub const CREDITS_MAX: usize = 1_000;
/// Most reserve outputs that one settlement spends.
pub const RESERVES_MAX: usize = 100;
/// Blocks of a settlement that are remembered: it comes back after a reorganisation, and there are few of them.
pub const SEEN_IN_MAX: usize = 8;
/// Basis points of the whole.
const WHOLE_BP: u64 = 10_000;
/// The largest [`Params::settlement_fee_bp`], a tenth; an entry with more does not decode.
pub const FEE_BP_MAX: u16 = 1_000;

/// What has become of a settlement, as the log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits for its transaction to be in a block.
    Open,
    /// It is in this block, by this name.
    Paid {
        /// The block.
        block: BlockHash,
        /// The transaction.
        txid: Txid,
    },
    /// Taken back before anybody could sign it: its credits are owed again, its outputs are there.
    Withdrawn,
    /// Something else has spent an output of it: its credits are owed again, and the other outputs can be used again.
    Failed {
        /// Which of its outputs are spent, a bit for each.
        spent: u128,
    },
}

impl State {
    /// The state's name, for people and programs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Paid { .. } => "paid",
            Self::Withdrawn => "withdrawn",
            Self::Failed { .. } => "failed",
        }
    }
}

/// A settlement of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// What it pays.
    pub settlement: Settlement,
    /// Where the rest of its reserve goes: the rules of its time.
    pub reserve_script: ScriptBuf,
    /// What has become of it.
    pub state: State,
    /// The blocks that its transaction has been in, the newest ones, at most [`SEEN_IN_MAX`].
    pub seen_in: Vec<(BlockHash, Txid)>,
}

impl Made {
    /// The outputs that something else has spent, as the log says: none unless it has failed.
    pub fn lost(&self) -> impl Iterator<Item = &Reserve> {
        let spent = match self.state {
            State::Failed { spent } => spent,
            State::Open | State::Paid { .. } | State::Withdrawn => 0,
        };
        let places = self.settlement.reserve.iter().enumerate();
        places.filter(move |(place, _)| spent >> place & 1 == 1).map(|(_, reserve)| reserve)
    }
}

/// All settlements of a log, by their entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settlements {
    made: BTreeMap<u64, Arc<Made>>,
    /// What no coinbase pays any more; none is zero.
    locked: Arc<Credits>,
    /// Outputs that are spent, or are to be.
    used: BTreeSet<OutPoint>,
    /// What those that are paid have left, by their entries; what is used again is there, too.
    rests: BTreeMap<u64, Reserve>,
}

/// Which credits are paid from which outputs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proposal {
    /// As [`Settlement::credits`].
    pub credits: Vec<(ScriptBuf, u64)>,
    /// As [`Settlement::reserve`].
    pub reserve: Vec<Reserve>,
    /// All that could be paid, were the outputs enough, in satoshis.
    pub owed: u64,
}

impl Proposal {
    /// Whether so much is owed that there is a settlement.
    pub fn is_due(&self, params: &Params) -> bool {
        self.owed >= params.settlement_at_least
    }
}

impl Settlements {
    /// Whether a settlement can be the next one.
    ///
    /// # Errors
    /// What is wrong with it in itself, or beside those before.
    pub fn check_next(&self, settlement: &Settlement, params: Option<&Params>) -> Result<(), &'static str> {
        if self.open().is_some() {
            return Err("a settlement while another one is open");
        }
        check(settlement, params.ok_or("a settlement before there are rules")?)?;
        if settlement.reserve.iter().any(|reserve| self.used.contains(&reserve.outpoint)) {
            return Err("a settlement spends what another one has spent");
        }
        let locked = |script| self.locked.get(script).copied().unwrap_or(0);
        if settlement.credits.iter().any(|(script, sats)| locked(script).checked_add(*sats).is_none()) {
            return Err("more is settled than there is");
        }
        Ok(())
    }

    /// Takes a settlement's entry.
    ///
    /// # Errors
    /// As [`Settlements::check_next`]; then nothing has changed.
    pub fn begin(
        &mut self,
        index: u64,
        settlement: &Settlement,
        params: Option<&Params>,
    ) -> Result<(), &'static str> {
        self.check_next(settlement, params)?;
        let locked = Arc::make_mut(&mut self.locked);
        for (script, sats) in &settlement.credits {
            *locked.entry(script.clone()).or_default() += sats;
        }
        self.used.extend(settlement.reserve.iter().map(|reserve| reserve.outpoint));
        let reserve_script = params.expect("checked just above").split.reserve_script.clone();
        let (settlement, state, seen_in) = (settlement.clone(), State::Open, Vec::new());
        self.made.insert(index, Arc::new(Made { settlement, reserve_script, state, seen_in }));
        Ok(())
    }

    /// What an event says has become of a settlement; others say nothing.
    ///
    /// # Errors
    /// There is no such settlement, or that cannot become of it.
    pub fn check_event(&self, event: &ChainEvent) -> Result<Option<(u64, State)>, &'static str> {
        let (index, state) = match *event {
            ChainEvent::SettlementPaid { settlement, block, txid } => {
                (settlement, State::Paid { block, txid })
            }
            ChainEvent::SettlementWithdrawn { settlement } => (settlement, State::Withdrawn),
            ChainEvent::SettlementFailed { settlement, spent } => (settlement, State::Failed { spent }),
            _ => return Ok(None),
        };
        let made = self.made.get(&index).ok_or("an event of a settlement that is none")?;
        match (made.state, state) {
            (State::Open | State::Paid { .. }, State::Failed { spent }) => {
                let is_of_its_outputs = spent != 0 && spent >> made.settlement.reserve.len() == 0;
                is_of_its_outputs
                    .then_some(Some((index, state)))
                    .ok_or("a settlement fails for the spending of outputs that are not its own")
            }
            (State::Open | State::Paid { .. }, State::Paid { .. }) | (State::Open, State::Withdrawn) => {
                Ok(Some((index, state)))
            }
            _ => Err("that cannot become of a settlement"),
        }
    }

    /// Takes what an event says of a settlement.
    ///
    /// # Errors
    /// As [`Settlements::check_event`]; then nothing has changed.
    pub fn note(&mut self, event: &ChainEvent) -> Result<(), &'static str> {
        let Some((index, state)) = self.check_event(event)? else { return Ok(()) };
        let made = Arc::make_mut(self.made.get_mut(&index).expect("checked just above"));
        made.state = state;
        match state {
            State::Paid { block, txid } => {
                made.seen_in.push((block, txid));
                if made.seen_in.len() > SEEN_IN_MAX {
                    made.seen_in.remove(0);
                }
                self.rests.extend(made.settlement.rest(txid).map(|rest| (index, rest)));
            }
            State::Withdrawn | State::Failed { .. } => {
                self.rests.remove(&index);
                // What is not spent can be spent again.
                for reserve in &made.settlement.reserve {
                    self.used.remove(&reserve.outpoint);
                }
                self.used.extend(made.lost().map(|reserve| reserve.outpoint));
                let locked = Arc::make_mut(&mut self.locked);
                for (script, sats) in &made.settlement.credits {
                    let sum = locked.get_mut(script).expect("its entry has locked it");
                    *sum -= sats;
                    if *sum == 0 {
                        locked.remove(script);
                    }
                }
            }
            State::Open => unreachable!("no event says so"),
        }
        Ok(())
    }

    /// What no coinbase pays: the credits of all settlements that have not come to nothing, by the scripts that they name.
    pub fn locked(&self) -> &Arc<Credits> {
        &self.locked
    }

    /// All of them, by their entries.
    pub fn all(&self) -> &BTreeMap<u64, Arc<Made>> {
        &self.made
    }

    /// The one that waits for its transaction to be in a block.
    pub fn open(&self) -> Option<(u64, &Made)> {
        // There is no other behind it.
        let (index, made) = self.made.last_key_value()?;
        (made.state == State::Open).then_some((*index, made))
    }

    /// Of the pool's `reserves`, and of what settlements that are paid have left over, all that a new one can spend: the
    /// largest first, and the oldest of equal ones, so that few are enough.
    fn free(&self, reserves: impl IntoIterator<Item = Reserve>) -> Vec<Reserve> {
        let all = reserves.into_iter().chain(self.rests.values().copied());
        let mut free: Vec<_> = all.filter(|reserve| !self.used.contains(&reserve.outpoint)).collect();
        free.sort_by_key(|reserve| Reverse(reserve.sats));
        free
    }
}

/// What a coinbase can pay: what is owed, less what is locked. Nothing where more is locked than owed: then the
/// settlement is on its way to be withdrawn.
pub fn payable(owed: &Credits, locked: &Credits) -> Credits {
    let left = |(script, sats): (&ScriptBuf, &u64)| {
        let sats = sats.saturating_sub(locked.get(script).copied().unwrap_or(0));
        (sats > 0).then(|| (script.clone(), sats))
    };
    owed.iter().filter_map(left).collect()
}

/// The largest fee for credits of this sum, in satoshis.
pub fn fee_max(credits: u64, fee_bp: u16) -> u64 {
    let exact = u128::from(credits) * u128::from(fee_bp) / u128::from(WHOLE_BP);
    u64::try_from(exact).expect("a part of a 64-bit number")
}

/// What can be settled: of each script what was owed to it at the `matured` block and still is at the newest one, if
/// that is enough for an output, in script order. Who is owed more than is left of the outputs waits for the next one:
/// these are the largest of `reserves`, the pool's blocks up to the matured one, oldest first, and of what earlier
/// settlements have left. `None` if nothing can be paid. Credits are by who is paid when these payees have moved.
pub fn propose(
    matured: &Credits,
    newest: &Credits,
    reserves: impl IntoIterator<Item = Reserve>,
    before: &Settlements,
    moves: &Moves,
    params: &Params,
) -> Option<Proposal> {
    let locked = moves.credits(&before.locked);
    let still = |(script, sats): (&ScriptBuf, &u64)| {
        let sats = newest.get(script)?.min(sats);
        let locked = locked.get(script).copied().unwrap_or(0);
        Some((script.clone(), sats.saturating_sub(locked))).filter(|(_, sats)| is_enough(*sats, params))
    };
    let owed: Vec<_> = matured.iter().filter_map(still).take(CREDITS_MAX).collect();
    let wanted: u64 = owed.iter().map(|(_, sats)| sats).sum();
    let (mut reserve, mut there) = (Vec::new(), 0_u64);
    for output in before.free(reserves).into_iter().take(RESERVES_MAX) {
        if there >= wanted {
            break;
        }
        there += output.sats;
        reserve.push(output);
    }
    let mut left = there;
    let mut credits: Vec<_> = owed
        .into_iter()
        .filter(|(_, sats)| {
            let rest = left.checked_sub(*sats);
            left = rest.unwrap_or(left);
            rest.is_some()
        })
        .collect();
    // What is left over is an output, too, and nodes drop small ones.
    if (1..MIN_PAYOUT_MIN).contains(&left) {
        credits.pop();
    }
    (!credits.is_empty()).then_some(Proposal { credits, reserve, owed: wanted })
}

/// Whether a credit is paid: by the rules, and so that nodes pass its output on, whatever the fee.
fn is_enough(sats: u64, params: &Params) -> bool {
    let fee = fee_max(sats, params.settlement_fee_bp) + 1;
    sats >= params.split.min_payout && sats.saturating_sub(fee) >= MIN_PAYOUT_MIN
}

/// What can be said of a settlement without the ledger.
fn check(settlement: &Settlement, params: &Params) -> Result<(), &'static str> {
    let Settlement { fee, credits, reserve, .. } = settlement;
    if !(1..=CREDITS_MAX).contains(&credits.len()) || !(1..=RESERVES_MAX).contains(&reserve.len()) {
        return Err("a settlement of nothing, or of more than one transaction holds");
    }
    if !credits.is_sorted_by(|(one, _), (next, _)| one < next) {
        return Err("the credits of a settlement are not in script order");
    }
    if !credits.iter().all(|(_, sats)| is_enough(*sats, params)) {
        return Err("a settlement pays a credit that is too small");
    }
    let outpoints: BTreeSet<OutPoint> = reserve.iter().map(|reserve| reserve.outpoint).collect();
    if outpoints.len() < reserve.len() {
        return Err("a settlement spends an output twice");
    }
    let paid = sum(credits.iter().map(|(_, sats)| *sats)).ok_or("more is settled than there is")?;
    let spent = sum(reserve.iter().map(|reserve| reserve.sats)).ok_or("more is spent than there is")?;
    let left = spent.checked_sub(paid).ok_or("a settlement pays more than it spends")?;
    if (1..MIN_PAYOUT_MIN).contains(&left) {
        return Err("a settlement leaves an output that is too small");
    }
    if *fee > fee_max(paid, params.settlement_fee_bp) {
        return Err("a settlement's fee is more than the rules allow");
    }
    Ok(())
}

/// `None` if that is more than there is.
fn sum(mut sats: impl Iterator<Item = u64>) -> Option<u64> {
    sats.try_fold(0_u64, u64::checked_add).filter(|sum| *sum <= Amount::MAX_MONEY.to_sat())
}

impl Settlement {
    /// What it takes away from credits, in satoshis.
    pub fn total(&self) -> u64 {
        self.credits.iter().map(|(_, sats)| sats).sum()
    }

    /// What it leaves of the reserve, in satoshis: the last output, if it is not 0.
    fn left(&self) -> u64 {
        self.reserve.iter().map(|reserve| reserve.sats).sum::<u64>() - self.total()
    }

    /// What is left of the reserve, if anything is, once the transaction is in a block by this name.
    pub fn rest(&self, txid: Txid) -> Option<Reserve> {
        let vout = u32::try_from(self.credits.len()).expect("at most 1,000");
        let sats = self.left();
        (sats > 0).then_some(Reserve { outpoint: OutPoint { txid, vout }, sats })
    }

    /// The transaction without signatures: the outputs of the reserve in their order, to each script its credit less
    /// its part of the fee, ⌊fee · C_i / C⌋ − ⌊fee · C_{i−1} / C⌋ where C_i is the sum up to there, and the rest back.
    ///
    /// # Panics
    /// If the sums do not agree; a settlement that [`Settlements::begin`] has taken is whole.
    pub fn transaction(&self, reserve_script: &ScriptBuf) -> Transaction {
        let input = |reserve: &Reserve| TxIn {
            previous_output: reserve.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        };
        let total = self.total();
        let (mut reached, mut borne) = (0, 0);
        let mut outputs: Vec<_> = self
            .credits
            .iter()
            .map(|(script, sats)| {
                reached += sats;
                let upto = u128::from(self.fee) * u128::from(reached) / u128::from(total);
                let upto = u64::try_from(upto).expect("a part of the fee");
                let value = Amount::from_sat(sats - (upto - borne));
                borne = upto;
                TxOut { value, script_pubkey: script.clone() }
            })
            .collect();
        let left = self.left();
        if left > 0 {
            outputs.push(TxOut { value: Amount::from_sat(left), script_pubkey: reserve_script.clone() });
        }
        let paid: u64 = outputs.iter().map(|output| output.value.to_sat()).sum();
        let spent: u64 = self.reserve.iter().map(|reserve| reserve.sats).sum();
        assert_eq!(paid + self.fee, spent, "outputs and fee sum to the reserve that is spent");
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: self.reserve.iter().map(input).collect(),
            output: outputs,
        }
    }

    /// Whether a transaction is this settlement's, whatever its signatures.
    pub fn is_paid_by(&self, transaction: &Transaction, reserve_script: &ScriptBuf) -> bool {
        let own = self.transaction(reserve_script);
        let spent = |transaction: &Transaction| {
            transaction.input.iter().map(|input| input.previous_output).collect::<BTreeSet<_>>()
        };
        own.output == transaction.output && spent(&own) == spent(transaction)
    }
}

#[cfg(test)]
mod tests;
