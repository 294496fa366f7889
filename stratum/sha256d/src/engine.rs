//! Buffering, padding and the second hash, on whichever compression function the processor allows.

use std::sync::OnceLock;

use crate::portable;

/// The eight words that a compression turns into the next eight.
pub(crate) type State = [u32; 8];
/// What one compression takes in.
pub(crate) type Block = [u8; 64];

/// One implementation of the compression function, in the three forms that double hashing needs.
pub(crate) struct Kernel {
    /// For logs.
    pub(crate) name: &'static str,
    /// Any number of message blocks, in order.
    pub(crate) compress_blocks: fn(&mut State, &[Block]),
    /// One block given as words: the digest of the first hash needs no way through bytes.
    pub(crate) compress_words: fn(&mut State, &[u32; 16]),
    /// One block whose schedule, constants added, was prepared beforehand.
    pub(crate) compress_prepared: fn(&mut State, &[u32; 64]),
}

/// The state before the first block (FIPS 180-4, section 5.3.3).
const INITIAL: State =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

/// What follows a message of 64 bytes: the end mark and the length, 512 bits.
static PADDING_AFTER_64: [u32; 64] = portable::prepare(&{
    let mut words = [0; 16];
    words[0] = 0x8000_0000;
    words[15] = 512;
    words
});

/// The block of the second hash: eight words of digest, then the end mark and the length, 256 bits.
const DIGEST_BLOCK: [u32; 16] = {
    let mut words = [0; 16];
    words[8] = 0x8000_0000;
    words[15] = 256;
    words
};

/// The kernel of this process, decided at the first call.
pub(crate) fn chosen() -> &'static Kernel {
    static CHOSEN: OnceLock<&'static Kernel> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        if let Some(kernel) = crate::sha_ni::kernel() {
            return kernel;
        }
        &portable::KERNEL
    })
}

/// Double SHA-256 of 64 bytes: three compressions, one of them with its schedule made at compile time.
pub(crate) fn pair(kernel: &Kernel, left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..32].copy_from_slice(left);
    block[32..].copy_from_slice(right);
    let mut state = INITIAL;
    (kernel.compress_blocks)(&mut state, &[block]);
    (kernel.compress_prepared)(&mut state, &PADDING_AFTER_64);
    second_hash(kernel, &state)
}

fn second_hash(kernel: &Kernel, first: &State) -> [u8; 32] {
    let mut words = DIGEST_BLOCK;
    words[..8].copy_from_slice(first);
    let mut state = INITIAL;
    (kernel.compress_words)(&mut state, &words);
    to_bytes(&state)
}

fn to_bytes(state: &State) -> [u8; 32] {
    let mut digest = [0; 32];
    for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    digest
}

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

    fn update_with(&mut self, kernel: &Kernel, bytes: &[u8]) {
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
            (kernel.compress_blocks)(&mut self.state, std::slice::from_ref(&self.block));
            rest = after;
        }
        let (blocks, tail) = rest.as_chunks();
        (kernel.compress_blocks)(&mut self.state, blocks);
        self.block[..tail.len()].copy_from_slice(tail);
    }

    fn finish_with(self, kernel: &Kernel) -> [u8; 32] {
        second_hash(kernel, &self.first_hash(kernel))
    }

    /// Pads, and compresses what is left: the end of single SHA-256.
    fn first_hash(mut self, kernel: &Kernel) -> State {
        let waiting = self.waiting();
        self.block[waiting] = 0x80;
        self.block[waiting + 1..].fill(0);
        // The length takes the last eight bytes; where the end mark reached into them, it goes into a block more.
        if waiting >= 56 {
            (kernel.compress_blocks)(&mut self.state, std::slice::from_ref(&self.block));
            self.block = [0; 64];
        }
        self.block[56..].copy_from_slice(&(self.length * 8).to_be_bytes());
        (kernel.compress_blocks)(&mut self.state, std::slice::from_ref(&self.block));
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

#[cfg(test)]
mod tests;
