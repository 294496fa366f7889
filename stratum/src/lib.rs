//! The Stratum core: bytes, time and jobs in; replies, shares and blocks out.
//!
//! - units: [`target`] (targets and work), [`pot`] (share difficulty), [`class`] (coinbase size classes)
//! - [`payee`]: who is paid; [`extranonce`]: which work is whose
//! - [`job`]: what miners hash; [`share`]: the one share check
//!
//! What this crate does not do: it touches no socket, file, clock, thread or random source. Time
//! comes in as an argument; whoever calls it decides when to read the clock and when to send.
#![forbid(unsafe_code)]

pub mod class;
pub mod extranonce;
pub mod job;
pub mod payee;
pub mod pot;
pub mod share;
pub mod target;
