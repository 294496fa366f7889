//! The command line.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// A PPLNS micro-pool beside your own Bitcoin node: every acknowledged share is on disk, and every block pays
/// its miners in the coinbase.
#[derive(Debug, Parser)]
#[command(name = "sluice-pool", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve miners until told to stop (SIGTERM or Ctrl-C).
    Run(Overrides),
    /// Check the settings, then the node: propose a block of every coinbase size to it. Exit 0, 1 (node) or 64
    /// (settings).
    Check(Overrides),
    /// Keys of the V2 server: `new` and `sign` where the authority's key is kept, which is best not here; `show` here.
    #[command(subcommand)]
    Keys(Keys),
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make an authority key: write its secret to FILE, which must not exist, and print the public key that miners get.
    New {
        /// Where the secret goes.
        file: PathBuf,
    },
    /// Sign a server's key: print the certificate file that goes to the server as `v2.certificate_file`.
    Sign {
        /// File of the authority's secret.
        #[arg(long, value_name = "FILE")]
        authority: PathBuf,
        /// How long the certificate is good, from now.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3_650))]
        days: u32,
        /// The server's key, as `keys show` prints it there.
        server_key: String,
    },
    /// Print the server's key, how long its certificate is good, and the URL for miners. The key is made if there is
    /// none.
    Show(Overrides),
}

/// Where the settings come from: file, then environment, then flags; the last one wins.
#[derive(Debug, Args)]
pub struct Overrides {
    /// Settings file (TOML).
    #[arg(long, env = "SLUICE_POOL_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// Address for V1 miners, instead of `v1.listen`.
    #[arg(long, env = "SLUICE_POOL_LISTEN", value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// Address for /health, /metrics and /log, instead of `http.listen`.
    #[arg(long, env = "SLUICE_POOL_HTTP_LISTEN", value_name = "ADDR:PORT")]
    pub http_listen: Option<String>,
    /// Bitcoin network, instead of `network`: bitcoin, signet, regtest, testnet or testnet4.
    #[arg(long, env = "SLUICE_POOL_NETWORK", value_name = "NAME")]
    pub network: Option<String>,
    /// Folder for share log, ledger and blocks, instead of `data_dir`.
    #[arg(long, env = "SLUICE_POOL_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Log level or filter, instead of `log.filter`.
    #[arg(long, env = "SLUICE_POOL_LOG", value_name = "LEVEL")]
    pub log: Option<String>,
}
