//! The command line.

use clap::{Args, Parser, Subcommand};
use share_accounting::publish::cosign::WitnessVerifier;
use share_accounting::publish::key::LogVerifier;
use share_accounting::verify::light::SAMPLES_DEFAULT;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Recomputes what a Sluice pool's share log claims: every share is hashed again, every payout computed again to the
/// satoshi. Nothing is taken on trust but what the answer names. Exit 0: proven; 1: a lie was found; 2: it could not
/// be checked.
#[derive(Debug, Parser)]
#[command(name = "sluice-verify", version, about)]
pub struct Cli {
    /// What to check.
    #[command(subcommand)]
    pub command: Command,
}

/// What to check.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A share log: the folder `log` below a pool's data_dir, or a copy of it, or a file that `export` has made of it. The
    /// pool may be running.
    Log(LogArgs),
    /// A log as a pool publishes it, with signed heads: a copy in a folder, which can be brought up to date before. Run
    /// again and again on one folder it proves that nothing was taken back or altered since. Or a file that `export` has
    /// made of such a copy.
    Published(PublishedArgs),
    /// Cosigns the heads of pools' logs, each only if it goes on from the one before: whoever sees its word sees the log
    /// that it sees (c2sp.org/tlog-witness). Runs until it is killed.
    Witness(WitnessArgs),
    /// Writes a log as a Parquet file, a row for each entry: shares in columns, for tools that read tables (those where `pot`
    /// is not null), and all else as bytes in the column `entry`. Checks nothing; `log` and `published` take the file
    /// instead of a folder.
    #[cfg(feature = "export")]
    Export(ExportArgs),
}

impl Command {
    /// Whether programs read the answer.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Log(args) => args.common.json,
            Self::Published(args) => args.common.json,
            Self::Witness(_) => false,
            #[cfg(feature = "export")]
            Self::Export(_) => false,
        }
    }
}

/// Of `export`.
#[cfg(feature = "export")]
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Folder with the log's segments; with --key the folder of a copy, as `published` has made it.
    pub dir: PathBuf,
    /// The file to write; one that is there is replaced.
    pub out: PathBuf,
    /// The key that signs the log's heads: what is under the copy's head is written, and that head with it.
    #[arg(long, value_parser = LogVerifier::parse)]
    pub key: Option<LogVerifier>,
    /// Write what is in the newest segment, too: a pool that runs may not have made the last of it durable.
    #[arg(long, conflicts_with = "key")]
    pub newest: bool,
}

/// Of `witness`.
#[derive(Debug, Args)]
pub struct WitnessArgs {
    /// Folder for its key, made at the first start, and for the newest head of each log. One that is lost or put back to
    /// an older state makes the witness worthless.
    pub dir: PathBuf,
    /// Its name, as its key bears it: best an address without http://.
    #[arg(long)]
    pub name: String,
    /// Keys that sign logs' heads, as pools give them out on /log/key.
    #[arg(long = "log", required = true, value_name = "KEY", value_parser = LogVerifier::parse)]
    pub logs: Vec<LogVerifier>,
    /// Where pools ask.
    #[arg(long, default_value = "127.0.0.1:3390", value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
}

/// Of `log`.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Folder with the log's segments, or an exported file.
    pub dir: PathBuf,
    #[command(flatten)]
    pub common: Common,
}

/// Of `published`.
#[derive(Debug, Args)]
pub struct PublishedArgs {
    /// Folder of the copy: `checkpoint` and `tile/entries/…` (c2sp.org/tlog-tiles); or a file that was exported of one.
    pub dir: PathBuf,
    /// The key that signs the log's heads, as the pool gives it out on /log/key.
    #[arg(long, value_parser = LogVerifier::parse)]
    pub key: LogVerifier,
    /// The log's address: what is new there is fetched into the folder first.
    #[arg(long, value_name = "http://HOST:PORT/log")]
    pub url: Option<String>,
    /// Folder with receipts (*.json), as /log/receipt and /log/receipts gave them: each must be in the log.
    #[arg(long, value_name = "DIR")]
    pub receipts: Option<PathBuf>,
    /// Journal of a proxy (`shares*.jsonl`): each share that it says was acknowledged must be in the log, and earn.
    #[arg(long, value_name = "DIR", conflicts_with = "light")]
    pub journal: Option<PathBuf>,
    /// Key of a witness of your trust, that has to have cosigned a head of the log; again for further ones.
    #[arg(long = "witness", value_name = "KEY")]
    pub witnesses: Vec<WitnessVerifier>,
    /// For a slow line: fetch a part of the log, drawn by chance, instead of all of it. Shows that credited work is real,
    /// and nothing of payouts. Needs --url.
    #[arg(long, requires = "url", conflicts_with_all = ["rpc", "cookie_file", "blocks"])]
    pub light: bool,
    /// Samples of --light: 300 find one part in a hundred of made-up work with 95 %.
    #[arg(long, value_name = "N", requires = "light", default_value_t = SAMPLES_DEFAULT,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub samples: u32,
    #[command(flatten)]
    pub common: Common,
}

/// Of both.
#[derive(Debug, Args)]
pub struct Common {
    #[command(flatten)]
    pub node: Option<NodeArgs>,
    /// Instead of asking a node, read its block files: a folder with blk00000.dat and all further ones, so none of a node
    /// that prunes. The node may be running.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["rpc", "cookie_file"])]
    pub blocks: Option<PathBuf>,
    /// Answer as JSON, also where a lie ends the check before it is through (`lies`), or trouble does (`could_not_check`).
    #[arg(long)]
    pub json: bool,
}

/// A node that says what has become of the blocks.
#[derive(Debug, Args)]
#[group(requires_all = ["rpc", "cookie_file"])]
pub struct NodeArgs {
    /// RPC address of a node of your own, to be asked what has become of the blocks.
    #[arg(long, required = false, value_name = "HOST:PORT")]
    pub rpc: String,
    /// The node's cookie file, or one that holds `user:password`.
    #[arg(long, required = false, value_name = "FILE")]
    pub cookie_file: PathBuf,
}
