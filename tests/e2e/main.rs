//! End to end: real node, real pool process, real sockets and disks.
#![forbid(unsafe_code)]

mod adversary;
mod disk;
mod hostile;
mod idle;
mod kill;
mod paid_block;
mod regtest;
mod start;
mod stop;
mod transcripts;
