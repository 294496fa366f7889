//! The compression function on the SHA instructions of x86-64, for one to four messages side by side.
//!
//! One message is bound by the latency of `sha256rnds2` (4 cycles, of which each compression has 32 in a chain), so
//! others fit into its gaps: on Zen 3 a compression costs 130 cycles alone and 64 as one of four, 33 if its schedule
//! is there already. More than four lanes gain nothing, for then the registers are full.
//!
//! These instructions exist in the legacy encoding only, and mixing them with code on the 256-bit registers
//! costs hundreds of cycles per instruction. So the features enabled here never include AVX2, and a test
//! looks at the machine code for such registers.
//!
//! The instructions want the state as two registers, `abef` and `cdgh`, first letter in the highest lane.

#![expect(clippy::needless_range_loop, reason = "lanes and blocks are counted across several arrays")]

use std::arch::x86_64::*;

use crate::kernel::{Block, INITIAL, Kernel, Lanes, More, State};
use crate::schedule::{K, PADDING_AFTER_64, Schedule};

/// This kernel, on a processor that has the instructions.
pub(crate) fn kernel() -> Option<&'static Kernel> {
    let present = is_x86_feature_detected!("sha")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("sse4.1");
    present.then_some(&KERNEL)
}

/// Private to this module: `kernel` is the only way to it, so holding it proves that the processor was asked.
static KERNEL: Kernel = Kernel { name: "sha-ni", one: lanes(), more: More::Four(lanes(), lanes(), lanes()) };

const fn lanes<const N: usize>() -> Lanes<N> {
    Lanes {
        // SAFETY: reached through `kernel` only, which found sha, ssse3 and sse4.1 on this processor.
        blocks: |states, blocks| unsafe { take_blocks(states, blocks) },
        // SAFETY: as above.
        prepared: |states, schedules| unsafe { take_prepared(states, schedules) },
        // SAFETY: as above.
        again: |states| unsafe { hash_again(states) },
        // SAFETY: as above.
        climb: |states, siblings| unsafe { climb(states, siblings) },
    }
}

/// `abef` and `cdgh`.
type Registers = [__m128i; 2];
/// Sixteen words of a message or its schedule.
type Words = [__m128i; 4];

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn take_blocks<const N: usize>(states: &mut [State; N], blocks: [&[Block]; N]) {
    let mut registers = pack(states);
    for at in 0..blocks[0].len() {
        let mut words = [[_mm_setzero_si128(); 4]; N];
        for lane in 0..N {
            let (quads, _) = blocks[lane][at].as_chunks::<16>();
            for quad in 0..4 {
                words[lane][quad] = load_big_endian(&quads[quad]);
            }
        }
        compress(&mut registers, words);
    }
    unpack(registers, states);
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn take_prepared<const N: usize>(states: &mut [State; N], schedules: [&[Schedule]; N]) {
    let mut registers = pack(states);
    for at in 0..schedules[0].len() {
        let mut schedule = [&schedules[0][at]; N];
        for lane in 1..N {
            schedule[lane] = &schedules[lane][at];
        }
        compress_prepared(&mut registers, schedule);
    }
    unpack(registers, states);
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn hash_again<const N: usize>(states: &mut [State; N]) {
    let mut registers = pack(states);
    second_hash(&mut registers);
    unpack(registers, states);
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn climb<const N: usize>(states: &mut [State; N], siblings: [&[u8; 32]; N]) {
    let mut words = [[_mm_setzero_si128(); 4]; N];
    for lane in 0..N {
        let (own, _) = states[lane].as_chunks::<4>();
        let (sibling, _) = siblings[lane].as_chunks::<16>();
        words[lane] = [
            load_words(&own[0]),
            load_words(&own[1]),
            load_big_endian(&sibling[0]),
            load_big_endian(&sibling[1]),
        ];
    }
    let mut registers = pack(&[INITIAL; N]);
    compress(&mut registers, words);
    compress_prepared(&mut registers, [&PADDING_AFTER_64; N]);
    second_hash(&mut registers);
    unpack(registers, states);
}

/// The hash of the digest that the registers hold.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn second_hash<const N: usize>(registers: &mut [Registers; N]) {
    let end_mark = _mm_set_epi32(0, 0, 0, i32::MIN);
    let length = _mm_set_epi32(256, 0, 0, 0);
    let mut words = [[_mm_setzero_si128(); 4]; N];
    for lane in 0..N {
        let [abcd, efgh] = in_order(registers[lane]);
        words[lane] = [abcd, efgh, end_mark, length];
    }
    *registers = pack(&[INITIAL; N]);
    compress(registers, words);
}

/// All 64 rounds of one block of each lane, its sixteen words given, and the final addition.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress<const N: usize>(registers: &mut [Registers; N], mut words: [Words; N]) {
    let start = *registers;
    let (constants, _) = K.as_chunks::<4>();
    let (constants, _) = constants.as_chunks::<4>();
    // Indices that are constants keep the words in registers.
    for k in &constants[..3] {
        rounds_and_next::<N, 0>(registers, &mut words, k);
        rounds_and_next::<N, 1>(registers, &mut words, k);
        rounds_and_next::<N, 2>(registers, &mut words, k);
        rounds_and_next::<N, 3>(registers, &mut words, k);
    }
    rounds::<N, 0>(registers, &words, &constants[3]);
    rounds::<N, 1>(registers, &words, &constants[3]);
    rounds::<N, 2>(registers, &words, &constants[3]);
    rounds::<N, 3>(registers, &words, &constants[3]);
    add(registers, &start);
}

/// The rounds of the four words at `QUAD`, which are then replaced by those sixteen further on.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn rounds_and_next<const N: usize, const QUAD: usize>(
    registers: &mut [Registers; N],
    words: &mut [Words; N],
    constants: &[[u32; 4]; 4],
) {
    rounds::<N, QUAD>(registers, words, constants);
    for lane in words {
        let of = |ahead: usize| lane[(QUAD + ahead) % 4];
        lane[QUAD] = next_words(of(0), of(1), of(2), of(3));
    }
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn rounds<const N: usize, const QUAD: usize>(
    registers: &mut [Registers; N],
    words: &[Words; N],
    constants: &[[u32; 4]; 4],
) {
    let k = load_words(&constants[QUAD]);
    for lane in 0..N {
        registers[lane] = four_rounds(registers[lane], _mm_add_epi32(words[lane][QUAD], k));
    }
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress_prepared<const N: usize>(registers: &mut [Registers; N], schedules: [&Schedule; N]) {
    let start = *registers;
    for quad in 0..16 {
        for lane in 0..N {
            let wk = load_words(&schedules[lane].as_chunks::<4>().0[quad]);
            registers[lane] = four_rounds(registers[lane], wk);
        }
    }
    add(registers, &start);
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
fn add<const N: usize>(registers: &mut [Registers; N], start: &[Registers; N]) {
    for lane in 0..N {
        for half in 0..2 {
            registers[lane][half] = _mm_add_epi32(registers[lane][half], start[lane][half]);
        }
    }
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn pack<const N: usize>(states: &[State; N]) -> [Registers; N] {
    let mut registers = [[_mm_setzero_si128(); 2]; N];
    for lane in 0..N {
        let (halves, _) = states[lane].as_chunks::<4>();
        // Lowest lane first: badc and hgfe.
        let badc = _mm_shuffle_epi32::<0b10_11_00_01>(load_words(&halves[0]));
        let hgfe = _mm_shuffle_epi32::<0b00_01_10_11>(load_words(&halves[1]));
        let abef = _mm_alignr_epi8::<8>(badc, hgfe);
        registers[lane] = [abef, _mm_blend_epi16::<0b1111_0000>(hgfe, badc)];
    }
    registers
}

/// `abcd` and `efgh`, the first letter in the lowest lane.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn in_order([abef, cdgh]: Registers) -> [__m128i; 2] {
    let feba = _mm_shuffle_epi32::<0b00_01_10_11>(abef);
    let dchg = _mm_shuffle_epi32::<0b10_11_00_01>(cdgh);
    [_mm_blend_epi16::<0b1111_0000>(feba, dchg), _mm_alignr_epi8::<8>(dchg, feba)]
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn unpack<const N: usize>(registers: [Registers; N], states: &mut [State; N]) {
    for lane in 0..N {
        let (halves, _) = states[lane].as_chunks_mut::<4>();
        let [abcd, efgh] = in_order(registers[lane]);
        store_words(abcd, &mut halves[0]);
        store_words(efgh, &mut halves[1]);
    }
}

/// Four words, written first byte first.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn load_big_endian(bytes: &[u8; 16]) -> __m128i {
    let turned = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    // SAFETY: the reference is to sixteen readable bytes, and this load needs no alignment.
    let words = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
    _mm_shuffle_epi8(words, turned)
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn load_words(words: &[u32; 4]) -> __m128i {
    // SAFETY: four u32 are sixteen readable bytes, and this load needs no alignment.
    unsafe { _mm_loadu_si128(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn store_words(from: __m128i, words: &mut [u32; 4]) {
    // SAFETY: four u32 are sixteen writable bytes, and this store needs no alignment.
    unsafe { _mm_storeu_si128(words.as_mut_ptr().cast(), from) }
}
