//! The Bitcoin node: calls to it, and what it announces.

pub mod ask;
mod http;
pub mod notify;
pub mod rpc;
#[cfg(test)]
pub(crate) mod stand_in;
