//! `fleet`: miners that really hash, for tests, benchmarks and operators who want to try a pool.
//!
//! - [`cli`]: command line; [`crowd`]: starts and stops everything; [`connection`]: socket ⇄ session
//! - [`protocol`]: Stratum V1 or V2 as a connection sees it; [`work`]: jobs and shares of either
//! - [`miner`] (hashing threads), [`roll`] (what is rolled, in which order), [`bucket`] (capped hash rates)
//! - [`tally`], [`histogram`], [`report`], [`acks`]: what is counted, shown and kept
//! - [`load`]: shares without hashing, as many as a server takes, for benchmarks; [`attack`]: what hostile peers do
//! - [`audit`]: reads blocks and payments back from a node; [`address`]: addresses nobody can spend from
//!
//! What it does not do: it holds no keys, and it is no farm controller: it speaks to one server.
#![forbid(unsafe_code)]

mod acks;
mod address;
mod attack;
mod audit;
mod bucket;
mod cli;
mod connection;
mod crowd;
mod histogram;
mod load;
mod miner;
mod protocol;
mod report;
mod roll;
mod tally;
mod work;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let result = match (cli.command, cli.run) {
        (Some(cli::Command::Address(args)), _) => address::run(&args),
        (Some(cli::Command::Audit(args)), _) => audit::run(&args),
        (Some(cli::Command::Tip(args)), _) => audit::print_tip(&args),
        (Some(cli::Command::Load(args)), _) => load::run(&args),
        (Some(cli::Command::Attack(args)), _) => attack::run(&args),
        (None, Some(args)) => crowd::run(args),
        (None, None) => Err(anyhow::anyhow!("nothing to do: say --url, or see --help")),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("fleet: {error:#}");
            ExitCode::FAILURE
        }
    }
}
