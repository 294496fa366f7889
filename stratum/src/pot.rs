//! Share difficulties are powers of two: one signed byte that the miner hashes with the work.

use crate::target::{Target, Work};
use ruint::aliases::U256;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::LazyLock;

/// Share difficulty 2^pot, the unit of vardiff, jobs and the share log.
///
/// Ranges from −32 (every hash is a share) to 95. The byte in the log could go to 127, but work
/// beyond pot 95 does not fit 128 bits, and the whole network is at pot 47 in 2026.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i8", into = "i8")]
pub struct Pot(i8);

/// A pot outside −32…95.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("pot {0} is outside -32..=95")]
pub struct PotOutOfRange(pub i8);

impl Pot {
    /// Difficulty 2^−32: any hash is a share.
    pub const MIN: Pot = Pot(-32);
    /// Difficulty 2^95.
    pub const MAX: Pot = Pot(95);

    /// The signed byte as it stands in the coinbase and the log.
    pub fn get(self) -> i8 {
        self.0
    }

    /// T₁ · 2^−pot, where T₁ = 0xffff · 2^208 is the target of difficulty 1.
    pub fn target(self) -> Target {
        let difficulty_one = U256::from(0xffff_u32) << 208;
        let shift = usize::from(self.0.unsigned_abs());
        let value = if self.0 >= 0 { difficulty_one >> shift } else { difficulty_one << shift };
        Target::new(value).expect("every pot up to 95 has a target above 2^128")
    }

    /// Expected hashes of one share.
    pub fn work(self) -> Work {
        /// Of each pot from −32 on: asked for with every share, and a division of 256 bits.
        static WORKS: LazyLock<Vec<Work>> =
            LazyLock::new(|| (Pot::MIN.0..=Pot::MAX.0).map(|pot| Pot(pot).target().work()).collect());
        WORKS[(i16::from(self.0) - i16::from(Self::MIN.0)) as usize] // 0 to 127
    }

    /// The hardest pot whose target is not harder than `limit`; [`Pot::MIN`] if even that is harder.
    ///
    /// Used to keep every share target at or above the network target, so that no block can hide
    /// below a share target.
    pub fn hardest_within(limit: Target) -> Pot {
        let mut pot = Pot::MIN;
        while pot < Pot::MAX && pot.saturating_add(1).target() >= limit {
            pot = pot.saturating_add(1);
        }
        pot
    }

    /// The easiest pot whose target is not easier than `limit`; `None` if even [`Pot::MAX`]'s is.
    pub fn easiest_within(limit: Target) -> Option<Pot> {
        (Self::MIN.0..=Self::MAX.0).map(Pot).find(|pot| pot.target() <= limit)
    }

    /// The largest pot whose difficulty is at most `difficulty`; `None` for what is no positive number.
    ///
    /// Difficulties reach us as JSON floats (`mining.suggest_difficulty`, `mining.set_difficulty`).
    pub fn at_most(difficulty: f64) -> Option<Pot> {
        if !difficulty.is_finite() || difficulty <= 0.0 {
            return None;
        }
        let exponent = difficulty.log2().floor().clamp(f64::from(Self::MIN.0), f64::from(Self::MAX.0));
        Some(Pot(exponent as i8)) // the clamp keeps it inside i8
    }

    /// Moves by `steps` and stays in range.
    pub fn saturating_add(self, steps: i8) -> Pot {
        Pot(self.0.saturating_add(steps).clamp(Self::MIN.0, Self::MAX.0))
    }

    /// Difficulty as `mining.set_difficulty` wants it; exact, for it is a power of two.
    pub fn difficulty(self) -> f64 {
        f64::from(self.0).exp2()
    }
}

impl TryFrom<i8> for Pot {
    type Error = PotOutOfRange;

    fn try_from(value: i8) -> Result<Self, PotOutOfRange> {
        if (Self::MIN.0..=Self::MAX.0).contains(&value) { Ok(Pot(value)) } else { Err(PotOutOfRange(value)) }
    }
}

impl From<Pot> for i8 {
    fn from(pot: Pot) -> i8 {
        pot.0
    }
}

impl fmt::Display for Pot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Pot> {
        (-32..=95).map(|p| Pot::try_from(p).unwrap())
    }

    #[test]
    fn harder_pots_have_lower_targets_and_more_work() {
        for (easy, hard) in all().zip(all().skip(1)) {
            assert!(easy.target() > hard.target());
            assert!(easy.work() < hard.work());
        }
    }

    #[test]
    fn pots_outside_the_range_are_refused() {
        for bad in [-128, -33, 96, 127] {
            assert_eq!(Pot::try_from(bad), Err(PotOutOfRange(bad)));
        }
    }

    #[test]
    fn the_hardest_pot_within_a_target_is_the_last_one_that_fits() {
        for pot in all() {
            assert_eq!(Pot::hardest_within(pot.target()), pot);
        }
        let regtest = Target::from_nbits(0x207f_ffff).unwrap();
        assert_eq!(Pot::hardest_within(regtest), Pot::MIN);
        let signet = Target::from_nbits(0x1e03_77ae).unwrap();
        assert_eq!(Pot::hardest_within(signet).get(), -10);
    }

    #[test]
    fn the_easiest_pot_within_a_target_is_the_first_one_that_fits() {
        for pot in all() {
            assert_eq!(Pot::easiest_within(pot.target()), Some(pot));
        }
        assert_eq!(Pot::easiest_within(Target::MAX), Some(Pot::MIN));
        let signet = Target::from_nbits(0x1e03_77ae).unwrap();
        assert_eq!(Pot::easiest_within(signet).map(Pot::get), Some(-9));
        let harder_than_all = Target::new(U256::from(1) << 128).unwrap();
        assert_eq!(Pot::easiest_within(harder_than_all), None);
    }

    #[test]
    fn difficulties_round_down_to_pots_and_nonsense_is_none() {
        for (difficulty, pot) in [(1.0, 0), (1.5, 0), (0.75, -1), (1024.0, 10), (1e308, 95), (1e-300, -32)] {
            assert_eq!(Pot::at_most(difficulty).map(Pot::get), Some(pot), "{difficulty}");
        }
        for nonsense in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Pot::at_most(nonsense), None);
        }
        for pot in all() {
            assert_eq!(Pot::at_most(pot.difficulty()), Some(pot));
        }
    }
}
