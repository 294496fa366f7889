//! A block file, as a disk may give it back: its records, the chain that their headers are, and their transactions.
//!
//! The first byte says whether a key follows; with it come eight bytes.
#![no_main]

use bitcoin::Network;
use bitcoin::consensus::encode::serialize;
use libfuzzer_sys::fuzz_target;
use std::io::Cursor;
use template::bitcoind::blockfiles::records::{BLOCK_BYTES, Key, Record, Records, decode};
use template::bitcoind::blockfiles::tree::{Found, HeaderTree, Spot};

fuzz_target!(|input: &[u8]| {
    let Some((kind, input)) = input.split_first() else { return };
    let (key, file) = match input.split_first_chunk() {
        Some((key, file)) if kind % 2 == 1 => (Key(*key), file),
        _ => (Key::default(), input),
    };
    let mut found = Vec::new();
    let mut end = 0;
    for record in Records::new(Cursor::new(file), key, Network::Regtest.magic()).expect("memory can be read")
    {
        let Ok(Record { offset, length, hash, header }) = record else { break };
        assert!(BLOCK_BYTES.contains(&length) && offset >= end + 8, "it follows those before");
        end = offset + u64::from(length);
        let mut bytes = file[offset as usize..end as usize].to_vec();
        key.apply(offset, &mut bytes);
        if let Ok((block, names)) = decode(&bytes, hash) {
            assert_eq!((block.header, block.txdata.len()), (header, names.len()));
            assert!(serialize(&block).len() <= bytes.len());
        }
        let (prev_hash, nbits) = (header.prev_blockhash, header.bits.to_consensus());
        found.push(Found {
            hash,
            prev_hash,
            time: header.time,
            nbits,
            spot: Spot { file: 0, offset, length },
        });
    }
    let Ok(tree) = HeaderTree::connect(found.clone(), Network::Regtest) else { return };
    let height = tree.get(tree.tip().hash).expect("its tip").1.height;
    for height in 1..=height {
        let (block, parent) = (tree.at(height).expect("below the tip"), tree.at(height - 1).expect("below"));
        assert_eq!(block.prev_hash, parent.hash);
        assert_eq!(tree.get(parent.hash).expect("in the chain").1.next, Some(block.hash));
    }
    assert!(tree.at(height + 1).is_none());
    assert!(found.iter().filter_map(|found| tree.get(found.hash)).all(|(_, place)| place.height <= height));
});
