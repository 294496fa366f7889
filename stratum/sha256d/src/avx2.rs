//! The compression function on the 256-bit registers of x86-64, eight messages side by side: word by word, one lane
//! for each message. For processors without the SHA instructions: there `sha2` alone needs 7 times as long for each.

#![expect(clippy::needless_range_loop, reason = "lanes and blocks are counted across several arrays")]

use std::arch::x86_64::*;

use crate::kernel::{Block, INITIAL, Kernel, Lanes, More, State};
use crate::library;
use crate::schedule::{K, PADDING_AFTER_64, Schedule};

/// This kernel, on a processor that has the registers.
pub(crate) fn kernel() -> Option<&'static Kernel> {
    is_x86_feature_detected!("avx2").then_some(&KERNEL)
}

/// Private to this module: `kernel` is the only way to it, so holding it proves that the processor was asked.
static KERNEL: Kernel = Kernel {
    name: "avx2",
    one: library::ONE,
    more: More::Eight(Lanes {
        // SAFETY: reached through `kernel` only, which found avx2 on this processor.
        blocks: |states, blocks| unsafe { take_blocks(states, blocks) },
        // SAFETY: as above.
        prepared: |states, schedules| unsafe { take_prepared(states, schedules) },
        // SAFETY: as above.
        again: |states| unsafe { hash_again(states) },
        // SAFETY: as above.
        climb: |states, siblings| unsafe { climb(states, siblings) },
    }),
};

/// One word of each lane.
type Word = __m256i;

#[target_feature(enable = "avx2")]
fn take_blocks(states: &mut [State; 8], blocks: [&[Block]; 8]) {
    let mut sliced = slice(states);
    for at in 0..blocks[0].len() {
        let mut words = [_mm256_setzero_si256(); 16];
        for (i, word) in words.iter_mut().enumerate() {
            *word = word_of(|lane| u32::from_be_bytes(blocks[lane][at].as_chunks().0[i]));
        }
        compress(&mut sliced, words);
    }
    unslice(sliced, states);
}

#[target_feature(enable = "avx2")]
fn take_prepared(states: &mut [State; 8], schedules: [&[Schedule]; 8]) {
    let mut sliced = slice(states);
    let alike = schedules.iter().all(|lane| std::ptr::eq(*lane, schedules[0]));
    for at in 0..schedules[0].len() {
        if alike {
            compress_prepared(&mut sliced, |t| all(schedules[0][at][t]));
        } else {
            compress_prepared(&mut sliced, |t| word_of(|lane| schedules[lane][at][t]));
        }
    }
    unslice(sliced, states);
}

#[target_feature(enable = "avx2")]
fn hash_again(states: &mut [State; 8]) {
    let mut sliced = slice(states);
    second_hash(&mut sliced);
    unslice(sliced, states);
}

#[target_feature(enable = "avx2")]
fn climb(states: &mut [State; 8], siblings: [&[u8; 32]; 8]) {
    let mut words = [_mm256_setzero_si256(); 16];
    let (own, others) = words.split_at_mut(8);
    own.copy_from_slice(&slice(states));
    for (i, word) in others.iter_mut().enumerate() {
        *word = word_of(|lane| u32::from_be_bytes(siblings[lane].as_chunks().0[i]));
    }
    let mut sliced = initial();
    compress(&mut sliced, words);
    compress_prepared(&mut sliced, |t| all(PADDING_AFTER_64[t]));
    second_hash(&mut sliced);
    unslice(sliced, states);
}

/// The hash of the digest that the words hold.
#[inline]
#[target_feature(enable = "avx2")]
fn second_hash(sliced: &mut [Word; 8]) {
    let mut words = [_mm256_setzero_si256(); 16];
    words[..8].copy_from_slice(sliced);
    words[8] = all(0x8000_0000);
    words[15] = all(256);
    *sliced = initial();
    compress(sliced, words);
}

/// All 64 rounds of one block of each lane, and the final addition.
#[inline]
#[target_feature(enable = "avx2")]
fn compress(sliced: &mut [Word; 8], mut w: [Word; 16]) {
    let start = *sliced;
    for (t, k) in K.iter().enumerate() {
        if t >= 16 {
            let [w15, w2] = [w[(t + 1) % 16], w[(t + 14) % 16]];
            let sigma0 = xor3(rotate::<7, 25>(w15), rotate::<18, 14>(w15), _mm256_srli_epi32::<3>(w15));
            let sigma1 = xor3(rotate::<17, 15>(w2), rotate::<19, 13>(w2), _mm256_srli_epi32::<10>(w2));
            let sum = _mm256_add_epi32(_mm256_add_epi32(w[t % 16], sigma0), w[(t + 9) % 16]);
            w[t % 16] = _mm256_add_epi32(sum, sigma1);
        }
        round(sliced, _mm256_add_epi32(w[t % 16], all(*k)));
    }
    add(sliced, &start);
}

#[inline]
#[target_feature(enable = "avx2")]
fn compress_prepared(sliced: &mut [Word; 8], wk: impl Fn(usize) -> Word) {
    let start = *sliced;
    for t in 0..64 {
        round(sliced, wk(t));
    }
    add(sliced, &start);
}

#[inline]
#[target_feature(enable = "avx2")]
fn round(sliced: &mut [Word; 8], wk: Word) {
    let [a, b, c, d, e, f, g, h] = *sliced;
    let sum1 = xor3(rotate::<6, 26>(e), rotate::<11, 21>(e), rotate::<25, 7>(e));
    let choice = _mm256_xor_si256(g, _mm256_and_si256(e, _mm256_xor_si256(f, g)));
    let t1 = _mm256_add_epi32(_mm256_add_epi32(h, sum1), _mm256_add_epi32(choice, wk));
    let sum0 = xor3(rotate::<2, 30>(a), rotate::<13, 19>(a), rotate::<22, 10>(a));
    let majority = _mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(c, _mm256_or_si256(a, b)));
    let t2 = _mm256_add_epi32(sum0, majority);
    *sliced = [_mm256_add_epi32(t1, t2), a, b, c, _mm256_add_epi32(d, t1), e, f, g];
}

/// To the right by `RIGHT`; `LEFT` is the rest of 32.
#[inline]
#[target_feature(enable = "avx2")]
fn rotate<const RIGHT: i32, const LEFT: i32>(word: Word) -> Word {
    _mm256_or_si256(_mm256_srli_epi32::<RIGHT>(word), _mm256_slli_epi32::<LEFT>(word))
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor3(a: Word, b: Word, c: Word) -> Word {
    _mm256_xor_si256(_mm256_xor_si256(a, b), c)
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(sliced: &mut [Word; 8], start: &[Word; 8]) {
    for (word, start) in sliced.iter_mut().zip(start) {
        *word = _mm256_add_epi32(*word, *start);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn all(word: u32) -> Word {
    _mm256_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx2")]
fn initial() -> [Word; 8] {
    let mut sliced = [_mm256_setzero_si256(); 8];
    for (word, initial) in sliced.iter_mut().zip(INITIAL) {
        *word = all(initial);
    }
    sliced
}

/// The word that each lane gives.
#[inline]
#[target_feature(enable = "avx2")]
fn word_of(lane: impl Fn(usize) -> u32) -> Word {
    let of = |number| lane(number).cast_signed();
    _mm256_setr_epi32(of(0), of(1), of(2), of(3), of(4), of(5), of(6), of(7))
}

#[inline]
#[target_feature(enable = "avx2")]
fn slice(states: &[State; 8]) -> [Word; 8] {
    let mut sliced = [_mm256_setzero_si256(); 8];
    for (i, word) in sliced.iter_mut().enumerate() {
        *word = word_of(|lane| states[lane][i]);
    }
    sliced
}

#[inline]
#[target_feature(enable = "avx2")]
fn unslice(sliced: [Word; 8], states: &mut [State; 8]) {
    for (i, word) in sliced.iter().enumerate() {
        let mut lanes = [0_u32; 8];
        // SAFETY: eight u32 are 32 writable bytes, and this store needs no alignment.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), *word) };
        for (state, value) in states.iter_mut().zip(lanes) {
            state[i] = value;
        }
    }
}
