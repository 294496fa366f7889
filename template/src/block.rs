//! From a solved header to the bytes of its block.

use crate::fit::COINBASE_WITNESS_BYTES;
use bitcoin::VarInt;
use bitcoin::consensus::encode::serialize;
use stratum::job::Solution;

/// Marker and flag of a transaction with witnesses (BIP 144).
const MARKER_AND_FLAG: [u8; 2] = [0, 1];
/// Version in front, lock time at the end: between them the witness is spliced in.
const VERSION_BYTES: usize = 4;
const LOCK_TIME_BYTES: usize = 4;

/// The whole block, serialized.
///
/// Miners hash the coinbase without its witness; a block must carry it: one item of 32 zero bytes
/// (CB-07).
pub fn bytes(solution: &Solution) -> Vec<u8> {
    let transactions = &solution.body.transactions;
    let coinbase = &solution.coinbase;
    let witness_bytes = COINBASE_WITNESS_BYTES as usize; // 36
    let mut block = Vec::with_capacity(80 + 9 + coinbase.len() + witness_bytes + transactions.bytes.len());
    block.extend_from_slice(&solution.header);
    block.extend(serialize(&VarInt::from(transactions.count + 1)));
    let (version, rest) = coinbase.split_at(VERSION_BYTES);
    let (middle, lock_time) = rest.split_at(rest.len() - LOCK_TIME_BYTES);
    block.extend_from_slice(version);
    block.extend_from_slice(&MARKER_AND_FLAG);
    block.extend_from_slice(middle);
    block.extend_from_slice(&[1, 32]);
    block.extend_from_slice(&[0; 32]);
    block.extend_from_slice(lock_time);
    block.extend_from_slice(&transactions.bytes);
    block
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
