//! The Bitcoin node: calls to it, what it announces, and the files that it keeps its blocks in.

pub mod ask;
pub mod blockfiles;
mod http;
pub mod notify;
pub mod rpc;
#[cfg(test)]
pub(crate) mod stand_in;
