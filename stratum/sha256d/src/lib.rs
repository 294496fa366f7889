//! Double SHA-256, the hash of Bitcoin's headers, transaction ids and merkle trees.
//!
//! - `engine`: what is hashed: buffering, padding, the second hash, and the choice of a kernel.
//! - `portable`: the compression function (FIPS 180-4, section 6.2.2) in plain Rust, for every processor.
//! - `sha_ni`: the same function on the SHA instructions of x86-64.
//!
//! The kernel is chosen once, at the first hash, by asking the processor. Nothing here allocates.
//!
//! This is the only crate of the workspace that may hold `unsafe` code, and only `sha_ni` does.
//! Not here: single SHA-256, HMAC, a constant-time promise, or any hash of a secret. What is hashed is public.

#![deny(unsafe_op_in_unsafe_fn)]
#![deny(clippy::undocumented_unsafe_blocks)]

mod engine;
mod portable;
#[cfg(target_arch = "x86_64")]
mod sha_ni;

pub use engine::Sha256d;

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
    engine::pair(engine::chosen(), left, right)
}

/// The kernel this process hashes with: `"sha-ni"` or `"portable"`. For the log line at start.
#[must_use]
pub fn kernel_name() -> &'static str {
    engine::chosen().name
}
