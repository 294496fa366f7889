//! Makes room for a coinbase that is larger than what the node reserved.
//!
//! The node reserves 8,000 weight units and 400 sigops; a payout list of 16,000 bytes needs more. So
//! the cheapest transactions go, with all that spend from them, and no setting of the node is needed
//! (CB-09). A block over the limit is lost whole.

use crate::template::{Limits, Template, TemplateTx};
use std::cmp::Ordering;
use std::sync::Arc;
use stratum::class::SizeClass;

/// What a coinbase takes of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoinbaseCost {
    /// Bytes without witness.
    pub stripped_bytes: u64,
    /// Cost of the signature operations in its outputs.
    pub sigops: u64,
}

/// Marker, flag, one witness item of 32 bytes and the two lengths before it.
pub(crate) const COINBASE_WITNESS_BYTES: u64 = 2 + 1 + 1 + 32;
/// Header bytes.
const HEADER_BYTES: u64 = 80;
/// Bytes of a pay-to-pubkey-hash output, the smallest that an address can make cost sigops.
const P2PKH_OUTPUT_BYTES: u64 = 8 + 1 + 25;
/// One signature operation outside a witness.
pub(crate) const SIGOP_COST: u64 = 4;

impl CoinbaseCost {
    /// The most that a coinbase of a class can take, whoever is paid.
    pub fn largest(class: SizeClass) -> Self {
        let stripped_bytes = class.coinbase_bytes_max() as u64; // at most 16,000
        Self { stripped_bytes, sigops: stripped_bytes / P2PKH_OUTPUT_BYTES * SIGOP_COST }
    }

    fn bytes(self) -> u64 {
        self.stripped_bytes + COINBASE_WITNESS_BYTES
    }

    fn weight(self) -> u64 {
        4 * self.stripped_bytes + COINBASE_WITNESS_BYTES
    }
}

/// What is in a block besides its coinbase.
#[derive(Clone, Copy)]
struct Load {
    count: usize,
    weight: u64,
    bytes: u64,
    sigops: u64,
}

impl Load {
    const NONE: Self = Self { count: 0, weight: 0, bytes: 0, sigops: 0 };

    fn of(template: &Template) -> Self {
        template.transactions().iter().fold(Self::NONE, |mut load, tx| {
            load.count += 1;
            load.weight += tx.weight;
            load.bytes += tx.range.len() as u64; // usize is at most 64 bits
            load.sigops += tx.sigops;
            load
        })
    }

    fn drop(&mut self, tx: &TemplateTx) {
        self.count -= 1;
        self.weight -= tx.weight;
        self.bytes -= tx.range.len() as u64; // usize is at most 64 bits
        self.sigops -= tx.sigops;
    }

    /// The whole block, header and counts included.
    fn block(&self, coinbase: CoinbaseCost) -> Limits {
        let frame = HEADER_BYTES + count_bytes(self.count + 1);
        Limits {
            weight: 4 * frame + coinbase.weight() + self.weight,
            bytes: frame + coinbase.bytes() + self.bytes,
            sigops: coinbase.sigops + self.sigops,
        }
    }

    fn fits(&self, coinbase: CoinbaseCost, limits: Limits) -> bool {
        let block = self.block(coinbase);
        block.weight <= limits.weight && block.bytes <= limits.bytes && block.sigops <= limits.sigops
    }
}

/// What a block takes that holds a coinbase and nothing else.
pub(crate) fn empty_block(coinbase: CoinbaseCost) -> Limits {
    Load::NONE.block(coinbase)
}

/// Bytes of a transaction or output count.
pub(crate) fn count_bytes(count: usize) -> u64 {
    match count {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        _ => 5,
    }
}

impl Template {
    /// The same template if the coinbase fits, else one without the cheapest transactions, its value
    /// and witness commitment recomputed. [`Template::parse`] has seen to it that without any the
    /// coinbase of every class fits.
    pub fn fit(self: &Arc<Self>, coinbase: CoinbaseCost) -> Arc<Self> {
        let mut load = Load::of(self);
        if load.fits(coinbase, self.limits) {
            return Arc::clone(self);
        }
        let families = families(&self.transactions);
        let mut order: Vec<usize> = (0..families.len()).collect();
        order.sort_by(|&a, &b| families[a].cheaper(&families[b]).then(b.cmp(&a)));
        let mut kept = vec![true; self.transactions.len()];
        for place in order {
            if load.fits(coinbase, self.limits) {
                break;
            }
            for member in &families[place].members {
                if std::mem::replace(&mut kept[*member], false) {
                    load.drop(&self.transactions[*member]);
                }
            }
        }
        Arc::new(self.keeping(&kept))
    }

    fn keeping(&self, kept: &[bool]) -> Self {
        let mut smaller = self.clone();
        let mut bytes = Vec::with_capacity(self.bytes.len());
        let mut places = vec![0; kept.len()];
        smaller.transactions.clear();
        for (place, tx) in self.transactions.iter().enumerate() {
            if !kept[place] {
                smaller.value = smaller
                    .value
                    .checked_sub(tx.fee)
                    .expect("a template whose value is below the sum of its fees is refused when it is read");
                continue;
            }
            places[place] = smaller.transactions.len();
            let start = bytes.len();
            bytes.extend_from_slice(&self.bytes[tx.range.clone()]);
            let depends = tx.depends.iter().map(|&parent| {
                assert!(kept[parent], "a child is never kept without its parent");
                places[parent]
            });
            smaller.transactions.push(TemplateTx {
                range: start..bytes.len(),
                depends: depends.collect(),
                ..tx.clone()
            });
        }
        smaller.bytes = bytes.into();
        smaller.seal();
        smaller
    }
}

/// A transaction and all that spend from it: they leave a block together.
struct Family {
    members: Vec<usize>,
    fee: u64,
    weight: u64,
}

impl Family {
    fn cheaper(&self, other: &Self) -> Ordering {
        // Cross-multiplied: fees per weight without a fraction.
        let left = u128::from(self.fee) * u128::from(other.weight);
        left.cmp(&(u128::from(other.fee) * u128::from(self.weight)))
    }
}

fn families(transactions: &[TemplateTx]) -> Vec<Family> {
    let mut children = vec![Vec::new(); transactions.len()];
    for (place, tx) in transactions.iter().enumerate() {
        for &parent in &tx.depends {
            children[parent].push(place);
        }
    }
    let mut met = vec![usize::MAX; transactions.len()];
    let mut families = Vec::with_capacity(transactions.len());
    for first in 0..transactions.len() {
        let mut members = vec![first];
        met[first] = first;
        let mut next = 0;
        while let Some(&member) = members.get(next) {
            next += 1;
            for &child in &children[member] {
                if std::mem::replace(&mut met[child], first) != first {
                    members.push(child);
                }
            }
        }
        families.push(Family {
            fee: members.iter().map(|&m| transactions[m].fee).sum(),
            weight: members.iter().map(|&m| transactions[m].weight).sum(),
            members,
        });
    }
    families
}

#[cfg(test)]
#[path = "fit_tests.rs"]
mod tests;
