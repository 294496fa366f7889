//! The message schedule (FIPS 180-4, section 6.2.2, step 1), apart from the rounds that use it up: where a block comes
//! again and again, this half of its work is done once.

/// The sixteen words of a block, grown to 64, with the round constants added.
pub(crate) type Schedule = [u32; 64];

/// The schedule of a block. `const`, for the blocks that are known when this is compiled.
pub(crate) const fn prepare(words: &[u32; 16]) -> Schedule {
    let mut w = [0u32; 64];
    let mut t = 0;
    while t < 64 {
        w[t] = if t < 16 {
            words[t]
        } else {
            let sigma0 = w[t - 15].rotate_right(7) ^ w[t - 15].rotate_right(18) ^ (w[t - 15] >> 3);
            let sigma1 = w[t - 2].rotate_right(17) ^ w[t - 2].rotate_right(19) ^ (w[t - 2] >> 10);
            w[t - 16].wrapping_add(sigma0).wrapping_add(w[t - 7]).wrapping_add(sigma1)
        };
        t += 1;
    }
    // The schedule feeds on itself, so the constants are added only when it is complete.
    let mut t = 0;
    while t < 64 {
        w[t] = w[t].wrapping_add(ROUND_CONSTANTS[t]);
        t += 1;
    }
    w
}

/// The words that a schedule was made from.
pub(crate) fn words_of(schedule: &Schedule) -> [u32; 16] {
    std::array::from_fn(|t| schedule[t].wrapping_sub(K[t]))
}

/// The words of a block, which are written first byte first.
pub(crate) fn words(block: &[u8; 64]) -> [u32; 16] {
    let (words, _) = block.as_chunks::<4>();
    std::array::from_fn(|i| u32::from_be_bytes(words[i]))
}

/// What follows a message of 64 bytes: the end mark and the length, 512 bits.
pub(crate) static PADDING_AFTER_64: Schedule = prepare(&{
    let mut words = [0; 16];
    words[0] = 0x8000_0000;
    words[15] = 512;
    words
});

/// The round constants (FIPS 180-4, section 4.2.2).
pub(crate) static K: Schedule = ROUND_CONSTANTS;

#[rustfmt::skip]
const ROUND_CONSTANTS: Schedule = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];
