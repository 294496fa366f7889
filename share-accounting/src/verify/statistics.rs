//! What chance says of a log that adds up: shares that were chosen, blocks that were held back, miners that are refused
//! more often than others. Nothing here is proof, and nothing here pays: so these are floating-point numbers.

use std::iter;
use stratum::pot::Pot;
use stratum::target::Target;

/// Parts of the range from 0 to the target in which hashes are counted.
const PARTS: usize = 1_024;
/// Terms of the series for the chance of a distance: the tenth is below 10^-80 where it matters.
const TERMS: u32 = 10;

/// Counted while shares are hashed.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// How many hashes fell into each part of the range up to their target.
    parts: Vec<u64>,
    /// By script number.
    pub payees: Vec<PayeeStatistics>,
    /// The network target of the last share, and its work: a division of 256 bits.
    network: Option<(Target, f64)>,
}

/// Of one script.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PayeeStatistics {
    /// Shares that earn.
    pub credited: u64,
    /// Shares that came too late.
    pub late: u64,
    /// Blocks among all of them.
    pub blocks: u64,
    /// Blocks to be expected of so many shares.
    pub expected_blocks: f64,
}

/// How hashes lie below their targets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evenness {
    /// How many there are.
    pub shares: u64,
    /// Largest distance between the part of them that lies below any point, and what it should be: 0 to 1.
    pub distance: f64,
    /// Chance of one as large or larger with honest work (Kolmogorov and Smirnov).
    pub chance: f64,
}

impl Default for Statistics {
    fn default() -> Self {
        Self { parts: vec![0; PARTS], payees: Vec::new(), network: None }
    }
}

/// The leading bits of a number that is at most a target, as a part of it.
fn part_of(target: Target, digest: &[u8; 32]) -> f64 {
    let (target, digest) = (target.value(), ruint::aliases::U256::from_le_bytes(*digest));
    let shift = target.bit_len().saturating_sub(64);
    let leading = |number: ruint::aliases::U256| (number >> shift).as_limbs()[0] as f64;
    leading(digest) / leading(target)
}

impl Statistics {
    /// Counts a share whose hash meets its target.
    pub(super) fn note(&mut self, script: u32, digest: &[u8; 32], pot: Pot, network: Target, credited: bool) {
        let part = (part_of(pot.target(), digest) * PARTS as f64) as usize; // never negative
        self.parts[part.min(PARTS - 1)] += 1;
        let network_work = match self.network {
            Some((last, work)) if last == network => work,
            _ => network.work().0 as f64,
        };
        self.network = Some((network, network_work));
        let at = script as usize; // u32 fits usize
        if self.payees.len() <= at {
            self.payees.resize(at + 1, PayeeStatistics::default());
        }
        let payee = &mut self.payees[at];
        if credited {
            payee.credited += 1;
        } else {
            payee.late += 1;
        }
        payee.blocks += u64::from(network.is_met_by(digest));
        payee.expected_blocks += (pot.work().0 as f64 / network_work).min(1.0);
    }

    /// Whether hashes lie below their targets as chance would have them. Shares that were picked from more work than is
    /// shown, or made up, do not.
    pub fn evenness(&self) -> Evenness {
        let shares: u64 = self.parts.iter().sum();
        let mut below = 0;
        let distances = self.parts.iter().enumerate().map(|(part, count)| {
            below += count;
            (below as f64 / shares.max(1) as f64 - (part + 1) as f64 / PARTS as f64).abs()
        });
        let distance = if shares == 0 { 0.0 } else { distances.fold(0.0, f64::max) };
        let root = (shares as f64).sqrt();
        let x = (root + 0.12 + 0.11 / root.max(1.0)) * distance;
        let term = |k: u32| {
            let size = 2.0 * (-2.0 * f64::from(k * k) * x * x).exp();
            if k % 2 == 1 { size } else { -size }
        };
        // The series does not converge at 0, where the chance is 1.
        let chance = if x < 0.2 { 1.0 } else { (1..=TERMS).map(term).sum::<f64>().clamp(0.0, 1.0) };
        Evenness { shares, distance, chance }
    }
}

impl PayeeStatistics {
    /// Chance of as few blocks or fewer with honest work (Poisson): tiny for who keeps blocks back.
    pub fn chance_of_so_few_blocks(&self) -> f64 {
        let lambda = self.expected_blocks;
        // e^-λ λ^k / k!, as logarithms: λ may be in the thousands.
        let logs = iter::successors(Some((0_u64, -lambda)), |(k, log)| {
            let next = k + 1;
            Some((next, log + lambda.ln() - (next as f64).ln()))
        });
        let logs = logs.take_while(|(k, _)| *k <= self.blocks);
        if lambda == 0.0 { 1.0 } else { logs.map(|(_, log)| log.exp()).sum::<f64>().min(1.0) }
    }

    /// Part of the shares that came too late.
    pub fn late_part(&self) -> f64 {
        let all = self.credited + self.late;
        if all == 0 { 0.0 } else { self.late as f64 / all as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    use ruint::aliases::U256;

    fn pot(pot: i8) -> Pot {
        Pot::try_from(pot).unwrap()
    }

    /// Hashes as work finds them, some of which are left out.
    fn worked(shares: usize, keep: impl Fn(U256) -> bool) -> Statistics {
        let mut random = StdRng::seed_from_u64(5);
        let mut statistics = Statistics::default();
        let (pot, network) = (pot(0), pot(5).target());
        let mut left = shares;
        while left > 0 {
            let digest = U256::from_limbs(random.random()) % pot.target().value();
            if keep(digest) {
                statistics.note(0, &digest.to_le_bytes(), pot, network, true);
                left -= 1;
            }
        }
        statistics
    }

    #[test]
    fn honest_work_looks_like_it() {
        let honest = worked(20_000, |_| true);
        let evenness = honest.evenness();
        assert_eq!(evenness.shares, 20_000);
        assert!(evenness.chance > 0.01, "{evenness:?}");
        let payee = &honest.payees[0];
        assert!((payee.expected_blocks - 625.0).abs() < 0.1, "{payee:?}");
        assert!(payee.chance_of_so_few_blocks() > 0.01, "{payee:?}");
        let empty = Statistics::default().evenness();
        assert_eq!((empty.shares, empty.distance, empty.chance), (0, 0.0, 1.0));
    }

    #[test]
    fn shares_that_were_picked_do_not() {
        let middle = pot(1).target().value();
        let picked = worked(2_000, |digest| digest < middle || digest.bit(3)).evenness();
        assert!(picked.chance < 1e-6, "{picked:?}");
    }

    #[test]
    fn who_keeps_every_second_block_back_is_seen() {
        let network = pot(5).target().value();
        let withheld = worked(20_000, |digest| digest > network || digest.bit(3));
        assert!(withheld.payees[0].chance_of_so_few_blocks() < 1e-6, "{:?}", withheld.payees[0]);
        // Too few to be seen among all hashes.
        assert!(withheld.evenness().chance > 1e-4);
    }

    #[test]
    fn chances_are_those_of_the_tables() {
        let few = |blocks, expected_blocks| {
            PayeeStatistics { blocks, expected_blocks, ..Default::default() }.chance_of_so_few_blocks()
        };
        for (blocks, expected, chance) in
            [(0, 0.0, 1.0), (0, 3.0, 0.049787), (2, 3.0, 0.423190), (1_000, 1_000.0, 0.508409)]
        {
            assert!(
                (few(blocks, expected) - chance).abs() < 1e-5,
                "{blocks} of {expected}: {}",
                few(blocks, expected)
            );
        }
        let late = PayeeStatistics { credited: 30, late: 10, ..Default::default() };
        assert_eq!((late.late_part(), PayeeStatistics::default().late_part()), (0.25, 0.0));
    }
}
