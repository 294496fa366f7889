//! The compression function of the crate `sha2`, for processors that have no kernel of ours: on ARM it uses that
//! processor's own instructions. One message at a time.

use sha2::block_api::compress256;

use crate::kernel::{Block, INITIAL, Kernel, Lanes, More, State};
use crate::schedule::{Schedule, words_of};

/// Works on every processor.
pub(crate) static KERNEL: Kernel = Kernel { name: "sha2", one: ONE, more: More::No };

/// Also for kernels that have no way of their own to hash one message.
pub(crate) const ONE: Lanes<1> = Lanes {
    blocks: |[state], [blocks]| compress256(state, blocks),
    prepared: |[state], [schedules]| schedules.iter().for_each(|schedule| take_prepared(state, schedule)),
    again: |[state]| hash_again(state),
    climb: |[state], [sibling]| climb(state, sibling),
};

/// The library takes no schedules, but the block is still in there.
fn take_prepared(state: &mut State, schedule: &Schedule) {
    let mut block = [0; 64];
    write_words(&words_of(schedule), &mut block);
    compress256(state, &[block]);
}

/// The end mark and the length of a digest, 256 bits.
fn hash_again(state: &mut State) {
    let mut block: Block = [0; 64];
    write_words(state, &mut block);
    block[32] = 0x80;
    block[62] = 1;
    *state = INITIAL;
    compress256(state, &[block]);
}

fn climb(state: &mut State, sibling: &[u8; 32]) {
    let mut blocks: [Block; 2] = [[0; 64]; 2];
    write_words(state, &mut blocks[0]);
    blocks[0][32..].copy_from_slice(sibling);
    // The end mark and the length, 512 bits.
    blocks[1][0] = 0x80;
    blocks[1][62] = 2;
    *state = INITIAL;
    compress256(state, &blocks);
    hash_again(state);
}

fn write_words(words: &[u32], bytes: &mut [u8]) {
    for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *bytes = word.to_be_bytes();
    }
}
