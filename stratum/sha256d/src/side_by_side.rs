//! Many messages at once, in as many lanes as the kernel has. Messages in lockstep must have the same number of blocks,
//! so those of one shape go together, wherever they stand.

use crate::engine::{padded, to_bytes};
use crate::gapped::Gapped;
use crate::kernel::{Block, INITIAL, Kernel, Lanes, More, State, chosen};

/// Messages that one call takes.
pub const TOGETHER_MAX: usize = 64;
/// Lanes of the widest kernel.
const LANES_MAX: usize = 8;
/// Eight lanes cost less than that many messages one after the other.
const WORTH_EIGHT_LANES: usize = 3;

/// The first leaf of a merkle tree, and its way up.
#[derive(Debug, Clone, Copy)]
pub struct Leaf<'a> {
    /// The coinbase.
    pub message: &'a Gapped,
    /// What stands in its gap; as long as that.
    pub fill: &'a [u8],
    /// Siblings from the bottom up, in internal byte order.
    pub branch: &'a [[u8; 32]],
}

impl Leaf<'_> {
    /// Blocks, and steps up.
    fn shape(&self) -> [usize; 3] {
        [self.message.touched_count(), self.message.behind().len(), self.branch.len()]
    }
}

/// The merkle root over each leaf, in internal byte order.
///
/// # Panics
/// If there are more leaves than [`TOGETHER_MAX`], not as many roots, or a fill is not as long as its gap.
pub fn merkle_roots(leaves: &[Leaf<'_>], roots: &mut [[u8; 32]]) {
    merkle_roots_with(chosen(), leaves, roots);
}

/// The double hash of each block header, in internal byte order.
///
/// # Panics
/// If there are more headers than [`TOGETHER_MAX`], or not as many hashes.
pub fn header_hashes(headers: &[[u8; 80]], hashes: &mut [[u8; 32]]) {
    header_hashes_with(chosen(), headers, hashes);
}

pub(crate) fn merkle_roots_with(kernel: &Kernel, leaves: &[Leaf<'_>], roots: &mut [[u8; 32]]) {
    assert_eq!(leaves.len(), roots.len(), "a root for each leaf");
    kernel.in_groups(leaves.len(), |at| leaves[at].shape(), &mut Roots { leaves, roots });
}

pub(crate) fn header_hashes_with(kernel: &Kernel, headers: &[[u8; 80]], hashes: &mut [[u8; 32]]) {
    assert_eq!(headers.len(), hashes.len(), "a hash for each header");
    kernel.in_groups(headers.len(), |_| (), &mut Headers { headers, hashes });
}

/// The same for one leaf.
pub(crate) fn merkle_root(kernel: &Kernel, leaf: &Leaf<'_>) -> [u8; 32] {
    let mut root = [0; 32];
    let leaves = std::slice::from_ref(leaf);
    Roots { leaves, roots: std::slice::from_mut(&mut root) }.run(&kernel.one, [0]);
    root
}

/// What is to be done with messages of one shape, named by their numbers.
trait Work {
    fn run<const N: usize>(&mut self, lanes: &Lanes<N>, numbers: [usize; N]);
}

impl Kernel {
    /// Does the work for each number below `count`, those of one shape together.
    fn in_groups<S: PartialEq>(&self, count: usize, shape: impl Fn(usize) -> S, work: &mut impl Work) {
        assert!(count <= TOGETHER_MAX, "at most {TOGETHER_MAX} messages");
        let mut done = [false; TOGETHER_MAX];
        for first in 0..count {
            let mut group = [first; LANES_MAX];
            let mut members = 0;
            if !done[first] {
                let alike = (first..count).filter(|number| !done[*number] && shape(*number) == shape(first));
                for (place, number) in group.iter_mut().zip(alike.take(self.lanes_max())) {
                    *place = number;
                    members += 1;
                }
            }
            group[..members].iter().for_each(|number| done[*number] = true);
            self.run(&group[..members], work);
        }
    }

    fn lanes_max(&self) -> usize {
        match self.more {
            More::No => 1,
            More::Four(..) => 4,
            More::Eight(_) => 8,
        }
    }

    fn run(&self, group: &[usize], work: &mut impl Work) {
        match (&self.more, group) {
            (More::Four(two, _, _), &[a, b]) => work.run(two, [a, b]),
            (More::Four(_, three, _), &[a, b, c]) => work.run(three, [a, b, c]),
            (More::Four(_, _, four), &[a, b, c, d]) => work.run(four, [a, b, c, d]),
            (More::Eight(eight), _) if group.len() >= WORTH_EIGHT_LANES => {
                // Lanes left over do the last message again.
                work.run(eight, std::array::from_fn(|lane| group[lane.min(group.len() - 1)]));
            }
            _ => group.iter().for_each(|number| work.run(&self.one, [*number])),
        }
    }
}

struct Roots<'a, 'b> {
    leaves: &'a [Leaf<'b>],
    roots: &'a mut [[u8; 32]],
}

impl Work for Roots<'_, '_> {
    fn run<const N: usize>(&mut self, lanes: &Lanes<N>, numbers: [usize; N]) {
        let leaves = numbers.map(|number| &self.leaves[number]);
        let mut states: [State; N] = leaves.map(|leaf| *leaf.message.before());
        let filled: [[Block; 2]; N] = leaves.map(|leaf| leaf.message.fill(leaf.fill));
        let touched = leaves[0].message.touched_count();
        (lanes.blocks)(&mut states, std::array::from_fn(|lane| &filled[lane][..touched]));
        (lanes.prepared)(&mut states, leaves.map(|leaf| leaf.message.behind()));
        (lanes.again)(&mut states);
        for step in 0..leaves[0].branch.len() {
            (lanes.climb)(&mut states, leaves.map(|leaf| &leaf.branch[step]));
        }
        for (number, state) in numbers.iter().zip(&states) {
            self.roots[*number] = to_bytes(state);
        }
    }
}

struct Headers<'a> {
    headers: &'a [[u8; 80]],
    hashes: &'a mut [[u8; 32]],
}

impl Work for Headers<'_> {
    fn run<const N: usize>(&mut self, lanes: &Lanes<N>, numbers: [usize; N]) {
        let mut states = [INITIAL; N];
        let blocks: [[Block; 2]; N] = numbers.map(|number| {
            let (start, end) = self.headers[number].split_at(64);
            let (ends, _) = padded(end, 80);
            [start.try_into().expect("split behind 64 bytes"), ends[0]]
        });
        (lanes.blocks)(&mut states, std::array::from_fn(|lane| &blocks[lane][..]));
        (lanes.again)(&mut states);
        for (number, state) in numbers.iter().zip(&states) {
            self.hashes[*number] = to_bytes(state);
        }
    }
}
