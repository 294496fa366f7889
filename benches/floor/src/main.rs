//! `floor`: answers like a pool and does nothing of what a pool is for.
//!
//! Whatever a real server takes beyond this one is its own work: sessions, checks, hashing, the log. It speaks V1 lines
//! and V2 sealed frames on one thread, and every share is a good one. A line on its standard input is a new tip: all
//! connections get another job at once.
//!
//! - [`server`]: the poller and its connections; [`canned`]: what is said
#![forbid(unsafe_code)]

mod canned;
mod server;

use clap::Parser;
use std::process::ExitCode;

/// A Stratum server with canned replies. It prints the URLs that it serves, one a line.
#[derive(Debug, Parser)]
#[command(name = "floor", version, about)]
struct Cli {
    /// Bytes of the coinbase in its jobs.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u16).range(100..=30_000))]
    coinbase_bytes: u16,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match server::run(usize::from(cli.coinbase_bytes)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error:#}");
            ExitCode::FAILURE
        }
    }
}
