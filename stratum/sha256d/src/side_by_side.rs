//! Many messages at once, in as many lanes as the kernel has. Messages in lockstep must have the same number of blocks,
//! so those of one shape go together, wherever they stand.

use crate::engine::{padded, to_bytes};
use crate::gapped::Gapped;
use crate::kernel::{Block, INITIAL, Kernel, Lanes, More, State, chosen};

/// Messages among which those of one shape are looked for.
const WINDOW: usize = 64;
/// Lanes of the widest kernel.
const LANES_MAX: usize = 8;
/// Eight lanes cost less than that many messages one after the other: in all 1.1 times what `sha2` needs for one.
const WORTH_EIGHT_LANES: usize = 2;

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

/// The first 64 bytes of a header hashed, for headers that differ behind them only: in nonce, time and the end of the
/// merkle root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Midstate(State);

/// A block header to be hashed.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// As it is serialized.
    pub bytes: [u8; 80],
    /// Of its first 64 bytes; filled in where it is not known.
    pub midstate: Option<Midstate>,
}

/// The merkle root over each of `count` leaves, in internal byte order.
///
/// # Panics
/// If there are not as many roots, or a fill is not as long as its gap.
pub fn merkle_roots<'a>(count: usize, leaf: impl Fn(usize) -> Leaf<'a>, roots: &mut [[u8; 32]]) {
    merkle_roots_with(chosen(), count, leaf, roots);
}

/// The double hash of each block header, in internal byte order.
///
/// # Panics
/// If there are not as many hashes.
pub fn header_hashes(headers: &mut [Header], hashes: &mut [[u8; 32]]) {
    header_hashes_with(chosen(), headers, hashes);
}

pub(crate) fn merkle_roots_with<'a>(
    kernel: &Kernel,
    count: usize,
    leaf: impl Fn(usize) -> Leaf<'a>,
    roots: &mut [[u8; 32]],
) {
    assert_eq!(count, roots.len(), "a root for each leaf");
    kernel.do_all(count, &mut Roots { leaf, roots });
}

pub(crate) fn header_hashes_with(kernel: &Kernel, headers: &mut [Header], hashes: &mut [[u8; 32]]) {
    assert_eq!(headers.len(), hashes.len(), "a hash for each header");
    kernel.do_all(headers.len(), &mut Headers { headers, hashes });
}

/// The same for one leaf.
pub(crate) fn merkle_root(kernel: &Kernel, leaf: Leaf<'_>) -> [u8; 32] {
    let mut root = [[0; 32]];
    merkle_roots_with(kernel, 1, |_| leaf, &mut root);
    root[0]
}

/// What is to be done with messages, named by their numbers.
pub(crate) trait Work {
    /// Those of one shape can be done in lockstep.
    fn shape(&self, number: usize) -> [usize; 3];

    fn run<const N: usize>(&mut self, lanes: &Lanes<N>, numbers: [usize; N]);
}

impl Kernel {
    /// Does the work for each number below `count`, those of one shape together.
    pub(crate) fn do_all(&self, count: usize, work: &mut impl Work) {
        for start in (0..count).step_by(WINDOW) {
            self.do_window(start, count.min(start + WINDOW), work);
        }
    }

    fn do_window(&self, start: usize, end: usize, work: &mut impl Work) {
        let mut done = [false; WINDOW];
        for first in start..end {
            let mut group = [first; LANES_MAX];
            let mut members = 0;
            if !done[first - start] {
                let shape = work.shape(first);
                let alike =
                    (first..end).filter(|number| !done[number - start] && work.shape(*number) == shape);
                for (place, number) in group.iter_mut().zip(alike.take(self.lanes_max())) {
                    *place = number;
                    members += 1;
                }
            }
            group[..members].iter().for_each(|number| done[number - start] = true);
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

struct Roots<'a, F> {
    leaf: F,
    roots: &'a mut [[u8; 32]],
}

impl<'b, F: Fn(usize) -> Leaf<'b>> Work for Roots<'_, F> {
    /// Blocks that change, blocks that do not, and steps up.
    fn shape(&self, number: usize) -> [usize; 3] {
        let Leaf { message, branch, .. } = (self.leaf)(number);
        [message.touched_count(), message.behind().len(), branch.len()]
    }

    fn run<const N: usize>(&mut self, lanes: &Lanes<N>, numbers: [usize; N]) {
        let leaves = numbers.map(&self.leaf);
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
    headers: &'a mut [Header],
    hashes: &'a mut [[u8; 32]],
}

impl Work for Headers<'_> {
    fn shape(&self, number: usize) -> [usize; 3] {
        [usize::from(self.headers[number].midstate.is_some()); 3]
    }

    fn run<const N: usize>(&mut self, lanes: &Lanes<N>, numbers: [usize; N]) {
        let blocks: [[Block; 2]; N] = numbers.map(|number| {
            let (start, end) = self.headers[number].bytes.split_at(64);
            let (ends, _) = padded(end, 80);
            [start.try_into().expect("split behind 64 bytes"), ends[0]]
        });
        let mut states = numbers.map(|number| self.headers[number].midstate.map_or(INITIAL, |known| known.0));
        if self.headers[numbers[0]].midstate.is_none() {
            (lanes.blocks)(&mut states, std::array::from_fn(|lane| &blocks[lane][..1]));
        }
        for (number, state) in numbers.iter().zip(&states) {
            self.headers[*number].midstate = Some(Midstate(*state));
        }
        (lanes.blocks)(&mut states, std::array::from_fn(|lane| &blocks[lane][1..]));
        (lanes.again)(&mut states);
        for (number, state) in numbers.iter().zip(&states) {
            self.hashes[*number] = to_bytes(state);
        }
    }
}
