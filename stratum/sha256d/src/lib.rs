//! Double SHA-256, the hash of Bitcoin's headers, transaction ids and merkle trees, and the hashes of a log that is a
//! Merkle tree.
//!
//! What is hashed:
//! - `engine`: a message that comes in pieces.
//! - `gapped`: a message of which only a few bytes change.
//! - `side_by_side`: many messages at once: coinbases with their merkle branches, and headers.
//! - `tagged`: leaves and nodes of a log, many at once.
//!
//! On what:
//! - `kernel`: what a kernel does, and which one this process uses.
//! - `sha_ni`: the SHA instructions of x86-64, one to four messages in turns.
//! - `avx2`: the 256-bit registers of x86-64, eight messages, where there are no SHA instructions.
//! - `library`: the crate `sha2`, everywhere else.
//! - `schedule`: the half of a block's work that can be done beforehand.
//!
//! The kernel is chosen once, at the first hash, by asking the processor. Nothing here allocates but [`Gapped::new`].
//!
//! This is the only crate of the servers that may hold `unsafe` code, and only `sha_ni` and `avx2` do.
//! Not here: single SHA-256 of anything else, HMAC, a constant-time promise, or any hash of a secret. What is hashed is public.

#![deny(unsafe_op_in_unsafe_fn)]
#![deny(clippy::undocumented_unsafe_blocks)]

#[cfg(target_arch = "x86_64")]
mod avx2;
mod engine;
mod gapped;
mod kernel;
mod library;
mod schedule;
#[cfg(target_arch = "x86_64")]
mod sha_ni;
mod side_by_side;
mod tagged;
#[cfg(test)]
mod tests;

pub use engine::Sha256d;
pub use gapped::{GAP_BYTES_MAX, Gapped};
pub use side_by_side::{Header, Leaf, Midstate, header_hashes, merkle_roots};
pub use tagged::{log_leaves, log_nodes};

/// Double SHA-256 of a message in one piece, in internal byte order (the reverse of how ids are displayed).
#[must_use]
pub fn sha256d(message: &[u8]) -> [u8; 32] {
    let mut engine = Sha256d::new();
    engine.update(message);
    engine.finish()
}

/// Double SHA-256 of two digests side by side: one step up a merkle branch.
///
/// The same as [`sha256d`] over the 64 bytes, without building the padding block again each time.
#[must_use]
pub fn sha256d_pair(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    pair(kernel::chosen(), left, right)
}

fn pair(kernel: &kernel::Kernel, left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let (words, _) = left.as_chunks::<4>();
    let mut states = [std::array::from_fn(|i| u32::from_be_bytes(words[i]))];
    (kernel.one.climb)(&mut states, [right]);
    engine::to_bytes(&states[0])
}

/// The kernel this process hashes with: `"sha-ni"`, `"avx2"` or `"sha2"`. For the log line at start.
#[must_use]
pub fn kernel_name() -> &'static str {
    kernel::chosen().name
}
