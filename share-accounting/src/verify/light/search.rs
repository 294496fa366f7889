//! Which share a number below the credited work ends at.

use super::signed::LightError;
use super::{Light, adds_up};
use crate::entry::{Entry, Share};
use crate::publish::tiles::WIDTH;
use std::fmt::{Debug, Display};

/// Each so many guesses go to the middle, so that no log makes the search longer than three bisections.
const MIDDLE_EACH: u32 = 3;

/// Where the search has narrowed to: all sums of bundles before `below` end at or below the number, and the first one of
/// bundle `above` is above it.
struct Bracket {
    below: u64,
    above: u64,
    /// Sums at both ends.
    sum_below: u128,
    sum_above: u128,
}

impl Bracket {
    /// A bundle inside, where the number would be if work came evenly.
    fn guess(&self, number: u128) -> u64 {
        let room = self.above - self.below;
        let (part, span) = (number - self.sum_below, self.sum_above - self.sum_below);
        // Both shortened until the product fits: it is a guess.
        let shift = 64_u32.saturating_sub(span.leading_zeros());
        let guess = (part >> shift) * u128::from(room) / (span >> shift).max(1);
        self.below + u64::try_from(guess).unwrap_or(room).min(room - 1)
    }

    fn middle(&self) -> u64 {
        self.below + (self.above - self.below) / 2
    }
}

impl<E: Debug + Display> Light<'_, E> {
    /// The shares of a bundle. The first time their sums are added up, as far as the bundle shows them.
    pub(super) fn shares_of(&mut self, bundle: u64) -> Result<Vec<(u64, Share)>, LightError<E>> {
        let entries = self.log.bundle(bundle)?;
        let shares = (bundle * WIDTH as u64..).zip(entries.iter()).filter_map(|(index, entry)| match entry {
            Entry::Share(share) => Some((index, share.clone())),
            _ => None,
        });
        let shares: Vec<_> = shares.collect();
        if self.added_up.insert(bundle) {
            for pair in shares.windows(2) {
                let [(_, before), (index, share)] = pair else { continue };
                if let Err(lie) = adds_up(before.total_work.0, share) {
                    self.found(*index, lie);
                }
            }
        }
        Ok(shares)
    }

    /// The share whose interval holds a number, by its sum and that of the share before it, which is given too.
    ///
    /// It goes by the number and the log alone: what was drawn before does not move it.
    pub(in crate::verify) fn search(&mut self, number: u128) -> Result<(u64, Share, u128), LightError<E>> {
        assert!(number < self.total_work, "{number} is no number below {}", self.total_work);
        let mut bracket = Bracket { below: 0, above: self.bundles, sum_below: 0, sum_above: self.total_work };
        let mut guesses = 0_u32;
        while bracket.below < bracket.above {
            guesses += 1;
            let guess =
                if guesses.is_multiple_of(MIDDLE_EACH) { bracket.middle() } else { bracket.guess(number) };
            // What has no share ends at the sum of the one before.
            let mut bundle = guess;
            let mut shares = self.shares_of(bundle)?;
            while shares.is_empty() && bundle > bracket.below {
                bundle -= 1;
                shares = self.shares_of(bundle)?;
            }
            let crossing = shares.windows(2).find_map(|pair| match pair {
                [(_, before), (index, share)]
                    if before.total_work.0 <= number && number < share.total_work.0 =>
                {
                    Some((*index, share.clone(), before.total_work.0))
                }
                _ => None,
            });
            if let Some(crossing) = crossing {
                return Ok(crossing);
            }
            match shares.last() {
                None => bracket.below = guess + 1,
                Some((_, last)) if last.total_work.0 <= number => {
                    (bracket.below, bracket.sum_below) = (guess + 1, last.total_work.0);
                }
                Some(_) => {
                    (bracket.above, bracket.sum_above) = (bundle, shares[0].1.total_work.0);
                }
            }
        }
        // The last bundle with a share ends above the number, so the search has come to one that begins above it.
        let shares = self.shares_of(bracket.above)?;
        let (index, share) = shares.into_iter().next().expect("the search has seen a share in it");
        Ok((index, share, bracket.sum_below))
    }
}
