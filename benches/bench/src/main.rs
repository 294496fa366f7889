//! Runs the benchmarks.
//!
//! - [`fleet`]: pool and proxy as processes under load; [`report`]: what comes of it
#![forbid(unsafe_code)]

mod fleet;
mod report;

use clap::Parser;
use std::process::ExitCode;

/// Benchmarks.
#[derive(Debug, Parser)]
#[command(name = "bench")]
enum Cli {
    /// Pool and proxy as processes, load from another, beside a server that judges nothing.
    Fleet(fleet::Args),
}

fn main() -> ExitCode {
    let Cli::Fleet(args) = Cli::parse();
    match fleet::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
