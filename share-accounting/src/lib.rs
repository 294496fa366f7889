//! The share log, the PPLNS window, the payout plan and the ledger.
//!
//! - [`accounting`]: the handle that the pool uses, and its thread; start here
//! - `block_share`: a share that solves a block, as it is kept until it is in the log
//! - [`entry`]: the log's entries, byte-exact; [`log`]: segment files, commit, recovery, reading
//! - [`tree`]: the log as a Merkle tree; [`commitment`]: what each job commits to
//! - [`publish`]: files, signed heads and proofs for everybody
//! - [`checkpoint`]: the books at a segment's start, so that a start reads little more than one segment
//! - [`window`]: the newest W of credited work, pure; [`books`]: what a log adds up to
//! - [`payout`]: the split of one block, pure; [`ledger`]: the pool's blocks and credits, SQLite
//! - [`settlement`]: credits paid from the reserve, pure
//! - [`moves`]: payees that have moved to another address, pure
//!
//! Invariants: only a share that [`stratum::share`] judged enters the log; it is credited only once
//! its entry is durable; the window is a sum of work, never of time or rows; money is integers and
//! every sum is asserted in release builds; an empty window pays nobody but the miner who finds the
//! block; the log alone is the truth: without its checkpoints a start comes to the same books.
//!
//! What this crate does not do: it judges no share, builds no coinbase, talks to no node, and knows
//! neither sockets nor an async runtime: its calls block.
#![forbid(unsafe_code)]

pub mod accounting;
mod bip322;
mod block_share;
pub mod books;
mod by_address;
pub mod checkpoint;
pub mod commitment;
pub mod entry;
mod journal;
pub mod ledger;
pub mod log;
pub mod moves;
pub mod payout;
pub mod publish;
mod recovery;
mod registry;
pub mod settlement;
mod shared;
#[cfg(test)]
mod testing;
pub mod tree;
pub mod verify;
pub mod window;
mod writer;

pub use accounting::{
    Accounting, AccountingThread, Adjustments, Batch, CommitError, CommitResult, MovingError, RestoreError,
    Restored, Settings, SettleError, Snapshot, WindowAnswer, WindowError,
};
pub use block_share::BlockShare;
pub use books::weights_at;
pub use shared::Counters;
