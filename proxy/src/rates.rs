//! How many machines there are and how fast they are, as the shards say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What all shards say together; a handle.
#[derive(Debug, Clone)]
pub struct Rates(Arc<[Cell]>);

#[derive(Debug, Default)]
struct Cell {
    machines: AtomicU64,
    /// Bits of an `f64`.
    hashes_per_s: AtomicU64,
}

/// One shard's part.
#[derive(Debug, Clone)]
pub struct Rate {
    all: Rates,
    shard: usize,
}

impl Rates {
    /// For so many shards.
    pub fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| Cell::default()).collect())
    }

    /// The part of one shard.
    pub fn of(&self, shard: usize) -> Rate {
        Rate { all: self.clone(), shard }
    }

    /// Machines that have work.
    pub fn machines(&self) -> u64 {
        self.0.iter().map(|cell| cell.machines.load(Ordering::Relaxed)).sum()
    }

    /// Hashes per second of all machines that have sent shares.
    pub fn hashes_per_s(&self) -> f64 {
        self.0.iter().map(|cell| f64::from_bits(cell.hashes_per_s.load(Ordering::Relaxed))).sum()
    }
}

impl Rate {
    /// Says anew how it is.
    pub fn set(&self, machines: u64, hashes_per_s: f64) {
        let cell = &self.all.0[self.shard];
        cell.machines.store(machines, Ordering::Relaxed);
        cell.hashes_per_s.store(hashes_per_s.to_bits(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shards_parts_add_up() {
        let rates = Rates::new(3);
        rates.of(0).set(2, 1e12);
        rates.of(2).set(3, 5e11);
        rates.of(0).set(1, 7e11);
        assert_eq!((rates.machines(), rates.hashes_per_s()), (4, 1.2e12));
    }
}
