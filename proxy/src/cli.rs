//! The command line.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// A Stratum proxy: many V1 machines behind one encrypted V2 channel, every share checked before it travels.
#[derive(Debug, Parser)]
#[command(name = "sluice-proxy", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve machines until told to stop (SIGTERM or Ctrl-C).
    Run(Overrides),
    /// Check the settings and print them, then shake hands with each upstream. Exit 0, 1 (an upstream) or 64 (settings).
    Check(Overrides),
}

/// Where the settings come from: file, then environment, then flags; the last one wins.
#[derive(Debug, Args)]
pub struct Overrides {
    /// Settings file (TOML). Without one the flags have to say it all.
    #[arg(long, env = "SLUICE_PROXY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address for V1 machines, instead of `v1.listen`.
    #[arg(long, env = "SLUICE_PROXY_LISTEN", value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// Address for /health and /metrics, instead of `http.listen`.
    #[arg(long, env = "SLUICE_PROXY_HTTP_LISTEN", value_name = "ADDR:PORT")]
    pub http_listen: Option<String>,
    /// The pool, instead of `[[upstream]]`; again for the next best.
    #[arg(long, env = "SLUICE_PROXY_UPSTREAM", value_name = "URL", value_delimiter = ' ')]
    pub upstream: Vec<String>,
    /// Who is paid, as the pools of `--upstream` write it.
    #[arg(long, env = "SLUICE_PROXY_USER", value_name = "NAME")]
    pub user: Option<String>,
    /// Let machines' own users say who is paid, as `pass_users`.
    #[arg(long, env = "SLUICE_PROXY_PASS_USERS")]
    pub pass_users: bool,
    /// Folder for the journal and for receipts, as `data_dir`.
    #[arg(long, env = "SLUICE_PROXY_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Log level or filter, instead of `log.filter`.
    #[arg(long, env = "SLUICE_PROXY_LOG", value_name = "LEVEL")]
    pub log: Option<String>,
}
