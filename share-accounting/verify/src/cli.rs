//! The command line.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Recomputes what a Sluice pool's share log claims: every share is hashed again, every payout computed again to the
/// satoshi. Nothing is taken on trust but what the answer names. Exit 0: proven; 1: a lie was found; 2: it could not
/// be checked.
#[derive(Debug, Parser)]
#[command(name = "sluice-verify", version, about)]
pub struct Cli {
    /// What to check.
    #[command(subcommand)]
    pub command: Command,
}

/// What to check.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A share log: the folder `log` below a pool's data_dir, or a copy of it. The pool may be running.
    Log(LogArgs),
}

/// Of `log`.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Folder with the log's segments.
    pub dir: PathBuf,
    #[command(flatten)]
    pub node: Option<NodeArgs>,
    /// Answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// A node that says what has become of the blocks.
#[derive(Debug, Args)]
#[group(requires_all = ["rpc", "cookie_file"])]
pub struct NodeArgs {
    /// RPC address of a node of your own, to be asked what has become of the blocks.
    #[arg(long, required = false, value_name = "HOST:PORT")]
    pub rpc: String,
    /// The node's cookie file, or one that holds `user:password`.
    #[arg(long, required = false, value_name = "FILE")]
    pub cookie_file: PathBuf,
}
