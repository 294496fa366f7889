//! Payees that have moved to another address. Pure.
//!
//! A move is for good: an address moves once in a log, and nobody moves to one that has left itself. So a signature
//! cannot be used again, there are no circles, and whoever is paid in the end is known at once. Nothing in the log is
//! rewritten: work and credits stay where they were booked, and are gathered under the new address when something is
//! computed from them.

use crate::bip322::{self, Unsigned};
use crate::entry::Move;
use bitcoin::hex::DisplayHex;
use bitcoin::{Address, Network, Script, ScriptBuf};
use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::Arc;
use stratum::payee::can_be_paid;

/// Moves in a row: whoever has a share in the log can add as many entries to it, and no more.
pub const HOPS_MAX: usize = 16;

/// Who is paid in whose place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moves {
    /// By the old script: the newest one.
    moved: BTreeMap<ScriptBuf, ScriptBuf>,
    /// By the newest one.
    arrived: BTreeMap<ScriptBuf, Arrived>,
    /// The log that all of them are signed for.
    log_id: Option<[u8; 16]>,
}

/// Who is paid at an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Arrived {
    old: Vec<ScriptBuf>,
    /// Moves in a row that have led there, the fewest: so nobody can make them more for others.
    hops: usize,
}

/// Why a payee does not move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// Such a script cannot sign, or be paid.
    #[error("{0} is no address")]
    NoAddress(&'static str),
    /// What it pays could be paid twice: who is paid then is judged by the address that it names.
    #[error("a settlement is paying the old address: ask again when that is done")]
    BeingPaid,
    /// There is no way back.
    #[error("{0} has moved to another one already, for good")]
    HasMoved(&'static str),
    /// Nothing would change.
    #[error("the old and the new address are the same")]
    Same,
    /// Moves of one log are signed for that log.
    #[error("it was signed for another log")]
    OtherLog,
    /// It is not the old address's owner who wants this.
    #[error(transparent)]
    Unsigned(#[from] Unsigned),
}

/// What the owner of the old address signs (BIP 322): one line, as wallets show it.
pub fn message(log_id: &[u8; 16], from: &Address, to: &Address) -> String {
    format!(
        "Sluice log {}: pay to {to} from now on, for good, whatever is owed to {from}",
        log_id.to_lower_hex_string()
    )
}

impl Moves {
    /// None yet, of this log, if it is known which that is; else the first one says so.
    pub fn of(log_id: Option<[u8; 16]>) -> Self {
        Self { log_id, ..Self::default() }
    }

    /// Whether a payee may move.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, moved: &Move, network: Network) -> Result<(), MoveError> {
        let Move { log_id, from, to, signature } = moved;
        let (old, new) = self.check_addresses(from, to, network)?;
        if self.log_id.is_some_and(|known| known != *log_id) {
            return Err(MoveError::OtherLog);
        }
        Ok(bip322::verify(&old, &message(log_id, &old, &new), signature)?)
    }

    /// The addresses, if a payee can move from one to the other once that is signed.
    ///
    /// # Errors
    /// Why not.
    pub fn check_addresses(
        &self,
        from: &ScriptBuf,
        to: &ScriptBuf,
        network: Network,
    ) -> Result<(Address, Address), MoveError> {
        let address = |script: &ScriptBuf, which| {
            let address = Address::from_script(script, network).ok().filter(|_| can_be_paid(script));
            address.ok_or(MoveError::NoAddress(which))
        };
        let (old, new) = (address(from, "the old one")?, address(to, "the new one")?);
        if from == to {
            return Err(MoveError::Same);
        }
        for (script, which) in [(from, "the old address"), (to, "the new address")] {
            if self.moved.contains_key(script) {
                return Err(MoveError::HasMoved(which));
            }
        }
        Ok((old, new))
    }

    /// Takes a move that was checked. Whether the old address is `known` by itself: then moves are counted anew from it.
    pub fn note(&mut self, moved: &Move, known: bool) {
        self.log_id = Some(moved.log_id);
        let Arrived { mut old, hops } = self.arrived.remove(&moved.from).unwrap_or_default();
        old.push(moved.from.clone());
        for old in &old {
            self.moved.insert(old.clone(), moved.to.clone());
        }
        let hops = if known { 1 } else { hops + 1 };
        let arrived =
            self.arrived.entry(moved.to.clone()).or_insert_with(|| Arrived { old: Vec::new(), hops });
        arrived.old.append(&mut old);
        arrived.hops = arrived.hops.min(hops);
    }

    /// How many moves in a row have led to an address, at the fewest; `None` if nobody is paid there who had another one.
    pub fn hops(&self, script: &Script) -> Option<usize> {
        self.arrived.get(script).map(|arrived| arrived.hops)
    }

    /// The log that they are signed for; `None` if there are none and it is not known.
    pub fn log_id(&self) -> Option<[u8; 16]> {
        self.log_id
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.moved.len()
    }

    /// Whether nobody has moved.
    pub fn is_empty(&self) -> bool {
        self.moved.is_empty()
    }

    /// Who is paid for a script: itself, unless it has moved.
    pub fn payee<'a>(&'a self, script: &'a Script) -> &'a Script {
        self.moved.get(script).map_or(script, ScriptBuf::as_script)
    }

    /// Whether somebody has moved from or to a script.
    pub fn names(&self, script: &ScriptBuf) -> bool {
        self.moved.contains_key(script) || self.moved.values().any(|newest| newest == script)
    }

    /// Sums by who is paid.
    pub fn gathered<'a, T>(
        &self,
        sums: impl IntoIterator<Item = (&'a ScriptBuf, T)>,
    ) -> BTreeMap<ScriptBuf, T>
    where
        T: AddAssign + Default,
    {
        let mut gathered = BTreeMap::<ScriptBuf, T>::new();
        for (script, sum) in sums {
            *gathered.entry(self.payee(script).to_owned()).or_default() += sum;
        }
        gathered
    }

    /// Credits by who is paid.
    pub fn credits(&self, credits: &Arc<BTreeMap<ScriptBuf, u64>>) -> Arc<BTreeMap<ScriptBuf, u64>> {
        if credits.keys().all(|script| !self.moved.contains_key(script)) {
            return credits.clone();
        }
        Arc::new(self.gathered(credits.iter().map(|(script, sats)| (script, *sats))))
    }
}

#[cfg(test)]
mod tests;
