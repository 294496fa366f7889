//! Keeps large miners from finding blocks that pay fewer payees than they could.
//!
//! Machines choose the size of their coinbase by naming their firmware. What a small one has no room for is
//! carried as credit, so who finds blocks with small ones delays everybody else's pay. Whoever has more than 1 %
//! of the window is therefore served 755 bytes at least (accounting §2.4).
//!
//! Except where the machine is what it says: at the rate of a hobby board a connection finds few blocks, and the
//! board may cut a larger coinbase without a word, so that all its shares would be wrong. In a cooperative of
//! ten bitaxes each of them is above 1 %.

use bitcoin::ScriptBuf;
use share_accounting::moves::Moves;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use stratum::class::SizeClass;
use stratum::target::Work;

/// Smallest class for payees above the bound.
const FLOOR: SizeClass = SizeClass::B755;
/// The bound is one part in this many of the window.
const BOUND: u128 = 100;

/// Which class each payee's machines get at least, for the plans of one template.
#[derive(Debug)]
pub struct ClassFloor {
    /// Classes below [`FLOOR`] that pay fewer miners than it does, in the order of their codes.
    short: [bool; SizeClass::ALL.len()],
    /// Payees above the bound: fewer than [`BOUND`].
    heavy: HashSet<ScriptBuf>,
    /// Machines go on naming the address that their payee has left.
    moves: Arc<Moves>,
}

impl ClassFloor {
    /// `miners_paid` is the number of miners that the plan of each class pays, in the order of the codes.
    pub fn new(
        weights: &BTreeMap<ScriptBuf, Work>,
        moves: &Arc<Moves>,
        miners_paid: [usize; SizeClass::ALL.len()],
    ) -> Self {
        let full = miners_paid[usize::from(FLOOR.code())];
        let short =
            SizeClass::ALL.map(|class| class < FLOOR && miners_paid[usize::from(class.code())] < full);
        let window: u128 = weights.values().map(|work| work.0).sum();
        let heavy = weights.iter().filter(|(_, work)| work.0 > window / BOUND);
        let heavy = heavy.map(|(script, _)| script.clone()).collect();
        Self { short, heavy, moves: moves.clone() }
    }

    /// The class of a machine that mines for `payee`, declares `declared` and does `hashes_per_s`.
    pub fn class(&self, payee: &ScriptBuf, declared: SizeClass, hashes_per_s: f64) -> SizeClass {
        let harms = self.short[usize::from(declared.code())];
        if harms
            && hashes_per_s > board_hashes_per_s_max(declared)
            && self.heavy.contains(self.moves.payee(payee))
        {
            FLOOR
        } else {
            declared
        }
    }
}

/// Rate up to which a machine of a small class can be the board that it says it is. What difficulty control knows
/// of a rate is within a factor of two or three.
fn board_hashes_per_s_max(declared: SizeClass) -> f64 {
    match declared {
        // A NerdMiner does 1 MH/s at most.
        SizeClass::B255 => 10e6,
        // A bitaxe does 1 to 2 TH/s, boards of several such chips up to 12.
        _ => 40e12,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(n: u8) -> ScriptBuf {
        ScriptBuf::from_bytes(vec![0x51, n])
    }

    /// What no board does.
    const FARM: f64 = 1e15;

    /// Payee 1 has exactly 1 % of the window, payee 2 one unit more; payee 3 has the rest.
    fn weights() -> BTreeMap<ScriptBuf, Work> {
        [(1, 100), (2, 101), (3, 9_799)].map(|(n, work)| (script(n), Work(work))).into()
    }

    #[test]
    fn payees_above_one_percent_get_no_class_that_leaves_others_out() {
        let floor = ClassFloor::new(&weights(), &Arc::default(), [1, 2, 3, 3, 3, 3]);
        for small in [SizeClass::B255, SizeClass::B455] {
            for (payee, served) in [(1, small), (2, SizeClass::B755), (3, SizeClass::B755), (4, small)] {
                assert_eq!(floor.class(&script(payee), small, FARM), served, "payee {payee}");
            }
        }
        for large in &SizeClass::ALL[2..] {
            assert_eq!(floor.class(&script(3), *large, FARM), *large);
        }
    }

    #[test]
    fn a_small_class_that_pays_as_many_is_left_to_everybody() {
        let floor = ClassFloor::new(&weights(), &Arc::default(), [2, 3, 3, 3, 3, 3]);
        assert_eq!(floor.class(&script(3), SizeClass::B255, FARM), SizeClass::B755);
        assert_eq!(floor.class(&script(3), SizeClass::B455, FARM), SizeClass::B455);
    }

    #[test]
    fn a_board_that_is_what_it_says_keeps_its_class() {
        let floor = ClassFloor::new(&weights(), &Arc::default(), [1, 2, 3, 3, 3, 3]);
        for (small, board) in [(SizeClass::B255, 1e6), (SizeClass::B455, 12e12)] {
            // Three times the rate is what it may look like.
            for (looks, served) in
                [(0.0, small), (board, small), (3.0 * board, small), (11.0 * board, SizeClass::B755)]
            {
                assert_eq!(floor.class(&script(3), small, looks), served, "{looks}");
            }
        }
    }
}
