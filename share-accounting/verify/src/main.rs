//! `sluice-verify`: recomputes what a pool's share log claims, and says what that proves and what it does not.
//!
//! - [`cli`]: what is asked; [`progress`]: how far it is; [`chain`]: what a node says of the blocks; [`words`]: the
//!   answer
//!
//! The audit itself is `share_accounting::verify`. Exit code 0: proven; 1: a lie was found; 2: it could not be checked;
//! 64: wrong usage.
#![forbid(unsafe_code)]

mod chain;
mod cli;
mod progress;
mod words;

use chain::Fate;
use clap::Parser;
use cli::{Cli, Command, LogArgs};
use progress::Shown;
use share_accounting::log::{LogError, Reader};
use share_accounting::verify::{Report, audit};
use std::io::Write;
use std::process::ExitCode;

const EXIT_LIE: u8 = 1;
const EXIT_UNCHECKED: u8 = 2;
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        let code = if error.use_stderr() { i32::from(EXIT_USAGE) } else { 0 };
        let _ = error.print();
        std::process::exit(code)
    });
    let Command::Log(args) = cli.command;
    match check(&args) {
        Ok(report) if report.is_proven() => ExitCode::SUCCESS,
        Ok(report) => ExitCode::from(if report.is_honest() { EXIT_UNCHECKED } else { EXIT_LIE }),
        Err(error) => {
            eprintln!("sluice-verify: could not check: {error}");
            ExitCode::from(EXIT_UNCHECKED)
        }
    }
}

/// Audits a log and prints what that says.
fn check(args: &LogArgs) -> anyhow::Result<Report> {
    let first = Reader::open(&args.dir)?;
    let Some(header) = first.headers().next() else {
        anyhow::bail!("there is no share log in {}", args.dir.display());
    };
    let network = header.network;
    let mut readings = ["reading", "checking"].into_iter();
    let report = audit(network, || {
        let reading = readings.next().expect("an audit reads twice");
        Ok::<_, LogError>(Shown::new(reading, Reader::open(&args.dir)?))
    })?;
    let fates = match &args.node {
        None => None,
        Some(node) => Some(chain::fates(node, network, &report)?),
    };
    answer(args, &report, fates.as_deref())?;
    Ok(report)
}

fn answer(args: &LogArgs, report: &Report, fates: Option<&[Fate]>) -> anyhow::Result<()> {
    let text = if args.json { words::json(report, fates) } else { words::text(report, fates) };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
