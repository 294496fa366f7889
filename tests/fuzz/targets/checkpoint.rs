//! The bytes of a checkpoint of the share log's books: a start reads them before it trusts them.
//!
//! Raw input seldom passes a checksum. So the same input is also taken for what stands behind it: a journal, as long as
//! its first two bytes say, and the runs of a window.
#![no_main]

use bitcoin::Network;
use libfuzzer_sys::fuzz_target;
use share_accounting::checkpoint::check;
use share_accounting::log::segment::{Position, SegmentHeader};

/// Root of the tree over nothing.
const EMPTY: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
    0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

fuzz_target!(|input: &[u8]| {
    if let Ok(contents) = check(input) {
        assert!(contents.total.0 <= contents.header.work);
    }
    let Some((length, rest)) = input.split_first_chunk() else { return };
    let (journal, runs) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    let window = !runs.is_empty();
    if let Ok(contents) = check(&sealed(journal, runs.as_chunks().0)) {
        // Whose work there is would have to be in the weights root.
        assert!(!window || contents.total.0 == 0);
    }
});

/// A checkpoint behind 2^63 entries, whose window has dropped shares and whose weights root is that of no work.
fn sealed(journal: &[u8], runs: &[[u8; 8]]) -> Vec<u8> {
    let start = Position { index: 1 << 63, last: [0; 32] };
    let work = u128::MAX;
    let header = SegmentHeader { network: Network::Regtest, number: 1, log_id: [1; 16], start, work };
    let tree = [2; 32];
    let mut bytes = b"SLUICBKS\x01\x00".to_vec();
    bytes.extend(header.encode());
    bytes.extend([0; 13]);
    bytes.extend(tree);
    bytes.extend(EMPTY);
    bytes.extend([8_u64, 1].map(u64::to_le_bytes).as_flattened());
    bytes.extend([1_000_u128, 1_000].map(u128::to_le_bytes).as_flattened());
    bytes.push(1);
    bytes.extend([journal.len() as u64, runs.len() as u64].map(u64::to_le_bytes).as_flattened());
    bytes.extend(tree);
    bytes.extend(journal);
    bytes.extend(runs.as_flattened());
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}
