//! What the end-to-end tests share: a real node, our real binaries, and a miner that is not ours.
//!
//! - [`support::node`]: bitcoind on regtest or a private signet
//! - [`support::pool`]: `sluice-pool` as a process, with its settings, log and data
//! - [`support::proxy`]: `sluice-proxy` as a process; [`support::served`]: what both have; [`support::relay`]: a bad network
//!   between two of them; [`support::stand_in`]: an upstream that does as it likes
//! - [`support::log`]: the share log, and what follows from it by brute force
//! - [`support::miner`]: a V1 miner written against the protocol only, with rust-bitcoin for the hashing;
//!   [`support::herd`]: a thousand of them that share one thread; [`support::v2_miner`]: one that speaks V2
//! - [`support::paid`]: what the blocks of a chain should pay, computed again from the log
#![forbid(unsafe_code)]

pub mod support;
