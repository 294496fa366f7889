//! `bench`: what shares, frames, handshakes, commits and payouts cost, beside the reference implementation's crates; and
//! what the servers cost, beside one that judges nothing.
//!
//! Each benchmark of a part first asserts that what it measures is right, on both sides, then measures both in turns:
//! rounds of equally many items, 5 ms of the thread's CPU time for the slower side, 41 of them after a warm-up. A figure
//! is the median over the rounds, a ratio the median of the ratios of neighbouring rounds, so that a busy machine slows
//! both sides alike. What a benchmark includes is said in its module. It prints a table and stores
//! `target/bench/NAME.json`.
//!
//! - [`share_check`]: one share, from what was rolled to its verdict
//! - [`v1_parse`]: a line of V1; [`v2_frame`]: a frame of V2, in and out; [`handshake`]: the start of a V2 connection
//! - [`dedup`]: the set of shares sent before; [`log_append`]: shares onto the disk; [`log_read`]: from it again;
//!   [`log_large`]: the same for very many, by name only; [`window_plan`]: who is paid what
//! - [`fleet`]: pool and proxy as processes under load; [`io_uring`]: what another way to the sockets would change;
//!   [`attacks`]: the pool's honest miners while it is attacked
//! - [`stage`]: the processes, [`bound`] to this one; [`cell`]: one of them under one load
//! - [`measure`]: timing; [`machine`]: where; [`report`]: rows, files, tables; [`table`]: the README's part
//! - [`work`]: jobs and shares to measure with; [`twins`]: one job for both implementations;
//!   [`v2_session`]: a session of ours that mines
#![forbid(unsafe_code)]

mod attacks;
mod bound;
mod cell;
mod dedup;
mod fleet;
mod handshake;
mod io_uring;
mod log_append;
mod log_large;
mod log_read;
mod machine;
mod measure;
mod report;
mod share_check;
mod stage;
mod table;
mod twins;
mod v1_parse;
mod v2_frame;
mod v2_session;
mod window_plan;
mod work;

use anyhow::Context;
use clap::Parser;
use report::Report;
use std::path::Path;
use std::process::ExitCode;

/// A benchmark's name and what runs it.
type Benchmark = (&'static str, fn() -> anyhow::Result<Report>);

/// All benchmarks, in the order in which they run and stand in the README.
const BENCHMARKS: &[Benchmark] = &[
    (share_check::NAME, share_check::run),
    (v1_parse::NAME, v1_parse::run),
    (v2_frame::NAME, v2_frame::run),
    (handshake::NAME, handshake::run),
    (dedup::NAME, dedup::run),
    (log_append::NAME, log_append::run),
    (log_read::NAME, log_read::run),
    (window_plan::NAME, window_plan::run),
    (fleet::NAME, fleet::run),
    (io_uring::NAME, io_uring::run),
    (attacks::NAME, attacks::run),
    (log_large::NAME, log_large::run),
];

/// Those that run only if they are named.
const BY_NAME: &[&str] = &[log_large::NAME];

/// Measures what things cost, in this folder's `target/bench`.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Cli {
    /// Benchmarks to run, all but log_large if none is named; `table` alone writes the README's table from what was stored.
    names: Vec<String>,
}

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == bound::CHILD) {
        return failure(&bound::become_child(words));
    }
    let names = Cli::parse().names;
    let result = match &names[..] {
        [name] if name == "table" => {
            let order: Vec<&str> = BENCHMARKS.iter().map(|(name, _)| *name).collect();
            table::write(Path::new("README.md"), Path::new(report::FOLDER), &order)
        }
        [name, arguments @ ..] if name == dedup::CHILD => dedup::run_child(arguments),
        _ => run(&names),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(&error),
    }
}

fn failure(error: &anyhow::Error) -> ExitCode {
    eprintln!("bench: {error:#}");
    ExitCode::FAILURE
}

#[expect(clippy::print_stdout, reason = "the tables are the result of the program")]
fn run(names: &[String]) -> anyhow::Result<()> {
    let known = |name: &String| BENCHMARKS.iter().any(|(known, _)| known == name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        let all: Vec<&str> = BENCHMARKS.iter().map(|(name, _)| *name).collect();
        anyhow::bail!("no benchmark is called {name}: there are {}", all.join(", "));
    }
    for (name, benchmark) in BENCHMARKS {
        let is_wanted = match names {
            [] => !BY_NAME.contains(name),
            _ => names.iter().any(|wanted| wanted == name),
        };
        if is_wanted {
            eprintln!("bench: {name}");
            let report = benchmark().with_context(|| format!("{name} failed"))?;
            report.store(Path::new(report::FOLDER))?;
            println!("{}\n", report.text());
        }
    }
    Ok(())
}
