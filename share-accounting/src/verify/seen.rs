//! Which headers were there before: 64 bits of each under recent previous blocks, nine to twelve bytes of memory.
//!
//! Two headers can have the same 64 bits by chance, once in a hundred thousand logs of 20 million shares. So who has is
//! only a suspect. Then the same audit is made once more, which knows whom to watch and compares whole hashes: what it
//! could hash before it can hash again.

use super::FINDINGS_MAX;
use bitcoin::BlockHash;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;
use std::hint::black_box;
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
    by_previous: HashMap<BlockHash, Prints, SecretState>,
    /// Their previous blocks, oldest first.
    order: VecDeque<BlockHash>,
    /// Previous blocks whose headers are forgotten: nothing on them may be credited any more.
    forgotten: HashSet<BlockHash, SecretState>,
    reading: Reading,
}

/// What is done with headers that look alike.
#[derive(Debug)]
enum Reading {
    /// Those that look like one before them are noted.
    Suspecting(Suspects),
    /// The entries that had these hashes first.
    Comparing(HashMap<[u8; 32], Option<u64>>),
}

/// Headers that look like one before them.
#[derive(Debug, Default)]
struct Suspects {
    hashes: HashSet<[u8; 32]>,
    /// Further ones.
    beyond: u64,
}

impl Suspects {
    fn add(&mut self, digest: [u8; 32]) {
        if self.hashes.len() < SUSPECTS_MAX {
            self.hashes.insert(digest);
        } else if !self.hashes.contains(&digest) {
            self.beyond += 1;
        }
    }
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            secret: SecretState::default(),
            mask: u64::MAX,
            by_previous: HashMap::default(),
            order: VecDeque::new(),
            forgotten: HashSet::default(),
            reading: Reading::Suspecting(Suspects::default()),
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
                self.forget(oldest);
            }
        }
        let prints = self.by_previous.entry(previous).or_default();
        match &mut self.reading {
            Reading::Suspecting(suspects) => {
                // 0 is an empty place.
                let print = (self.secret.hash_one(digest) & self.mask).max(1);
                prints.note(print, digest, |digest| suspects.add(digest));
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

    fn forget(&mut self, previous: BlockHash) {
        let prints = self.by_previous.remove(&previous);
        if let (Some(mut prints), Reading::Suspecting(suspects)) = (prints, &mut self.reading) {
            prints.compare_waiting(|digest| suspects.add(digest));
        }
        self.forgotten.insert(previous);
    }

    /// What the same audit has to compare, if any headers look alike, and how many more do.
    pub fn into_comparing(mut self) -> Option<(Self, u64)> {
        while let Some(previous) = self.order.pop_front() {
            self.forget(previous);
        }
        let Reading::Suspecting(Suspects { hashes, beyond }) = self.reading else { return None };
        let firsts: HashMap<_, _> = hashes.into_iter().map(|digest| (digest, None)).collect();
        let is_any = !firsts.is_empty();
        is_any.then(|| (Self { reading: Reading::Comparing(firsts), ..Self::default() }, beyond))
    }
}

/// A print for each of many headers. Nobody waits for an answer, so they go in many at once: their places lie anywhere in
/// memory, and one after the other they were a sixth of an audit.
#[derive(Debug)]
struct Prints([Part; PARTS]);

/// They grow one by one, so little of the memory is there twice at any time.
const PARTS: usize = 64;
/// Prints that go into a part together. Waiting they take 40 bytes each, 160 KiB for each previous block.
const TOGETHER: usize = 64;

impl Default for Prints {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Part::default()))
    }
}

impl Prints {
    /// Takes a print that is not 0; names the header, then or later, if there was such a print before.
    fn note(&mut self, print: u64, digest: [u8; 32], alike: impl FnMut([u8; 32])) {
        let part = &mut self.0[(print % PARTS as u64) as usize]; // below 64
        part.waiting.push((print, digest));
        if part.waiting.len() == TOGETHER {
            part.compare_waiting(alike);
        }
    }

    /// Names all that it has not named yet.
    fn compare_waiting(&mut self, mut alike: impl FnMut([u8; 32])) {
        self.0.iter_mut().for_each(|part| part.compare_waiting(&mut alike));
    }
}

/// Open addressing with linear probing: places by the upper bits, 0 where nothing is.
#[derive(Debug, Default)]
struct Part {
    places: Box<[u64]>,
    filled: usize,
    /// Those that are not there yet, with their headers.
    waiting: Vec<(u64, [u8; 32])>,
}

impl Part {
    fn compare_waiting(&mut self, mut alike: impl FnMut([u8; 32])) {
        // Looks at all the places first, which waits for all of them at the same time: no look depends on another.
        black_box(self.waiting.iter().fold(0, |all, (print, _)| all ^ self.look_at(*print)));
        let mut waiting = std::mem::take(&mut self.waiting);
        for (print, digest) in waiting.drain(..) {
            if !self.insert(print) {
                alike(digest);
            }
        }
        self.waiting = waiting;
    }

    /// Reads from the two lines of the cache in which a print has its place, most of the time.
    fn look_at(&self, print: u64) -> u64 {
        let at = place(print, self.places.len());
        let read = |at: usize| self.places.get(at).copied().unwrap_or(0);
        read(at) ^ read(at + 8)
    }

    /// Whether it is a new one.
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
        let mut at = place(print, count);
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

/// Where a print stands among so many places if that one is free: below `count`, by its upper bits.
fn place(print: u64, count: usize) -> usize {
    ((u128::from(print) * count as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(crate::testing::cases())]

        #[test]
        fn prints_are_a_set(prints in prop::collection::vec(prop_oneof![1_u64.., 1_u64..300], 0..2_000)) {
            let (mut ours, mut theirs, mut alike) = (Prints::default(), HashSet::new(), Vec::new());
            let mut expected = Vec::new();
            for (nth, print) in prints.into_iter().enumerate() {
                let mut digest = [0; 32];
                digest[..8].copy_from_slice(&nth.to_le_bytes());
                ours.note(print, digest, |digest| alike.push(digest));
                if !theirs.insert(print) {
                    expected.push(digest);
                }
            }
            ours.compare_waiting(|digest| alike.push(digest));
            alike.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(alike, expected);
        }
    }

    #[test]
    fn a_million_prints_take_less_than_twelve_bytes_each() {
        let (mut prints, secret) = (Prints::default(), SecretState::default());
        for n in 0..1_000_000_u64 {
            let print = secret.hash_one([n, n.wrapping_mul(0x9e37_79b9_7f4a_7c15)]).max(1);
            prints.note(print, [0; 32], |_| panic!("{n} is not alike"));
            if n.is_power_of_two() && n > 100_000 {
                let places: usize = prints.0.iter().map(|part| part.places.len()).sum();
                assert!(8 * places < 12 * n as usize, "{places} places for {n}");
            }
        }
    }
}
