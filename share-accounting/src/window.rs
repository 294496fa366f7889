//! The PPLNS window: the newest credited work up to a fixed sum, and whose it is.
//!
//! The window is a sum of work, never of time or rows. The oldest share inside counts only for the
//! part that is missing, so the weights sum to exactly min(W, all work). Appending is O(1) amortised:
//! a queue of runs, a tail inside it, and one sum per payee. Work beyond the tail is kept up to
//! 4·W in all, since a retarget can raise W fourfold at once. W is the largest so far: test networks fall to
//! difficulty 1 and come back with the next block.

mod runs;

pub(crate) use runs::{RUN_BYTES, Run, Runs};

use ruint::aliases::U256;
use runs::COUNT_MAX;
use std::collections::HashMap;
use stratum::hasher::SecretState;
use stratum::pot::Pot;
use stratum::target::Work;

/// A window's length: a rational number of network difficulties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    numerator: u64,
    denominator: u64,
}

impl Span {
    /// `numerator / denominator`; `None` unless both are positive.
    pub fn new(numerator: u64, denominator: u64) -> Option<Self> {
        (numerator > 0 && denominator > 0).then_some(Self { numerator, denominator })
    }

    /// The upper number.
    pub fn numerator(self) -> u64 {
        self.numerator
    }

    /// The lower number.
    pub fn denominator(self) -> u64 {
        self.denominator
    }

    /// W = ⌊numerator · network work / denominator⌋, at least 1 and at most 2^128 − 1.
    pub fn window_work(self, network: Work) -> Work {
        let work = U256::from(self.numerator) * U256::from(network.0) / U256::from(self.denominator);
        Work(u128::try_from(work).unwrap_or(u128::MAX).max(1))
    }
}

impl Default for Span {
    /// Eight network difficulties.
    fn default() -> Self {
        Self { numerator: 8, denominator: 1 }
    }
}

/// Shares kept beyond the window's edge, as a multiple of the largest W.
const KEPT: u128 = 4;

/// What of a window does not follow from its shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// W.
    pub size: Work,
    /// The largest W so far; 0 before the first one that followed from a network difficulty.
    pub largest: Work,
    /// Whether any share was dropped for good.
    pub dropped: bool,
}

/// The window. Payees are numbers here; who stands behind them is the caller's affair.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    size: u128,
    /// Largest size that the window was given by [`Window::resize`].
    largest: u128,
    runs: Runs,
    /// Run that holds the oldest share inside the window.
    tail: usize,
    /// Shares of that run which are already outside.
    outside: u32,
    /// Work of the shares inside, the oldest counted in full.
    sum: u128,
    by_payee: HashMap<u32, u128, SecretState>,
    /// Work of all shares in `runs`.
    kept: u128,
    /// Whether any share was dropped for good.
    dropped: bool,
}

impl Window {
    /// An empty window of the given size W.
    pub fn new(size: Work) -> Self {
        Self {
            size: size.0,
            largest: 0,
            runs: Runs::default(),
            tail: 0,
            outside: 0,
            sum: 0,
            by_payee: HashMap::default(),
            kept: 0,
            dropped: false,
        }
    }

    /// A window as it was: its [`Kept`] says all of it. `None` if there cannot have been such a one.
    pub(crate) fn restore(kept: Kept, runs: Runs) -> Option<Self> {
        let work = |run: &Run| run.pot().work().0.checked_mul(run.count().into());
        let sum = runs.pieces().flatten().try_fold(0_u128, |sum, run| sum.checked_add(work(run)?))?;
        let mut window = Self {
            largest: kept.largest.0,
            tail: runs.len(),
            runs,
            kept: sum,
            dropped: kept.dropped,
            ..Self::new(kept.size)
        };
        window.reach_back();
        (kept.size.0 > 0 && (kept.size <= kept.largest || kept.largest == Work(0))).then_some(window)
    }

    /// What a window is restored from, and its shares.
    pub(crate) fn kept(&self) -> (Kept, &Runs) {
        let Self { size, largest, dropped, runs, .. } = self;
        (Kept { size: Work(*size), largest: Work(*largest), dropped: *dropped }, runs)
    }

    /// W.
    pub fn size(&self) -> Work {
        Work(self.size)
    }

    /// Work that counts: min(W, all work appended).
    pub fn total(&self) -> Work {
        Work(self.sum.min(self.size))
    }

    /// Adds one credited share.
    pub fn append(&mut self, payee: u32, pot: Pot) {
        self.append_run(payee, pot, 1);
    }

    /// Adds `count` equal shares in a row.
    ///
    /// # Panics
    /// If all work kept exceeds 2^128, more than the whole network can do.
    pub fn append_run(&mut self, payee: u32, pot: Pot, count: u32) {
        let work = u128::from(count).checked_mul(pot.work().0).expect("work fits 128 bits");
        self.sum = self.sum.checked_add(work).expect("work fits 128 bits");
        self.kept = self.kept.checked_add(work).expect("work fits 128 bits");
        *self.by_payee.entry(payee).or_default() += work;
        let mut left = count;
        if let Some(last) = self.runs.newest()
            && (last.payee, last.pot()) == (payee, pot)
        {
            let grown = left.min(COUNT_MAX - last.count());
            *last = Run::new(payee, pot, last.count() + grown);
            left -= grown;
        }
        while left > 0 {
            let part = left.min(COUNT_MAX);
            self.runs.push(Run::new(payee, pot, part));
            left -= part;
        }
        self.trim();
    }

    /// The network difficulty changed. `false` if the window now reaches back to shares that were
    /// dropped: it must be rebuilt from the log.
    #[must_use]
    pub fn resize(&mut self, size: Work) -> bool {
        self.size = size.0;
        self.largest = self.largest.max(size.0);
        self.reach_back();
        let complete = self.is_complete();
        self.trim();
        complete
    }

    /// Moves the tail down to the newest share at which the window is full.
    fn reach_back(&mut self) {
        while self.sum < self.size {
            if self.outside == 0 {
                let Some(previous) = self.tail.checked_sub(1) else { break };
                self.tail = previous;
                self.outside = self.run(previous).count();
            }
            let run = self.run(self.tail);
            let work = run.pot().work().0;
            let wanted = (self.size - self.sum).div_ceil(work);
            let back = u32::try_from(wanted).unwrap_or(u32::MAX).min(self.outside);
            self.outside -= back;
            self.sum += work * u128::from(back);
            *self.by_payee.entry(run.payee).or_default() += work * u128::from(back);
        }
    }

    fn run(&self, nth: usize) -> Run {
        self.runs.get(nth).expect("the tail is never behind the newest run")
    }

    /// Whether no share that belongs into the window was dropped.
    pub fn is_complete(&self) -> bool {
        self.sum >= self.size || !self.dropped
    }

    /// Whose work it is; sums to [`Window::total`]. In no particular order.
    pub fn weights(&self) -> Vec<(u32, Work)> {
        let excess = self.sum.saturating_sub(self.size);
        let oldest = self.runs.get(self.tail).map(|run| run.payee);
        let part = |payee, sum| if Some(payee) == oldest { sum - excess } else { sum };
        let weights = self.by_payee.iter().map(|(&payee, &sum)| (payee, Work(part(payee, sum))));
        weights.filter(|(_, work)| work.0 > 0).collect()
    }

    /// Moves the tail up while the window is full without its oldest share, then drops what is
    /// too old for any retarget to bring back.
    fn trim(&mut self) {
        while self.sum > self.size && self.tail < self.runs.len() {
            let run = self.run(self.tail);
            let work = run.pot().work().0;
            let inside = run.count() - self.outside;
            let out = u32::try_from((self.sum - self.size) / work).unwrap_or(u32::MAX).min(inside);
            if out == 0 {
                break;
            }
            self.outside += out;
            self.sum -= work * u128::from(out);
            let left = self.by_payee.get_mut(&run.payee).expect("every share inside is in its payee's sum");
            *left -= work * u128::from(out);
            if *left == 0 {
                self.by_payee.remove(&run.payee);
            }
            if self.outside == run.count() {
                self.tail += 1;
                self.outside = 0;
            }
        }
        let limit = self.size.max(self.largest).saturating_mul(KEPT);
        while self.tail > 0 {
            let run = self.run(0);
            let work = run.pot().work().0 * u128::from(run.count());
            if self.kept - work < limit {
                break;
            }
            self.runs.pop();
            self.kept -= work;
            self.tail -= 1;
            self.dropped = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn pot(pot: i8) -> Pot {
        Pot::try_from(pot).unwrap()
    }

    /// The definition: walk back from the newest share until W is filled.
    fn brute(log: &[(u32, Pot)], size: u128) -> BTreeMap<u32, u128> {
        let (mut weights, mut left) = (BTreeMap::new(), size);
        for (payee, pot) in log.iter().rev() {
            let part = pot.work().0.min(left);
            if part > 0 {
                *weights.entry(*payee).or_default() += part;
            }
            left -= part;
        }
        weights
    }

    fn weights(window: &Window) -> BTreeMap<u32, u128> {
        window.weights().into_iter().map(|(payee, work)| (payee, work.0)).collect()
    }

    #[test]
    fn m18_the_oldest_share_counts_only_for_what_is_missing() {
        let mut window = Window::new(Work(65_537 + 65_536));
        window.append(1, pot(-16));
        window.append(2, pot(-16));
        assert_eq!(weights(&window), [(1, 65_536), (2, 65_537)].into());
        window.append(2, pot(-32));
        assert_eq!(weights(&window), [(1, 65_535), (2, 65_538)].into());
    }

    #[test]
    fn a_run_counts_like_its_shares_one_by_one_even_past_the_count_limit() {
        let mut window = Window::new(Work(3 * u128::from(COUNT_MAX)));
        window.append_run(1, Pot::MIN, u32::MAX);
        assert_eq!(window.total(), Work(3 * u128::from(COUNT_MAX)));
        window.append_run(2, Pot::MIN, 5);
        assert_eq!(weights(&window), [(1, 3 * u128::from(COUNT_MAX) - 5), (2, 5)].into());
    }

    #[test]
    fn growth_beyond_what_was_kept_asks_for_a_rebuild() {
        let mut window = Window::new(Work(10));
        (0..100).for_each(|i| window.append(i, Pot::MIN));
        assert!(window.resize(Work(40)));
        assert!(!window.resize(Work(60)));
        let mut short = Window::new(Work(1_000));
        short.append(1, Pot::MIN);
        assert!(short.resize(Work(u128::MAX)), "nothing was dropped, so nothing is missing");
    }

    #[test]
    fn a_difficulty_that_falls_and_comes_back_needs_no_rebuild() {
        let mut window = Window::new(Work(u128::MAX));
        assert!(window.resize(Work(1_000)));
        (0..5_000).for_each(|i| window.append(i % 7, Pot::MIN));
        let before = weights(&window);
        assert!(window.resize(Work(1)));
        (0..10).for_each(|_| window.append(8, Pot::MIN));
        assert!(window.resize(Work(1_000)));
        assert_eq!(window.total(), Work(1_000));
        assert_eq!(weights(&window)[&8], 10);
        assert_eq!(weights(&window).len(), before.len() + 1);
    }

    #[test]
    fn the_span_is_rational_and_never_rounds_to_nothing() {
        let half = Span::new(1, 2).unwrap();
        assert_eq!(half.window_work(Work(9)), Work(4));
        assert_eq!(half.window_work(Work(1)), Work(1));
        assert_eq!(Span::new(u64::MAX, 1).unwrap().window_work(Work(u128::MAX)), Work(u128::MAX));
        assert_eq!(Span::new(0, 1), None);
        assert_eq!(Span::new(1, 0), None);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Shares(u32, i8, u32),
        Resize(u128),
    }

    fn step() -> impl Strategy<Value = Step> {
        let size = (0_u32..90, any::<u64>())
            .prop_map(|(bits, x)| Step::Resize((u128::from(x) << 32 >> (96 - bits)).max(1)));
        prop_oneof![8 => (0_u32..6, -32_i8..30, 1_u32..5).prop_map(|(p, d, n)| Step::Shares(p, d, n)), 1 => size]
    }

    proptest! {
        #![proptest_config(crate::testing::cases())]
        #[test]
        fn i7_i8_the_window_equals_its_definition_under_random_retargets(
            start in 1_u128..1 << 60, steps in proptest::collection::vec(step(), 0..120)
        ) {
            let mut window = Window::new(Work(start));
            let (mut log, mut size, mut complete) = (Vec::new(), start, true);
            for step in steps {
                match step {
                    Step::Shares(payee, d, count) => {
                        for _ in 0..count {
                            window.append(payee, pot(d));
                            log.push((payee, pot(d)));
                        }
                    }
                    Step::Resize(to) => {
                        size = to;
                        complete = window.resize(Work(to));
                        if !complete {
                            // What the accounting thread does: start over from the log.
                            window = Window::new(Work(to));
                            log.iter().for_each(|(payee, pot)| window.append(*payee, *pot));
                        }
                    }
                }
                let expected = brute(&log, size);
                let all: u128 = log.iter().map(|(_, pot)| pot.work().0).sum();
                prop_assert_eq!(weights(&window), expected);
                let (kept, runs) = window.kept();
                prop_assert_eq!(Window::restore(kept, runs.clone()), Some(window.clone()));
                prop_assert_eq!(window.total().0, all.min(size));
            }
            let _ = complete;
        }
    }
}
