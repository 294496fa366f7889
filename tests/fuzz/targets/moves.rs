//! A signature for a payee's move to another address, as anybody may hand it in: no bytes are one by chance.
#![no_main]

use bitcoin::{Network, ScriptBuf};
use libfuzzer_sys::fuzz_target;
use share_accounting::entry::Move;
use share_accounting::moves::Moves;

fuzz_target!(|input: &[u8]| {
    let Some((kind, signature)) = input.split_first() else { return };
    // Keys that nobody has: P2WPKH, P2TR, P2SH, P2PKH.
    let from = match kind % 4 {
        0 => [&[0, 20][..], &[7; 20]].concat(),
        1 => [&[0x51, 32][..], &[7; 32]].concat(),
        2 => [&[0xa9, 20][..], &[7; 20], &[0x87]].concat(),
        _ => [&[0x76, 0xa9, 20][..], &[7; 20], &[0x88, 0xac]].concat(),
    };
    let to = ScriptBuf::from_bytes([&[0, 20][..], &[8; 20]].concat());
    let moved = Move { log_id: [1; 16], from: from.into(), to, signature: signature.to_vec() };
    assert!(Moves::default().check(&moved, Network::Regtest).is_err());
});
