//! The bytes of the newest log segment after a crash.
//!
//! Raw input seldom passes a checksum. So the same input is also taken for what stands behind the checksums: the bodies
//! of blocks that are well framed, cut at each `~`, followed by the input as the torn tail.
#![no_main]

use bitcoin::Network;
use libfuzzer_sys::fuzz_target;
use share_accounting::log::recover_bytes;
use share_accounting::log::segment::{
    BLOCK_HEADER_BYTES, BlockHeader, Blocks, End, Origin, Position, SEGMENT_HEADER_BYTES, SegmentHeader,
};

fuzz_target!(|input: &[u8]| {
    check(input);
    check(&framed(input));
});

/// What is called intact is intact: cut off there, the same entries come back and nothing is left over.
fn check(bytes: &[u8]) {
    let Ok(recovered) = recover_bytes(bytes) else { return };
    assert!((SEGMENT_HEADER_BYTES..=bytes.len()).contains(&recovered.intact_bytes));
    let again = recover_bytes(&bytes[..recovered.intact_bytes]);
    assert_eq!(again.as_ref(), Ok(&recovered));
    let mut index = recovered.header.start.index;
    for (at, _) in &recovered.entries {
        assert_eq!(*at, index);
        index += 1;
    }
}

/// A segment whose blocks carry the input as their bodies. The first byte of a body is its count of entries.
fn framed(input: &[u8]) -> Vec<u8> {
    let start = Position { index: 0, last: [0; 32] };
    let header = SegmentHeader { network: Network::Regtest, number: 0, log_id: [1; 16], start, work: 0 };
    let mut bytes = header.encode().to_vec();
    for (sequence, piece) in (0..).zip(input.split(|byte| *byte == b'~')) {
        let Some((count, body)) = piece.split_first() else { break };
        // Where the next block has to continue is known once the one before has been read back.
        let mut blocks = Blocks::new(&header, End::Open, None);
        while let Ok(Some(_)) = blocks.next_block(&bytes) {}
        let origin = Origin { site: 1, epoch: 1, sequence };
        let block = BlockHeader::new(origin, blocks.position(), u32::from(*count), body);
        bytes.extend_from_slice(&block.encode());
        bytes.extend_from_slice(body);
    }
    bytes.extend_from_slice(&input[..input.len().min(BLOCK_HEADER_BYTES)]);
    bytes
}
