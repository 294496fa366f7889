//! The float of `mining.set_difficulty` as an exact 256-bit target.

use crate::target::Target;
use ruint::aliases::{U256, U512};

/// ⌊T₁ / difficulty⌋ with T₁ = 0xffff · 2^208, computed on the float's own integers: nothing is rounded
/// but the last division. So 2^k gives the same target as the pot k, bit for bit.
///
/// Difficulties too small for 256 bits mean that every hash is a share. `None` for what is no positive
/// number, or harder than any chain.
pub(super) fn target_of(difficulty: f64) -> Option<Target> {
    if !difficulty.is_finite() || difficulty <= 0.0 {
        return None;
    }
    let bits = difficulty.to_bits(); // the sign bit is clear: the number is positive
    let (biased, fraction) = (bits >> 52, bits & ((1 << 52) - 1));
    // difficulty = mantissa · 2^(scale − 1074); a biased exponent of 0 marks a subnormal number.
    let (mantissa, scale) = if biased == 0 { (fraction, 0) } else { (fraction | 1 << 52, biased - 1) };
    let difficulty_one = U512::from(0xffff_u32) << 208;
    let mantissa = U512::from(mantissa);
    let quotient: U512 = match scale.checked_sub(1074) {
        Some(up) => (difficulty_one >> usize::try_from(up).ok()?) / mantissa,
        None => {
            let down = usize::try_from(1074 - scale).ok()?;
            // T₁ has 224 bits: beyond this shift the quotient exceeds 256 bits whatever the mantissa is.
            if down > 512 - 224 {
                return Some(Target::MAX);
            }
            (difficulty_one << down) / mantissa
        }
    };
    let target = if quotient.bit_len() > 256 { U256::MAX } else { quotient.to() };
    Target::new(target).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pot::Pot;
    use proptest::prelude::*;

    #[test]
    fn powers_of_two_give_exactly_the_target_of_their_pot() {
        for pot in -32..=95 {
            let pot = Pot::try_from(pot).unwrap();
            assert_eq!(target_of(pot.difficulty()), Some(pot.target()), "{pot}");
        }
    }

    #[test]
    fn known_difficulties_give_known_targets() {
        for (difficulty, hex) in [
            (1.0, "00000000ffff0000000000000000000000000000000000000000000000000000"),
            (3.0, "0000000055550000000000000000000000000000000000000000000000000000"),
            (65_535.0, "0000000000010000000000000000000000000000000000000000000000000000"),
            (1e-30, "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"),
            (f64::MIN_POSITIVE / 4.0, "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"),
        ] {
            assert_eq!(target_of(difficulty).unwrap().to_string(), hex, "{difficulty}");
        }
    }

    #[test]
    fn n19_absurd_difficulties_have_no_target() {
        for absurd in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e30, 1e308] {
            assert_eq!(target_of(absurd), None, "{absurd}");
        }
    }

    proptest! {
        #[test]
        fn the_target_never_grows_with_the_difficulty_whatever_its_bits(a: u64, b: u64) {
            let (a, b) = (f64::from_bits(a), f64::from_bits(b));
            if let (Some(x), Some(y)) = (target_of(a), target_of(b)) {
                let falls = if a <= b { x >= y } else { x <= y };
                prop_assert!(falls, "{:e} {:e}", a, b);
            }
        }

        #[test]
        fn whole_numbers_divide_exactly(difficulty in 1_u64..1 << 53) {
            let exact = (U256::from(0xffff_u32) << 208) / U256::from(difficulty);
            prop_assert_eq!(target_of(difficulty as f64).unwrap().value(), exact); // below 2^53: no rounding
        }
    }
}
