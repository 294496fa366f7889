//! A hasher for keys that are evenly distributed or ours: a multiplication instead of the standard library's twenty-odd.
//!
//! Lengths of keys do not count, and no `usize` does: keys of one map have one length, or a flood of them harms nobody
//! but who sent it.

use std::hash::{BuildHasher, Hasher, RandomState};

/// What nobody outside knows, so that nobody can mine shares that fall on one another.
#[derive(Debug, Clone, Copy)]
pub struct SecretState(u64);

/// Folds a key and the secret into one word.
#[derive(Debug)]
pub struct Fold(u64);

impl Default for SecretState {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for SecretState {
    type Hasher = Fold;

    fn build_hasher(&self) -> Fold {
        Fold(self.0)
    }
}

impl Fold {
    fn add(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        // `as`: the upper half and the lower half.
        self.0 = (wide >> 64) as u64 ^ wide as u64;
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        words.iter().for_each(|word| self.add(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.add(u64::from_le_bytes(word));
        }
    }

    /// The length of a key: those of one map have one length.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
