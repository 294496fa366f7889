//! What the end-to-end tests share: a real node, our real binaries, and a miner that is not ours.
//!
//! - [`support::node`]: bitcoind on regtest or a private signet
//! - [`support::pool`]: `sluice-pool` as a process, with its settings, log and data
//! - [`support::log`]: the share log, and what follows from it by brute force
//! - [`support::miner`]: a V1 miner written against the protocol only, with rust-bitcoin for the hashing
#![forbid(unsafe_code)]

pub mod support;
