//! The compression function on the SHA instructions of x86-64, one message at a time.
//!
//! These instructions exist in the legacy encoding only, and mixing them with code on the 256-bit registers
//! costs hundreds of cycles per instruction. So the features enabled here never include AVX2, and a test
//! looks at the machine code for such registers.
//!
//! The instructions want the state as two registers, `abef` and `cdgh`, first letter in the highest lane.

use std::arch::x86_64::*;

use crate::engine::{Block, Kernel, State};
use crate::portable::K;

/// This kernel, on a processor that has the instructions.
pub(crate) fn kernel() -> Option<&'static Kernel> {
    let present = is_x86_feature_detected!("sha")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("sse4.1");
    present.then_some(&KERNEL)
}

/// Private to this module: `kernel` is the only way to it, so holding it proves that the processor was asked.
static KERNEL: Kernel = Kernel {
    name: "sha-ni",
    compress_blocks: |state, blocks| {
        // SAFETY: reached through `kernel` only, which found sha, ssse3 and sse4.1 on this processor.
        unsafe { compress_blocks(state, blocks) }
    },
    compress_words: |state, words| {
        // SAFETY: as above.
        unsafe { compress_words(state, words) }
    },
    compress_prepared: |state, prepared| {
        // SAFETY: as above.
        unsafe { compress_prepared(state, prepared) }
    },
};

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress_blocks(state: &mut State, blocks: &[Block]) {
    // Turns the bytes of four big-endian words round.
    let big_endian = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let mut registers = pack(state);
    for block in blocks {
        let (quads, _) = block.as_chunks::<16>();
        let words = [0, 1, 2, 3].map(|i| _mm_shuffle_epi8(load(&quads[i]), big_endian));
        registers = compress(registers, words);
    }
    unpack(registers, state);
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress_words(state: &mut State, words: &[u32; 16]) {
    let (quads, _) = words.as_chunks::<4>();
    let registers = compress(pack(state), [0, 1, 2, 3].map(|i| load_words(&quads[i])));
    unpack(registers, state);
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress_prepared(state: &mut State, prepared: &[u32; 64]) {
    let start = pack(state);
    let mut registers = start;
    for quad in prepared.as_chunks::<4>().0 {
        registers = four_rounds(registers, load_words(quad));
    }
    unpack(add(registers, start), state);
}

/// `abef` and `cdgh`.
type Registers = [__m128i; 2];

/// All 64 rounds of one block, its sixteen words given, and the final addition.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress(start: Registers, words: [__m128i; 4]) -> Registers {
    let [mut w0, mut w1, mut w2, mut w3] = words;
    let mut registers = start;
    let (constants, _) = K.as_chunks::<16>();
    for k in &constants[..3] {
        registers = four_rounds(registers, plus_constants(w0, k, 0));
        w0 = next_words(w0, w1, w2, w3);
        registers = four_rounds(registers, plus_constants(w1, k, 1));
        w1 = next_words(w1, w2, w3, w0);
        registers = four_rounds(registers, plus_constants(w2, k, 2));
        w2 = next_words(w2, w3, w0, w1);
        registers = four_rounds(registers, plus_constants(w3, k, 3));
        w3 = next_words(w3, w0, w1, w2);
    }
    for (i, w) in [w0, w1, w2, w3].into_iter().enumerate() {
        registers = four_rounds(registers, plus_constants(w, &constants[3], i));
    }
    add(registers, start)
}

/// Four rounds; `wk` holds four words of the schedule with their constants, the earliest lowest.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn four_rounds([abef, cdgh]: Registers, wk: __m128i) -> Registers {
    // Two rounds turn the old abef into cdgh, so the registers change roles twice.
    let middle = _mm_sha256rnds2_epu32(cdgh, abef, wk);
    let last = _mm_sha256rnds2_epu32(abef, middle, _mm_shuffle_epi32::<0b00_00_11_10>(wk));
    [last, middle]
}

/// The four words of the schedule that follow sixteen.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn next_words(w0: __m128i, w4: __m128i, w8: __m128i, w12: __m128i) -> __m128i {
    let w9 = _mm_alignr_epi8::<4>(w12, w8);
    _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(w0, w4), w9), w12)
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn plus_constants(words: __m128i, constants: &[u32; 16], quad: usize) -> __m128i {
    _mm_add_epi32(words, load_words(&constants.as_chunks::<4>().0[quad]))
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn add(a: Registers, b: Registers) -> Registers {
    [_mm_add_epi32(a[0], b[0]), _mm_add_epi32(a[1], b[1])]
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn pack(state: &State) -> Registers {
    let [a, b, c, d, e, f, g, h] = state.map(u32::cast_signed);
    [_mm_set_epi32(a, b, e, f), _mm_set_epi32(c, d, g, h)]
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn unpack([abef, cdgh]: Registers, state: &mut State) {
    *state = [
        _mm_extract_epi32::<3>(abef),
        _mm_extract_epi32::<2>(abef),
        _mm_extract_epi32::<3>(cdgh),
        _mm_extract_epi32::<2>(cdgh),
        _mm_extract_epi32::<1>(abef),
        _mm_extract_epi32::<0>(abef),
        _mm_extract_epi32::<1>(cdgh),
        _mm_extract_epi32::<0>(cdgh),
    ]
    .map(i32::cast_unsigned);
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn load(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the reference is to sixteen readable bytes, and this load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn load_words(words: &[u32; 4]) -> __m128i {
    // SAFETY: four u32 are sixteen readable bytes, and this load needs no alignment.
    unsafe { _mm_loadu_si128(words.as_ptr().cast()) }
}
