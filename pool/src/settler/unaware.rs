//! How deep work lies that does not know of a settlement.

/// Blocks between the last work that does not know of a settlement and its transaction.
pub(super) const RELEASE_DEPTH: u32 = 6;

/// The highest tip below such work. It is kept when the chain goes back: miners may still have that work, and the node
/// may be on its tip again within a moment.
#[derive(Debug, Default)]
pub(super) struct Unaware(Option<u32>);

impl Unaware {
    /// Miners work on a tip of this height, and what they have does not know of the settlement, or of the next one.
    pub fn note(&mut self, tip_height: u32) {
        self.0 = self.0.max(Some(tip_height));
    }

    /// Whether such work can become a block no more, now that the tip has this height.
    pub fn is_past(&self, tip_height: u32) -> bool {
        self.0.is_some_and(|highest| tip_height >= highest + RELEASE_DEPTH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_does_not_know_of_a_settlement_is_past_six_blocks_later() {
        let mut unaware = Unaware::default();
        unaware.note(100);
        let past: Vec<_> = (100..110).filter(|height| unaware.is_past(*height)).collect();
        assert_eq!(past, [106, 107, 108, 109]);
    }

    #[test]
    fn a_chain_that_goes_back_for_a_moment_brings_no_transaction_sooner() {
        let mut unaware = Unaware::default();
        unaware.note(100);
        // The node forgets five blocks, and the first work that knows is on top of the others.
        assert!((95..=105).all(|height| !unaware.is_past(height)));
        // More work that does not know, below the highest.
        unaware.note(95);
        assert!(!unaware.is_past(101) && !unaware.is_past(105) && unaware.is_past(106));
    }
}
