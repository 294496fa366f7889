//! Against the software of others: their library crates as the other side, in one process.
//!
//! - [`noise`]: the V2 handshake and transport against the reference implementation
#![forbid(unsafe_code)]

mod noise;
