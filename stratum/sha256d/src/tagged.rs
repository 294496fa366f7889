//! The hashes of a log that is a Merkle tree (RFC 6962, section 2.1): single SHA-256, with a byte in front that keeps
//! leaves and inner nodes apart.

use crate::engine::to_bytes;
use crate::kernel::{Block, INITIAL, Kernel, Lanes, State, chosen};
use crate::side_by_side::Work;

/// In front of a record.
const LEAF: u8 = 0;
/// In front of two hashes.
const NODE: u8 = 1;

/// The leaf of each of `count` records.
///
/// # Panics
/// If there are not as many hashes.
pub fn log_leaves<'a>(count: usize, record: impl Fn(usize) -> &'a [u8], hashes: &mut [[u8; 32]]) {
    tagged_with(chosen(), LEAF, count, record, hashes);
}

/// The node above each pair of nodes, left and right.
///
/// # Panics
/// If there are not as many hashes.
pub fn log_nodes(pairs: &[[[u8; 32]; 2]], hashes: &mut [[u8; 32]]) {
    tagged_with(chosen(), NODE, pairs.len(), |number| pairs[number].as_flattened(), hashes);
}

pub(crate) fn tagged_with<'a>(
    kernel: &Kernel,
    tag: u8,
    count: usize,
    message: impl Fn(usize) -> &'a [u8],
    hashes: &mut [[u8; 32]],
) {
    assert_eq!(count, hashes.len(), "a hash for each message");
    kernel.do_all(count, &mut Tagged { tag, message, hashes });
}

struct Tagged<'a, F> {
    tag: u8,
    message: F,
    hashes: &'a mut [[u8; 32]],
}

/// Blocks of a message that are written out at once: all of a share's entry, or of two nodes.
const PIECE: usize = 2;

impl<'b, F: Fn(usize) -> &'b [u8]> Tagged<'_, F> {
    /// Of a message with its tag, the end mark and the length.
    fn block_count(&self, number: usize) -> usize {
        (1 + (self.message)(number).len() + 8) / 64 + 1
    }

    /// Writes out blocks from the one at `first` on.
    fn write(&self, number: usize, first: usize, piece: &mut [Block; PIECE]) {
        let message = (self.message)(number);
        let bytes = piece.as_flattened_mut();
        let start = first * 64;
        let (into, from) = if first == 0 { (1, 0) } else { (0, start - 1) };
        let rest = message.get(from..).unwrap_or_default();
        let count = rest.len().min(bytes.len() - into);
        bytes[0] = self.tag;
        bytes[into..into + count].copy_from_slice(&rest[..count]);
        bytes[into + count..].fill(0);
        let length = message.len() + 1;
        if let Some(end_mark) = length.checked_sub(start).and_then(|at| bytes.get_mut(at)) {
            *end_mark = 0x80;
        }
        let end = self.block_count(number) * 64 - start;
        if let Some(bits) = bytes.get_mut(end - 8..end) {
            // `as`: usize is never wider than u64 where Rust runs today.
            bits.copy_from_slice(&(length as u64 * 8).to_be_bytes());
        }
    }
}

impl<'b, F: Fn(usize) -> &'b [u8]> Work for Tagged<'_, F> {
    fn shape(&self, number: usize) -> [usize; 3] {
        [self.block_count(number), 0, 0]
    }

    fn run<const N: usize>(&mut self, lanes: &Lanes<N>, numbers: [usize; N]) {
        let block_count = self.block_count(numbers[0]);
        let mut states: [State; N] = [INITIAL; N];
        let mut pieces = [[[0; 64]; PIECE]; N];
        for first in (0..block_count).step_by(PIECE) {
            for (piece, number) in pieces.iter_mut().zip(numbers) {
                self.write(number, first, piece);
            }
            let count = PIECE.min(block_count - first);
            (lanes.blocks)(&mut states, std::array::from_fn(|lane| &pieces[lane][..count]));
        }
        for (number, state) in numbers.iter().zip(&states) {
            self.hashes[*number] = to_bytes(state);
        }
    }
}
