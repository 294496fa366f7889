//! Which headers were there before: 64 bits of each under recent previous blocks, nine to twelve bytes of memory.
//!
//! Two headers can have the same 64 bits by chance, once in a hundred thousand logs of 20 million shares. So who has is
//! only a suspect, and whether it is a lie the log is read again for: [`Suspects::compare`].

use super::lie::Lie;
use super::listing::Listing;
use super::{FINDINGS_MAX, Report};
use crate::entry::Entry;
use bitcoin::BlockHash;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
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
    suspects: Suspects,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            secret: SecretState::default(),
            mask: u64::MAX,
            by_previous: HashMap::new(),
            order: VecDeque::new(),
            forgotten: HashSet::new(),
            suspects: Suspects::default(),
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

    /// Takes the hash of a header on a block that is not forgotten.
    pub fn note(&mut self, previous: BlockHash, digest: [u8; 32], index: u64) {
        if !self.by_previous.contains_key(&previous) {
            self.order.push_back(previous);
            if self.order.len() > PREVIOUS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.by_previous.remove(&oldest);
                self.forgotten.insert(oldest);
            }
        }
        let print = self.secret.hash_one(digest) & self.mask;
        if !self.by_previous.entry(previous).or_default().insert(print) {
            self.suspects.add(digest, index);
        }
    }

    /// Who looks like another one.
    pub fn into_suspects(self) -> Suspects {
        self.suspects
    }
}

/// Shares that look like one before them.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// By the hash of their header: the first that has it, once it is known, and the suspects' entries.
    by_digest: HashMap<[u8; 32], BTreeMap<u64, Option<u64>>>,
    count: usize,
    /// Further ones.
    beyond: u64,
}

impl Suspects {
    fn add(&mut self, digest: [u8; 32], index: u64) {
        if self.count < SUSPECTS_MAX {
            self.by_digest.entry(digest).or_default().insert(index, None);
            self.count += 1;
        } else {
            self.beyond += 1;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Reads the log once more, and reports those that have the very header of another share.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn compare<E>(
        mut self,
        entries: impl Iterator<Item = Result<(u64, Entry), E>>,
        report: &mut Report,
    ) -> Result<(), E> {
        let mut listing = Listing::default();
        let mut firsts: HashMap<[u8; 32], u64> = HashMap::new();
        for entry in entries {
            let (index, entry) = entry?;
            let hash = listing.take(index, &entry).and_then(|listed| listed.hash);
            let digest = hash.map(|hash| *bitcoin::hashes::Hash::as_byte_array(&hash));
            if let Some(digest) = digest
                && let Some(suspects) = self.by_digest.get_mut(&digest)
            {
                let first = *firsts.entry(digest).or_insert(index);
                if let Some(suspect) = suspects.get_mut(&index).filter(|_| first < index) {
                    *suspect = Some(first);
                }
            }
        }
        let compared: BTreeMap<_, _> = self.by_digest.into_values().flatten().collect();
        let twice = compared.into_iter().filter_map(|(index, first)| Some((index, first?)));
        let mut is_any = false;
        for (index, first) in twice {
            report.found(index, Lie::Twice(first));
            is_any = true;
        }
        report.findings_total += if is_any { self.beyond } else { 0 };
        report.findings.sort_by_key(|finding| finding.index);
        Ok(())
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
