//! A pool block as the ledger keeps it, and the fold of its credits. Pure.

use crate::moves::Moves;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash, Script, ScriptBuf, TxOut, Txid};
use std::collections::BTreeMap;

/// Confirmations after which a coinbase can be spent.
pub const MATURITY: u32 = 100;

/// What has become of a pool block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockState {
    /// A share met the network target.
    Solved,
    /// Sent to a node, no verdict yet.
    Submitted,
    /// On the best chain, fewer than [`MATURITY`] confirmations.
    InChain,
    /// On the best chain with [`MATURITY`] confirmations.
    Matured,
    /// The best chain has another block at its height.
    Orphaned,
    /// A node found it invalid.
    Refused,
}

impl BlockState {
    /// All states.
    pub const ALL: [BlockState; 6] =
        [Self::Solved, Self::Submitted, Self::InChain, Self::Matured, Self::Orphaned, Self::Refused];

    /// The state's name in the database and in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Solved => "solved",
            Self::Submitted => "submitted",
            Self::InChain => "in_chain",
            Self::Matured => "matured",
            Self::Orphaned => "orphaned",
            Self::Refused => "refused",
        }
    }

    /// The state of a name.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.label() == label)
    }

    /// Whether a block may go from this state to `next`. Staying where it is is always fine.
    ///
    /// The chain has the last word: a block seen on the best chain is in it, whatever one node said
    /// of it before, and even a matured one leaves it if a reorganisation is that deep.
    pub fn may_become(self, next: Self) -> bool {
        use BlockState::{InChain, Matured, Orphaned, Refused, Solved, Submitted};
        self == next
            || match self {
                Solved => matches!(next, Submitted | InChain | Orphaned | Refused),
                Submitted => matches!(next, InChain | Orphaned | Refused),
                InChain => matches!(next, Matured | Orphaned),
                Matured => next == Orphaned,
                Orphaned | Refused => next == InChain,
            }
    }

    /// Whether the block's credits count.
    pub fn is_in_chain(self) -> bool {
        matches!(self, Self::InChain | Self::Matured)
    }
}

/// A block that the pool found, with everything its plan froze.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolBlock {
    /// Its hash.
    pub hash: BlockHash,
    /// Its height.
    pub height: u32,
    /// Its parent.
    pub prev_hash: BlockHash,
    /// When it was found, Unix milliseconds.
    pub found_unix_ms: u64,
    /// Coinbase outputs without the witness commitment.
    pub outputs: Vec<TxOut>,
    /// Change of each credit in satoshis, by script.
    pub credit_delta: Vec<(ScriptBuf, i64)>,
    /// Value of the reserve output.
    pub reserve: Amount,
    /// Its coinbase; blocks that earlier versions recorded have none.
    pub coinbase: Option<Txid>,
}

impl PoolBlock {
    /// Coinbase value: the sum of the outputs.
    ///
    /// # Panics
    /// On overflow: there are less than 2^51 satoshis.
    pub fn value(&self) -> Amount {
        let sum = self.outputs.iter().map(|output| output.value).try_fold(Amount::ZERO, Amount::checked_add);
        sum.expect("less than 21 million bitcoin")
    }

    /// Place of the reserve output in the coinbase, and itself, if there is one.
    pub fn reserve_output(&self) -> Option<(usize, &TxOut)> {
        // The last one with a value; behind it is the commitment to the log.
        let last = self.outputs.iter().enumerate().rfind(|(_, output)| output.value > Amount::ZERO);
        last.filter(|(_, output)| self.reserve > Amount::ZERO && output.value == self.reserve)
    }
}

/// The ledger at a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credits {
    /// Newest pool block that counts; all zeros if none does.
    pub block: BlockHash,
    /// What is owed, in satoshis, by who is paid; none is zero.
    pub by_script: BTreeMap<ScriptBuf, u64>,
}

/// Why blocks give no credits: they are not the pool's blocks of one chain, or their plans were wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Inconsistent {
    /// More was paid than was owed.
    #[error("the credit of script {script:x} adds up to {sats} satoshis")]
    Negative {
        /// Whose.
        script: ScriptBuf,
        /// Their sum.
        sats: i64,
    },
    /// Reserve outputs hold what is owed, to the satoshi.
    #[error("credits of {credits} satoshis stand against reserve outputs of {reserves} satoshis")]
    Unbacked {
        /// Sum of the credits.
        credits: u64,
        /// Sum of the reserves.
        reserves: u64,
    },
    /// There are less than 2^51 satoshis.
    #[error("the credits or the reserves add up to more satoshis than there are")]
    Overflow,
}

/// Sums the credits of the pool blocks that are on one chain, in any order given, by who is paid for them: a later block
/// may have paid what was owed to a payee's old address to the new one.
///
/// # Errors
/// A credit is negative, or they do not equal the reserves: nothing may be paid from such books.
pub fn fold<'a>(
    in_chain: impl IntoIterator<Item = &'a PoolBlock>,
    moves: &'a Moves,
) -> Result<Credits, Inconsistent> {
    let mut newest: Option<(u32, BlockHash)> = None;
    let mut sums: BTreeMap<&Script, i64> = BTreeMap::new();
    let mut reserves: u64 = 0;
    for block in in_chain {
        newest = newest.max(Some((block.height, block.hash)));
        reserves = reserves.checked_add(block.reserve.to_sat()).ok_or(Inconsistent::Overflow)?;
        for (script, delta) in &block.credit_delta {
            let sum = sums.entry(moves.payee(script)).or_default();
            *sum = sum.checked_add(*delta).ok_or(Inconsistent::Overflow)?;
        }
    }
    let mut by_script = BTreeMap::new();
    let mut credits: u64 = 0;
    for (script, sum) in sums.into_iter().filter(|(_, sum)| *sum != 0) {
        let negative = |_| Inconsistent::Negative { script: script.to_owned(), sats: sum };
        let sats = u64::try_from(sum).map_err(negative)?;
        credits = credits.checked_add(sats).ok_or(Inconsistent::Overflow)?;
        by_script.insert(script.to_owned(), sats);
    }
    if credits != reserves {
        return Err(Inconsistent::Unbacked { credits, reserves });
    }
    Ok(Credits { block: newest.map_or(BlockHash::all_zeros(), |(_, hash)| hash), by_script })
}
