//! Work from a Bitcoin node, and blocks back to it.
//!
//! - [`bitcoind`]: the node's RPC, its announcements and its block files; [`source`]: which template is current
//! - [`template`]: a validated block template; [`fit`]: made smaller when a coinbase needs the room
//! - [`coinbase`], [`assemble`]: from a template and a payout to a job
//! - [`block`], [`submit`]: from a solution to a verdict, whatever the node is doing
//! - [`chain`]: whether a block of ours is still in the best chain; [`propose`]: the node's opinion beforehand
//!
//! What this crate does not do: it decides nobody's share of a reward (a [`stratum::job::Payout`] comes
//! in ready), talks to no miner, and never builds on a block that its node has not validated.
#![forbid(unsafe_code)]

pub mod assemble;
pub mod bitcoind;
pub mod block;
pub mod chain;
pub mod coinbase;
pub mod fit;
pub mod propose;
pub mod source;
pub mod submit;
pub mod template;
