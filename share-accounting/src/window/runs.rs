//! The window's shares in their order, in eight bytes for equal ones in a row: 52 million of them are 0.4 GB.
//!
//! They stand in pieces of one size. A full piece never changes, so a copy of all runs shares the full pieces with
//! the original and is made in microseconds; and a long window is never moved because it grows.

use std::collections::VecDeque;
use std::sync::Arc;
use stratum::pot::Pot;

/// Equal shares in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub payee: u32,
    /// Pot in the low byte, count (1 to 2^24 − 1) above it.
    packed: u32,
}

pub(super) const COUNT_MAX: u32 = (1 << 24) - 1;

/// Bytes of a run in a file.
pub(crate) const RUN_BYTES: usize = 8;

impl Run {
    pub fn new(payee: u32, pot: Pot, count: u32) -> Self {
        debug_assert!((1..=COUNT_MAX).contains(&count));
        Self { payee, packed: count << 8 | u32::from(pot.get().to_le_bytes()[0]) }
    }

    pub fn count(self) -> u32 {
        self.packed >> 8
    }

    pub fn pot(self) -> Pot {
        let [low, ..] = self.packed.to_le_bytes();
        Pot::try_from(i8::from_le_bytes([low])).expect("packed from a pot")
    }

    /// Payee, pot and count, little-endian.
    pub fn encode(self) -> [u8; RUN_BYTES] {
        (u64::from(self.packed) << 32 | u64::from(self.payee)).to_le_bytes()
    }

    /// `None` if that is no pot, or no share.
    pub fn decode(bytes: [u8; RUN_BYTES]) -> Option<Self> {
        let [a, b, c, d, pot, count @ ..] = bytes;
        let count = u32::from_le_bytes([count[0], count[1], count[2], 0]);
        let pot = Pot::try_from(i8::from_le_bytes([pot])).ok()?;
        (count > 0).then(|| Self::new(u32::from_le_bytes([a, b, c, d]), pot, count))
    }
}

/// Runs in a piece.
const PIECE: usize = if cfg!(test) { 4 } else { 1 << 15 };

/// All runs, the oldest first: taken from the front, added to the back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Runs {
    /// Pieces of [`PIECE`] runs each.
    full: VecDeque<Arc<Vec<Run>>>,
    /// The newest ones, at most a piece of them; empty only if there are no others.
    last: Vec<Run>,
    /// Runs at the very front that are taken already.
    taken: usize,
}

impl Runs {
    pub fn len(&self) -> usize {
        self.full.len() * PIECE + self.last.len() - self.taken
    }

    /// The nth run from the front.
    pub fn get(&self, nth: usize) -> Option<Run> {
        let at = nth.checked_add(self.taken)?;
        let piece = self.full.get(at / PIECE).map_or(&self.last, |piece| piece);
        piece.get(at % PIECE).copied().filter(|_| at / PIECE <= self.full.len())
    }

    /// The newest run.
    pub fn newest(&mut self) -> Option<&mut Run> {
        if self.len() == 0 { None } else { self.last.last_mut() }
    }

    pub fn push(&mut self, run: Run) {
        if self.last.len() == PIECE {
            let full = std::mem::replace(&mut self.last, Vec::with_capacity(PIECE));
            self.full.push_back(Arc::new(full));
        }
        self.last.push(run);
    }

    /// Takes the oldest run away.
    pub fn pop(&mut self) {
        if self.len() == 0 {
            return;
        }
        self.taken += 1;
        if self.taken == self.full.front().map_or(self.last.len(), |piece| piece.len()) {
            self.taken = 0;
            if self.full.pop_front().is_none() {
                self.last.clear();
            }
        }
    }

    /// All of them, piece after piece.
    pub fn pieces(&self) -> impl Iterator<Item = &[Run]> {
        let pieces = self.full.iter().map(|piece| piece.as_slice()).chain([self.last.as_slice()]);
        pieces.enumerate().map(|(nth, piece)| if nth == 0 { &piece[self.taken..] } else { piece })
    }
}

/// Where the pieces begin is nobody's affair.
impl PartialEq for Runs {
    fn eq(&self, other: &Self) -> bool {
        self.pieces().flatten().eq(other.pieces().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(crate::testing::cases())]
        #[test]
        fn they_are_a_queue_of_which_copies_keep_what_they_were(steps in proptest::collection::vec(0_u8..8, 0..100)) {
            let (mut runs, mut plain) = (Runs::default(), VecDeque::new());
            let mut copies = Vec::new();
            for (payee, step) in (0..).zip(steps) {
                match step {
                    0..=3 => {
                        let run = Run::new(payee, Pot::MIN, payee + 1);
                        runs.push(run);
                        plain.push_back(run);
                    }
                    4 | 5 => {
                        runs.pop();
                        plain.pop_front();
                    }
                    6 => {
                        let changed = Run::new(payee, Pot::MAX, COUNT_MAX);
                        runs.newest().into_iter().for_each(|run| *run = changed);
                        plain.back_mut().into_iter().for_each(|run| *run = changed);
                    }
                    _ => copies.push((runs.clone(), plain.clone())),
                }
                copies.push((runs.clone(), plain.clone()));
            }
            for (runs, plain) in &copies {
                prop_assert_eq!(runs.len(), plain.len());
                prop_assert!(runs.pieces().flatten().eq(plain));
                for nth in 0..plain.len() + 9 {
                    prop_assert_eq!(runs.get(nth), plain.get(nth).copied());
                }
            }
        }

        #[test]
        fn a_run_has_one_encoding(bytes: [u8; RUN_BYTES]) {
            if let Some(run) = Run::decode(bytes) {
                prop_assert_eq!(run.encode(), bytes);
            }
        }
    }

    #[test]
    fn what_is_no_run_does_not_decode() {
        assert_eq!(Run::decode([1, 0, 0, 0, 224, 1, 0, 0]), Some(Run::new(1, Pot::MIN, 1)));
        assert_eq!(Run::decode([1, 0, 0, 0, 224, 0, 0, 0]), None, "no share");
        assert_eq!(Run::decode([1, 0, 0, 0, 96, 1, 0, 0]), None, "no pot");
    }
}
