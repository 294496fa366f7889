//! End to end: real node, real pool process, real sockets and disks.
#![forbid(unsafe_code)]

mod adversary;
mod disk;
mod export;
mod failover;
mod flood;
mod hostile;
mod hostile_v2;
mod idle;
mod keys;
mod kill;
mod light;
mod mainnet;
mod moving;
mod paid_block;
mod proxy_kill;
mod published;
mod receipts;
mod regtest;
mod road;
mod settlement;
mod settlement_lies;
mod signet;
mod start;
mod stop;
mod transcripts;
mod v2_kill;
mod v2_receipts;
mod verify;
mod witness;
