//! A message of which only a few bytes ever change, such as a job's coinbase.

use std::ops::Range;

use crate::engine::padded;
use crate::kernel::{Block, INITIAL, Kernel, State, chosen};
use crate::schedule::{Schedule, prepare, words};
use crate::side_by_side::{Leaf, merkle_root};

/// The longest gap, in bytes: so it touches at most two blocks.
pub const GAP_BYTES_MAX: usize = 64;

/// A message that is constant but for one gap: what stands before it is hashed once, and of what stands behind it the
/// message schedules are made once.
///
/// A prepared block costs half of another where four messages are hashed side by side, and as much as any where one
/// is. It takes 256 bytes here for its 64.
#[derive(Clone, PartialEq, Eq)]
pub struct Gapped {
    /// After the whole blocks that the gap does not touch.
    before: State,
    /// The block or the two that it touches.
    touched: [Block; 2],
    touched_count: usize,
    /// Where the gap is in these.
    gap: Range<usize>,
    /// The blocks behind them, padding included.
    behind: Box<[Schedule]>,
}

impl Gapped {
    /// Prepares a message; what stands in the gap does not matter.
    ///
    /// # Panics
    /// If the gap is empty, longer than [`GAP_BYTES_MAX`] or not inside the message.
    #[must_use]
    pub fn new(message: &[u8], gap: Range<usize>) -> Self {
        Self::new_with(chosen(), message, gap)
    }

    pub(crate) fn new_with(kernel: &Kernel, message: &[u8], gap: Range<usize>) -> Self {
        assert!((1..=GAP_BYTES_MAX).contains(&gap.len()), "a gap has 1 to {GAP_BYTES_MAX} bytes");
        assert!(gap.end <= message.len(), "the gap lies inside the message");
        let (whole, tail) = message.as_chunks::<64>();
        // `as`: usize is never wider than u64 where Rust runs today.
        let (end, end_count) = padded(tail, message.len() as u64);
        let blocks = || whole.iter().chain(&end[..end_count]);
        let [first, last] = [gap.start / 64, (gap.end - 1) / 64];
        let mut before = INITIAL;
        (kernel.one.blocks)(std::array::from_mut(&mut before), [&whole[..first]]);
        let touched_count = last - first + 1;
        let mut touched = [[0; 64]; 2];
        touched.iter_mut().zip(blocks().skip(first).take(touched_count)).for_each(|(to, from)| *to = *from);
        let behind = blocks().skip(last + 1).map(|block| prepare(&words(block))).collect();
        let start = first * 64;
        Self { before, touched, touched_count, gap: gap.start - start..gap.end - start, behind }
    }

    /// Bytes of the gap.
    #[must_use]
    pub fn gap_bytes(&self) -> usize {
        self.gap.len()
    }

    /// The message's double hash with the gap filled, in internal byte order.
    ///
    /// # Panics
    /// If `fill` is not as long as the gap.
    #[must_use]
    pub fn hash(&self, fill: &[u8]) -> [u8; 32] {
        merkle_root(chosen(), Leaf { message: self, fill, branch: &[] })
    }

    /// The blocks that the gap touches, with it filled.
    pub(crate) fn fill(&self, fill: &[u8]) -> [Block; 2] {
        let mut filled = self.touched;
        filled.as_flattened_mut()[self.gap.clone()].copy_from_slice(fill);
        filled
    }

    pub(crate) fn before(&self) -> &State {
        &self.before
    }

    /// How many of the blocks of [`Gapped::fill`] belong to the message.
    pub(crate) fn touched_count(&self) -> usize {
        self.touched_count
    }

    pub(crate) fn behind(&self) -> &[Schedule] {
        &self.behind
    }
}

impl std::fmt::Debug for Gapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gapped({:?}, {} blocks behind)", self.gap, self.behind.len())
    }
}
