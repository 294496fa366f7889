//! Keeps large miners from finding blocks that pay fewer payees than they could.
//!
//! Machines choose the size of their coinbase by naming their firmware. What a small one has no room for is
//! carried as credit, so who finds blocks with small ones delays everybody else's pay. Whoever has more than 1 %
//! of the window is therefore served 755 bytes at least (accounting §2.4). Bitaxes take them: the DATUM gateway
//! serves them 6,500. Boards that cannot, such as NerdMiners, do not reach 1 % but among themselves.

use bitcoin::ScriptBuf;
use std::collections::{BTreeMap, HashSet};
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
}

impl ClassFloor {
    /// `miners_paid` is the number of miners that the plan of each class pays, in the order of the codes.
    pub fn new(weights: &BTreeMap<ScriptBuf, Work>, miners_paid: [usize; SizeClass::ALL.len()]) -> Self {
        let full = miners_paid[usize::from(FLOOR.code())];
        let short =
            SizeClass::ALL.map(|class| class < FLOOR && miners_paid[usize::from(class.code())] < full);
        let window: u128 = weights.values().map(|work| work.0).sum();
        let heavy = weights.iter().filter(|(_, work)| work.0 > window / BOUND);
        Self { short, heavy: heavy.map(|(script, _)| script.clone()).collect() }
    }

    /// The class of a machine that declares `declared` and mines for `payee`.
    pub fn class(&self, declared: SizeClass, payee: &ScriptBuf) -> SizeClass {
        let harms = self.short[usize::from(declared.code())];
        if harms && self.heavy.contains(payee) { FLOOR } else { declared }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(n: u8) -> ScriptBuf {
        ScriptBuf::from_bytes(vec![0x51, n])
    }

    /// Payee 1 has exactly 1 % of the window, payee 2 one unit more; payee 3 has the rest.
    fn weights() -> BTreeMap<ScriptBuf, Work> {
        [(1, 100), (2, 101), (3, 9_799)].map(|(n, work)| (script(n), Work(work))).into()
    }

    #[test]
    fn payees_above_one_percent_get_no_class_that_leaves_others_out() {
        let floor = ClassFloor::new(&weights(), [1, 2, 3, 3, 3, 3]);
        for small in [SizeClass::B255, SizeClass::B455] {
            assert_eq!(floor.class(small, &script(1)), small);
            assert_eq!(floor.class(small, &script(2)), SizeClass::B755);
            assert_eq!(floor.class(small, &script(3)), SizeClass::B755);
            assert_eq!(floor.class(small, &script(4)), small, "nothing in the window");
        }
        for large in &SizeClass::ALL[2..] {
            assert_eq!(floor.class(*large, &script(3)), *large);
        }
    }

    #[test]
    fn a_small_class_that_pays_as_many_is_left_to_everybody() {
        let floor = ClassFloor::new(&weights(), [2, 3, 3, 3, 3, 3]);
        assert_eq!(floor.class(SizeClass::B255, &script(3)), SizeClass::B755);
        assert_eq!(floor.class(SizeClass::B455, &script(3)), SizeClass::B455);
    }
}
