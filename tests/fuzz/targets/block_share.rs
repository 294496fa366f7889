//! The share that is kept with a block until the log has it, as a disk may give it back.
//!
//! The first 32 bytes are the block's hash.
#![no_main]

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use libfuzzer_sys::fuzz_target;
use share_accounting::BlockShare;

fuzz_target!(|input: &[u8]| {
    let Some((hash, bytes)) = input.split_first_chunk() else { return };
    let hash = BlockHash::from_byte_array(*hash);
    let Some(share) = BlockShare::decode(hash, bytes) else { return };
    assert_eq!(share.hash(), hash);
    assert_eq!(share.encode(), bytes, "there is one encoding of each share");
});
