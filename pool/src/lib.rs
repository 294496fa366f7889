//! The pool: it wires node, miners, share log and ledger into `sluice-pool`.
//!
//! - [`settings`], [`cli`]: what the operator wants; [`check`]: whether it can work
//! - [`shard`], [`commits`]: miners' sessions, their shares, and the answers when they are durable
//! - [`rate`]: how many shares each connection is steered to
//! - [`work`]: from template, window and ledger to the jobs that miners get; [`class_floor`]: who gets no small one
//! - [`director`]: decides what is worked on; [`newest_window`]: whom plans pay
//! - [`books`]: the pool's blocks on the best chain, and what is owed
//! - [`settler`]: pays what is owed from the reserve
//! - [`blocks`]: solved blocks, to the nodes and into the books; [`rehearsal`]: whether the nodes would take them
//! - [`left_over`]: what an earlier run has left of its blocks
//! - [`identity`]: who the server is to V2 clients; [`keys`]: the commands around that
//! - [`doors`]: where miners come in
//! - [`publishing`], [`log_pages`]: the share log for everybody; [`books_pages`]: what is paid and owed;
//!   [`witnesses`]: have its heads cosigned; [`moving`]: payees that move to another address; [`aside`]: a few questions at once
//! - [`app`]: starts the parts, connects them, stops them; [`http`], [`health`], [`metrics`]: how it is doing
//!
//! What this crate does not do: it judges no share (`stratum::share`), writes no log entry
//! (`share-accounting`), speaks no RPC (`template`) and reads no socket (`stratum-net`).
#![forbid(unsafe_code)]

pub mod app;
pub mod aside;
pub mod blocks;
pub mod books;
pub mod books_pages;
pub mod check;
pub mod class_floor;
pub mod cli;
pub mod commits;
pub mod director;
pub mod doors;
pub mod health;
pub mod http;
pub mod identity;
pub mod keys;
pub mod left_over;
pub mod log_pages;
pub mod metrics;
pub mod moving;
pub mod newest_window;
pub mod publishing;
pub mod rate;
pub mod rehearsal;
pub mod settings;
pub mod settler;
pub mod shard;
pub mod witnesses;
pub mod work;

#[cfg(test)]
mod testing;
