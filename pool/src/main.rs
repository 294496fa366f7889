//! `sluice-pool`: table of contents of a start.
#![forbid(unsafe_code)]

use clap::Parser;
use pool::cli::{Cli, Command};
use pool::settings::Settings;
use pool::{app, check, keys};
use std::process::ExitCode;
use stratum_net::logging;
use stratum_net::settings::Mistakes;

/// Wrong usage or settings, as `sysexits.h` counts.
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        let code = if error.use_stderr() { i32::from(EXIT_USAGE) } else { 0 };
        let _ = error.print();
        std::process::exit(code)
    });
    let overrides = match &cli.command {
        Command::Run(overrides) | Command::Check(overrides) => overrides,
        Command::Keys(command) => return end(keys::run(command)),
    };
    let settings = match Settings::load(overrides) {
        Ok(settings) => settings,
        Err(mistakes) => return usage(&mistakes),
    };
    let log = logging::init(&settings.log);
    let ended = match cli.command {
        Command::Run(_) => app::run(settings),
        Command::Check(_) | Command::Keys(_) => check::run(&settings),
    };
    // The last word comes last.
    drop(log);
    end(ended)
}

fn end(ended: anyhow::Result<()>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::last_words(format!("sluice-pool: {}", logging::chain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}

fn usage(mistakes: &Mistakes) -> ExitCode {
    eprintln!("sluice-pool: the settings cannot be used:\n{mistakes}");
    ExitCode::from(EXIT_USAGE)
}
