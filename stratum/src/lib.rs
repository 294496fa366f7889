//! The Stratum core: bytes, time and jobs in; replies, shares and blocks out.
//!
//! - units: [`target`] (targets and work), [`pot`] (share difficulty), [`class`] (coinbase size classes)
//! - [`payee`]: who is paid; [`extranonce`]: which work is whose
//! - [`job`]: what miners hash, [`merkle`]: the way from its coinbase to the root; [`encoded`]: what all who get it
//!   share of its bytes; [`ring`]: which jobs may still be submitted; [`share`]: the one share check
//! - [`vardiff`]: which difficulty a machine gets; [`fault`]: why a connection is closed; [`allowance`]: how much a
//!   peer may do, [`patience`]: how much of it may be nonsense; [`hasher`]: quick hash maps
//! - [`session`]: a miner's connection, whichever protocol it speaks; [`v1`], [`v2`]: Stratum V1 and V2, both sides
//!
//! What this crate does not do: it touches no socket, file, clock, thread or random source. Time
//! comes in as an argument; whoever calls it decides when to read the clock and when to send.
#![forbid(unsafe_code)]

// The builders of `sample` name this crate as the tests outside of it do.
#[cfg(test)]
extern crate self as stratum;

pub mod allowance;
pub mod class;
pub mod encoded;
pub mod extranonce;
pub mod fault;
pub mod hasher;
pub mod job;
pub mod merkle;
pub mod patience;
pub mod payee;
pub mod pot;
pub mod ring;
#[cfg(test)]
mod sample;
pub mod session;
pub mod share;
pub mod target;
pub mod v1;
pub mod v2;
pub mod vardiff;
