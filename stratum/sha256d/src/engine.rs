//! A message that comes in pieces: buffering, padding and the second hash.

use crate::kernel::{Block, INITIAL, Kernel, State, chosen};

/// Double SHA-256 of a message that comes in pieces.
///
/// A clone continues from where the original stood: hash a constant beginning once, then clone it per message.
#[derive(Clone)]
pub struct Sha256d {
    state: State,
    /// Bytes taken in so far. The last `length % 64` of them wait in `block`.
    length: u64,
    block: Block,
}

impl Sha256d {
    /// Starts a message.
    #[must_use]
    pub fn new() -> Self {
        Self { state: INITIAL, length: 0, block: [0; 64] }
    }

    /// Appends to the message, of which SHA-256 allows less than 2^61 bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.update_with(chosen(), bytes);
    }

    /// The digest, in internal byte order (the reverse of how ids are displayed).
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        self.finish_with(chosen())
    }

    pub(crate) fn update_with(&mut self, kernel: &Kernel, bytes: &[u8]) {
        let waiting = self.waiting();
        // `as`: usize is never wider than u64 where Rust runs today.
        self.length += bytes.len() as u64;
        if bytes.len() < 64 - waiting {
            self.block[waiting..waiting + bytes.len()].copy_from_slice(bytes);
            return;
        }
        let mut rest = bytes;
        if waiting > 0 {
            let (completing, after) = bytes.split_at(64 - waiting);
            self.block[waiting..].copy_from_slice(completing);
            take(kernel, &mut self.state, std::slice::from_ref(&self.block));
            rest = after;
        }
        let (blocks, tail) = rest.as_chunks();
        take(kernel, &mut self.state, blocks);
        self.block[..tail.len()].copy_from_slice(tail);
    }

    pub(crate) fn finish_with(self, kernel: &Kernel) -> [u8; 32] {
        let mut state = self.first_hash(kernel);
        (kernel.one.again)(std::array::from_mut(&mut state));
        to_bytes(&state)
    }

    /// Pads, and compresses what is left: the end of single SHA-256.
    pub(crate) fn first_hash(mut self, kernel: &Kernel) -> State {
        let (blocks, count) = padded(&self.block[..self.waiting()], self.length);
        take(kernel, &mut self.state, &blocks[..count]);
        self.state
    }

    /// Bytes in `block`.
    fn waiting(&self) -> usize {
        // `as`: below 64.
        (self.length % 64) as usize
    }
}

impl Default for Sha256d {
    fn default() -> Self {
        Self::new()
    }
}

/// The end of a message of `length` bytes, of which the last ones fill no block, padded to one block or two.
pub(crate) fn padded(tail: &[u8], length: u64) -> ([Block; 2], usize) {
    let mut blocks = [[0; 64]; 2];
    blocks[0][..tail.len()].copy_from_slice(tail);
    blocks[0][tail.len()] = 0x80;
    // The length takes the last eight bytes; where the end mark reached into them, it goes into a block more.
    let count = if tail.len() >= 56 { 2 } else { 1 };
    blocks[count - 1][56..].copy_from_slice(&(length * 8).to_be_bytes());
    (blocks, count)
}

pub(crate) fn to_bytes(state: &State) -> [u8; 32] {
    let mut digest = [0; 32];
    for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    digest
}

fn take(kernel: &Kernel, state: &mut State, blocks: &[Block]) {
    (kernel.one.blocks)(std::array::from_mut(state), [blocks]);
}
