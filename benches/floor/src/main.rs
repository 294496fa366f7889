//! `floor`: answers like a pool and does nothing of what a pool is for.
//!
//! Whatever a real server takes beyond this one is its own work: sessions, checks, hashing, the log. It speaks V1 lines
//! and V2 sealed frames on one thread, and every share is a good one. A line on its standard input is a new tip: all
//! connections get another job at once.
//!
//! It moves its bytes in one of two ways, so that these can be compared: over epoll, as the servers do, or over
//! io_uring.
//!
//! - [`server`]: over epoll; [`ring`]: over io_uring; [`setup`]: what both are given
//! - [`session`]: a connection's side of the talk; [`canned`]: what is said
#![forbid(unsafe_code)]

mod canned;
mod ring;
mod server;
mod session;
mod setup;
#[cfg(test)]
mod tests;

use anyhow::Context;
use clap::Parser;
use setup::Setup;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::ExitCode;

/// A Stratum server with canned replies. It prints the URLs that it serves, one a line.
#[derive(Debug, Parser)]
#[command(name = "floor", version, about)]
struct Cli {
    /// Bytes of the coinbase in its jobs.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u16).range(100..=30_000))]
    coinbase_bytes: u16,
    /// Move bytes over io_uring, not over epoll.
    #[arg(long)]
    io_uring: bool,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the URLs are what its caller waits for")]
fn run(cli: &Cli) -> anyhow::Result<()> {
    let files = setup::raise_file_limit();
    let input = File::from(std::io::stdin().as_fd().try_clone_to_owned().context("no standard input")?);
    let (setup, urls) = Setup::new(input, usize::from(cli.coinbase_bytes))?;
    urls.iter().for_each(|url| println!("{url}"));
    if cli.io_uring { ring::serve(setup, files) } else { server::serve(setup) }
}
