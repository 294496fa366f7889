//! Proof-of-work targets and the work they stand for, as exact integers.

use ruint::aliases::U256;
use std::fmt;
use std::ops::AddAssign;

/// A 256-bit threshold: a hash meets it when, read as a little-endian number, it is not larger.
///
/// Always at least 2^128, so that its [`Work`] fits 128 bits. The hardest target that Bitcoin has
/// seen by 2026 is about 2^176.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target(U256);

/// Expected number of hashes, as Bitcoin Core counts chain work: ⌊2^256 / (target + 1)⌋.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Work(pub u128);

/// Why a compact target (`nBits`) or 256-bit number is not a [`Target`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The sign bit of the compact form is set.
    #[error("compact target {0:#010x} is negative")]
    Negative(u32),
    /// The compact form stands for more than 256 bits.
    #[error("compact target {0:#010x} exceeds 256 bits")]
    Overflow(u32),
    /// Below 2^128: harder than any chain can be.
    #[error("target is below 2^128, harder than any chain")]
    TooHard,
}

impl Target {
    /// The easiest target there is: every hash meets it.
    pub const MAX: Target = Target(U256::MAX);

    /// Takes a 256-bit number as a target.
    ///
    /// # Errors
    /// [`TargetError::TooHard`] below 2^128.
    pub fn new(value: U256) -> Result<Self, TargetError> {
        if value.bit_len() > 128 { Ok(Self(value)) } else { Err(TargetError::TooHard) }
    }

    /// Expands the compact form of a block header (`nBits`).
    ///
    /// # Errors
    /// Negative, overflowing and zero or absurdly hard values, as consensus refuses them.
    pub fn from_nbits(nbits: u32) -> Result<Self, TargetError> {
        let exponent = (nbits >> 24) as usize; // at most 255
        let mantissa = U256::from(nbits & 0x007f_ffff);
        if mantissa != U256::ZERO && nbits & 0x0080_0000 != 0 {
            return Err(TargetError::Negative(nbits));
        }
        if exponent <= 3 {
            return Self::new(mantissa >> (8 * (3 - exponent)));
        }
        let shift = 8 * (exponent - 3);
        if mantissa.bit_len() + shift > 256 {
            return Err(TargetError::Overflow(nbits));
        }
        Self::new(mantissa << shift)
    }

    /// The number itself.
    pub fn value(self) -> U256 {
        self.0
    }

    /// Whether a double SHA-256 digest (in its internal byte order) is at or below the target.
    pub fn is_met_by(self, digest: &[u8; 32]) -> bool {
        // Numeric, never bytewise: the digest is little-endian (faults M09).
        U256::from_le_bytes(*digest) <= self.0
    }

    /// Expected hashes for one solution.
    pub fn work(self) -> Work {
        // 2^256 / (t + 1) without a 257-bit number: (2^256 − t − 1) / (t + 1) + 1.
        let work = match self.0.checked_add(U256::from(1)) {
            Some(divisor) => (!self.0) / divisor + U256::from(1),
            None => U256::from(1),
        };
        Work(work.try_into().expect("a target of at least 2^128 has less than 2^128 of work"))
    }

    /// Multiples of difficulty 1, for people only: never for anything that pays.
    pub fn difficulty(self) -> f64 {
        let difficulty_one = U256::from(0xffff_u32) << 208;
        f64::from(difficulty_one) / f64::from(self.0)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:064x}", self.0)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

/// As integers: a sum beyond 2^128 is a panic.
impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Work({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn compact_targets_expand_as_consensus_does() {
        // Main network genesis, a 2024 block, regtest, private signet.
        for (nbits, hex) in [
            (0x1d00_ffff_u32, "00000000ffff0000000000000000000000000000000000000000000000000000"),
            (0x1702_1369, "0000000000000000000213690000000000000000000000000000000000000000"),
            (0x207f_ffff, "7fffff0000000000000000000000000000000000000000000000000000000000"),
            (0x1e03_77ae, "00000377ae000000000000000000000000000000000000000000000000000000"),
        ] {
            assert_eq!(Target::from_nbits(nbits).unwrap().to_string(), hex);
        }
    }

    #[test]
    fn impossible_compact_targets_are_refused() {
        assert_eq!(Target::from_nbits(0x1d80_0001), Err(TargetError::Negative(0x1d80_0001)));
        assert_eq!(Target::from_nbits(0x2300_ffff), Err(TargetError::Overflow(0x2300_ffff)));
        for nbits in [0, 0x0300_0001, 0x1d00_0000, 0x1000_ffff] {
            assert_eq!(Target::from_nbits(nbits), Err(TargetError::TooHard), "{nbits:#x}");
        }
    }

    #[test]
    fn work_of_the_private_signet_is_what_the_design_names() {
        assert_eq!(Target::from_nbits(0x1e03_77ae).unwrap().work(), Work(4_838_420));
        assert_eq!(Target::MAX.work(), Work(1));
    }

    proptest! {
        #[test]
        fn m09_targets_compare_as_numbers_never_as_bytes(digest: [u8; 32], target: [u8; 32]) {
            if let Ok(target) = Target::new(U256::from_be_bytes(target)) {
                // The oracle compares most significant byte first.
                let mut reversed = digest;
                reversed.reverse();
                let oracle = reversed <= target.value().to_be_bytes::<32>();
                prop_assert_eq!(target.is_met_by(&digest), oracle);
            }
        }

        #[test]
        fn m09_compact_expansion_and_work_agree_with_rust_bitcoin(nbits in 0x1100_0000_u32..0x2100_0000) {
            if let Ok(target) = Target::from_nbits(nbits) {
                let peer = bitcoin::Target::from_compact(bitcoin::CompactTarget::from_consensus(nbits));
                prop_assert_eq!(target.value().to_le_bytes::<32>(), peer.to_le_bytes());
                let work = U256::from_le_bytes(peer.to_work().to_le_bytes());
                prop_assert_eq!(U256::from(target.work().0), work);
            }
        }
    }
}
