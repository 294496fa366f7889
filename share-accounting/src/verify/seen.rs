//! Which headers were there before: 64 bits of each under recent previous blocks, nine to twelve bytes of memory.
//!
//! Two headers can have the same 64 bits by chance, once in a hundred thousand logs of 20 million shares. So who has is
//! only a suspect. Then the same audit is made once more, which knows whom to watch and compares whole hashes: what it
//! could hash before it can hash again.

use super::FINDINGS_MAX;
use bitcoin::BlockHash;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;
use stratum::hasher::SecretState;

/// Previous blocks under which headers are remembered. A pool takes no shares on one that comes back after four others.
const PREVIOUS_MAX: usize = 64;
/// Suspects that are compared; of more than that the first alone.
const SUSPECTS_MAX: usize = 100 * FINDINGS_MAX;

/// What was seen.
#[derive(Debug)]
pub(super) struct Seen {
    /// Nobody can mine headers that look alike.
    secret: SecretState,
    /// The bits that count: all of them.
    mask: u64,
    by_previous: HashMap<BlockHash, Prints>,
    /// Their previous blocks, oldest first.
    order: VecDeque<BlockHash>,
    /// Previous blocks whose headers are forgotten: nothing on them may be credited any more.
    forgotten: HashSet<BlockHash>,
    reading: Reading,
}

/// What is done with headers that look alike.
#[derive(Debug)]
enum Reading {
    /// Hashes of those that look like one before them are noted, and further ones counted.
    Suspecting(HashSet<[u8; 32]>, u64),
    /// The entries that had these hashes first.
    Comparing(HashMap<[u8; 32], Option<u64>>),
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            secret: SecretState::default(),
            mask: u64::MAX,
            by_previous: HashMap::new(),
            order: VecDeque::new(),
            forgotten: HashSet::new(),
            reading: Reading::Suspecting(HashSet::new(), 0),
        }
    }
}

impl Seen {
    /// So few bits that very many look alike.
    #[cfg(test)]
    pub fn of_bits(bits: u32) -> Self {
        Self { mask: u64::MAX << (u64::BITS - bits), ..Self::default() }
    }

    /// Whether headers on this block are not remembered any more.
    pub fn has_forgotten(&self, previous: &BlockHash) -> bool {
        self.forgotten.contains(previous)
    }

    /// Takes the hash of a header on a block that is not forgotten. Gives the entry that had the same header, if whole
    /// hashes are compared.
    pub fn note(&mut self, previous: BlockHash, digest: [u8; 32], index: u64) -> Option<u64> {
        if !self.by_previous.contains_key(&previous) {
            self.order.push_back(previous);
            if self.order.len() > PREVIOUS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.by_previous.remove(&oldest);
                self.forgotten.insert(oldest);
            }
        }
        let prints = self.by_previous.entry(previous).or_default();
        match &mut self.reading {
            Reading::Suspecting(suspects, beyond) => {
                if !prints.insert(self.secret.hash_one(digest) & self.mask) && !suspects.contains(&digest) {
                    if suspects.len() < SUSPECTS_MAX {
                        suspects.insert(digest);
                    } else {
                        *beyond += 1;
                    }
                }
                None
            }
            Reading::Comparing(firsts) => {
                let first = firsts.get_mut(&digest)?;
                let before = *first;
                first.get_or_insert(index);
                before
            }
        }
    }

    /// What the same audit has to compare, if any headers look alike, and how many more do.
    pub fn into_comparing(self) -> Option<(Self, u64)> {
        let Reading::Suspecting(suspects, beyond) = self.reading else { return None };
        let firsts: HashMap<_, _> = suspects.into_iter().map(|digest| (digest, None)).collect();
        let is_any = !firsts.is_empty();
        is_any.then(|| (Self { reading: Reading::Comparing(firsts), ..Self::default() }, beyond))
    }
}

/// A print for each of many headers.
#[derive(Debug)]
struct Prints([Part; PARTS]);

/// They grow one by one, so little of the memory is there twice at any time.
const PARTS: usize = 64;

impl Default for Prints {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Part::default()))
    }
}

impl Prints {
    /// Whether it is a new one.
    fn insert(&mut self, print: u64) -> bool {
        // 0 is an empty place, and 1 belongs into another part.
        self.0[(print % PARTS as u64) as usize].insert(print.max(1))
    }
}

/// Open addressing with linear probing: places by the upper bits, 0 where nothing is.
#[derive(Debug, Default)]
struct Part {
    places: Box<[u64]>,
    filled: usize,
}

impl Part {
    fn insert(&mut self, print: u64) -> bool {
        if 8 * (self.filled + 1) > 7 * self.places.len() {
            let larger = vec![0; self.places.len() + self.places.len() / 4 + 8];
            let all = std::mem::replace(&mut self.places, larger.into());
            for print in all.into_iter().filter(|print| *print != 0) {
                self.put(print);
            }
        }
        let is_new = self.put(print);
        self.filled += usize::from(is_new);
        is_new
    }

    fn put(&mut self, print: u64) -> bool {
        let count = self.places.len();
        // The product's upper half is below `count`.
        let mut at = ((u128::from(print) * count as u128) >> 64) as usize;
        loop {
            match self.places[at] {
                0 => {
                    self.places[at] = print;
                    return true;
                }
                there if there == print => return false,
                _ => at = (at + 1) % count,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(crate::testing::cases())]

        #[test]
        fn prints_are_a_set(prints in prop::collection::vec(prop_oneof![any::<u64>(), 0_u64..300], 0..2_000)) {
            let (mut ours, mut theirs) = (Prints::default(), HashSet::new());
            for print in prints {
                prop_assert_eq!(ours.insert(print), theirs.insert(print) , "{}", print);
            }
        }
    }

    #[test]
    fn a_million_prints_take_less_than_twelve_bytes_each() {
        let (mut prints, secret) = (Prints::default(), SecretState::default());
        for n in 0..1_000_000_u64 {
            assert!(prints.insert(secret.hash_one([n, n.wrapping_mul(0x9e37_79b9_7f4a_7c15)])));
            if n.is_power_of_two() && n > 100_000 {
                let places: usize = prints.0.iter().map(|part| part.places.len()).sum();
                assert!(8 * places < 12 * n as usize, "{places} places for {n}");
            }
        }
    }
}
