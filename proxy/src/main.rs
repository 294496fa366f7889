//! `sluice-proxy`: table of contents of a start.
#![forbid(unsafe_code)]

use clap::Parser;
use proxy::cli::{Cli, Command};
use proxy::settings::Settings;
use proxy::{app, check};
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
    let (Command::Run(overrides) | Command::Check(overrides)) = &cli.command;
    let settings = match Settings::load(overrides) {
        Ok(settings) => settings,
        Err(mistakes) => return usage(&mistakes),
    };
    let log = logging::init(&settings.log);
    let ended = match cli.command {
        Command::Run(_) => app::run(settings),
        Command::Check(_) => check::run(&settings),
    };
    // The last word comes last.
    drop(log);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::last_words(format!("sluice-proxy: {}", logging::chain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}

fn usage(mistakes: &Mistakes) -> ExitCode {
    eprintln!("sluice-proxy: the settings cannot be used:\n{mistakes}");
    ExitCode::from(EXIT_USAGE)
}
