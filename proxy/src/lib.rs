//! The proxy: many V1 machines below, one encrypted V2 channel above, wired into `sluice-proxy`.
//!
//! - [`settings`], [`cli`]: what the operator wants; [`check`]: whether it can work
//! - [`shard`]: machines' sessions and their shares; [`rates`]: how fast they are
//! - [`bridge`]: upstream's jobs as ours, and our shares as upstream's; [`forward`]: what goes between the two
//! - [`link`]: one connection upstream; [`choice`]: which upstream is used, pure; [`switchboard`]: does what it says
//! - [`journal`]: what has become of each share that went upstream; [`receipts`]: what a Sluice pool's log has of them
//! - [`app`]: starts the parts, connects them, stops them; [`health`], [`metrics`]: how it is doing
//!
//! What this crate does not do: it judges no share (`stratum::share`), speaks no protocol (`stratum`), reads no
//! machine's socket (`stratum-net`), credits nobody and builds no work of its own.
#![forbid(unsafe_code)]

pub mod app;
pub mod bridge;
pub mod check;
pub mod choice;
pub mod cli;
pub mod forward;
pub mod health;
pub mod journal;
pub mod link;
pub mod metrics;
pub mod rates;
pub mod receipts;
pub mod settings;
pub mod shard;
pub mod switchboard;
