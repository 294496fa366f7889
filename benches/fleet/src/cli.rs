//! The command line, and what it resolves to.

use bitcoin::Network;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::str::FromStr;
use stratum::v2::keys::AuthorityKey;
use stratum::v2::noise::Authority;

/// A CPU miner and share player for Stratum servers.
#[derive(Debug, Parser)]
#[command(
    name = "fleet",
    version,
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Cli {
    /// Something else than mining.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Mining.
    #[command(flatten)]
    pub run: Option<RunArgs>,
}

/// Commands that do not mine.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print a deterministic address that nobody can spend from, for test networks.
    Address(AddressArgs),
    /// Read the best chain back from a node: who was paid what, and whether every sum is right.
    Audit(AuditArgs),
    /// Print the height of a node's best chain: also a test of whether it answers.
    Tip(NodeArgs),
    /// Play shares without hashing, to a server at which every hash is a share; measure the server meanwhile.
    Load(Box<crate::load::LoadArgs>),
    /// Do to a server of this machine what a hostile peer does, until killed; for benchmarks.
    Attack(Box<crate::attack::AttackArgs>),
}

/// Options of `fleet address`.
#[derive(Debug, Args)]
pub struct AddressArgs {
    /// signet, testnet or regtest.
    #[arg(long, default_value = "signet")]
    pub network: Network,
    /// The same seed gives the same address.
    #[arg(long)]
    pub seed: u64,
}

/// Which node to ask.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The node's RPC address.
    #[arg(long, default_value = "http://127.0.0.1:38332")]
    pub rpc: String,
    /// The node's cookie file.
    #[arg(long)]
    pub cookie: PathBuf,
}

/// Options of `fleet audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Payees to look for: address, or name=address.
    #[arg(long, value_delimiter = ',', required = true)]
    pub payees: Vec<Named>,
    /// First block to read.
    #[arg(long, default_value_t = 1)]
    pub from_height: u64,
    /// Print a line for each block as it comes, until stopped.
    #[arg(long)]
    pub follow: bool,
}

/// Options of mining.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The server: stratum+tcp://HOST:PORT, or stratum2+tcp://HOST:PORT/AUTHORITYKEY.
    #[arg(long)]
    pub url: Url,
    /// V2 without an authority's key: whoever sits in the middle reads and changes everything.
    #[arg(long)]
    pub no_authentication: bool,
    /// V2: which channels to open (extended, if not said).
    #[arg(long, value_enum)]
    pub channel: Option<ChannelKind>,
    /// V2: how many channels to open on each connection, each a miner with a hash rate of its own (1, if not said).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub channels: Option<u32>,
    /// User name of all connections that name none themselves: ADDRESS.worker. With V2: who is paid.
    #[arg(long)]
    pub user: Option<String>,
    /// Password of all connections that name none themselves.
    #[arg(long, default_value = "x")]
    pub password: String,
    /// User agent of all connections that name none themselves.
    #[arg(long, default_value = concat!("sluice-fleet/", env!("CARGO_PKG_VERSION")))]
    pub agent: String,
    /// One miner: "user=…,hashrate=800k,agent=…,password=…", each part optional. May be repeated.
    #[arg(long, conflicts_with_all = ["miners", "idle"])]
    pub miner: Vec<MinerSpec>,
    /// That many equal miners, each on a connection of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub miners: u32,
    /// Hashes per second of each miner that names none itself: 800k, 1.5M. Without it: all there is.
    #[arg(long, value_parser = parse_hashrate)]
    pub hashrate: Option<u64>,
    /// Connections that subscribe and authorize and do not mine. With --idle.
    #[arg(long, requires = "idle", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub connections: u32,
    /// Do not mine: hold --connections open and count what they are told.
    #[arg(long, conflicts_with_all = ["hashrate", "acks", "replay_accepted"])]
    pub idle: bool,
    /// How many connections to open in a second.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connects_per_second: u32,
    /// Do not roll the header version.
    #[arg(long)]
    pub no_version_rolling: bool,
    /// Hashing threads, shared by all miners.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,
    /// Stop after that many seconds.
    #[arg(long = "for", value_name = "SECONDS")]
    pub for_seconds: Option<u64>,
    /// Append every acknowledged share to this file, a JSON object on a line.
    #[arg(long, value_name = "FILE")]
    pub acks: Option<PathBuf>,
    /// Send each acknowledged share a second time, and count how it is refused.
    #[arg(long)]
    pub replay_accepted: bool,
    /// Print the closing summary as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Where the server is, and what it speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    scheme: Scheme,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    V1,
    /// With the authority's key, if the URL has one.
    V2(Option<AuthorityKey>),
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (v2, rest) = match text.split_once("://") {
            Some(("stratum+tcp" | "tcp", rest)) => (false, rest),
            Some(("stratum2+tcp", rest)) => (true, rest),
            Some((scheme, _)) => {
                return Err(format!(
                    "\"{scheme}\" is not spoken here: use stratum+tcp://HOST:PORT or \
                     stratum2+tcp://HOST:PORT/AUTHORITYKEY"
                ));
            }
            None => (false, text),
        };
        let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
        let scheme = match (v2, path) {
            (true, "") => Scheme::V2(None),
            (true, key) => Scheme::V2(Some(key.parse().map_err(|error| format!("{error}"))?)),
            (false, "") => Scheme::V1,
            (false, _) => return Err(format!("\"{path}\" is too much: HOST:PORT")),
        };
        let (host, port) = address.rsplit_once(':').ok_or("the port is missing: HOST:PORT")?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = port.parse().map_err(|_| format!("\"{port}\" is no port"))?;
        if host.is_empty() {
            Err("the host is missing: HOST:PORT".to_owned())
        } else {
            Ok(Self { host, port, scheme })
        }
    }
}

impl Url {
    /// Whom to take for the right server; nobody in particular with V1.
    ///
    /// # Errors
    /// A V2 server without a key or a word that none is wanted, or with both; such a word with V1.
    pub fn authority(&self, unauthenticated: bool) -> anyhow::Result<Option<Authority>> {
        match (self.scheme, unauthenticated) {
            (Scheme::V1, false) => Ok(None),
            (Scheme::V1, true) => {
                anyhow::bail!("--no-authentication is for stratum2+tcp://HOST:PORT/AUTHORITYKEY")
            }
            (Scheme::V2(Some(key)), false) => Ok(Some(Authority::Pinned(key))),
            (Scheme::V2(Some(_)), true) => {
                anyhow::bail!("the URL has an authority's key: leave out the key or --no-authentication")
            }
            (Scheme::V2(None), true) => Ok(Some(Authority::Unauthenticated)),
            (Scheme::V2(None), false) => {
                anyhow::bail!(
                    "the authority's key is missing: stratum2+tcp://HOST:PORT/AUTHORITYKEY \
                     (or --no-authentication, and anybody may be the server)"
                )
            }
        }
    }
}

/// How to speak to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// Lines.
    V1,
    /// Sealed frames.
    V2 {
        /// Whom to take for the right server.
        authority: Authority,
        /// What to open on each connection.
        channels: Channels,
    },
}

impl Server {
    /// How many miners a connection has.
    pub fn slots(&self) -> usize {
        match self {
            Self::V1 => 1,
            Self::V2 { channels, .. } => channels.count,
        }
    }
}

/// What a V2 connection opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    /// Of which kind.
    pub kind: ChannelKind,
    /// How many.
    pub count: usize,
}

/// A kind of V2 channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ChannelKind {
    /// The miner gets a merkle root, and rolls nonce and version.
    Standard,
    /// The miner rolls an extranonce too.
    #[default]
    Extended,
}

/// Parses hashes per second with an optional k, M or G.
fn parse_hashrate(text: &str) -> Result<u64, String> {
    let (number, scale) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
        Some(b'M') => (&text[..text.len() - 1], 1e6),
        Some(b'G') => (&text[..text.len() - 1], 1e9),
        _ => (text, 1.0),
    };
    let hashes =
        number.parse::<f64>().map_err(|_| format!("\"{text}\" is no hash rate: 800k, 1.5M"))? * scale;
    if (1.0..=1e12).contains(&hashes) {
        Ok(hashes as u64) // in range: checked above
    } else {
        Err(format!("hash rate {text} is outside 1…1000G"))
    }
}

/// One `--miner`; what it leaves out comes from the common options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MinerSpec {
    user: Option<String>,
    password: Option<String>,
    agent: Option<String>,
    hashrate: Option<u64>,
}

impl FromStr for MinerSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut spec = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("\"{part}\" is not key=value"))?;
            match key.trim() {
                "user" => spec.user = Some(value.to_owned()),
                "password" => spec.password = Some(value.to_owned()),
                "agent" => spec.agent = Some(value.to_owned()),
                "hashrate" => spec.hashrate = Some(parse_hashrate(value)?),
                other => return Err(format!("\"{other}\" is not one of user, password, agent, hashrate")),
            }
        }
        Ok(spec)
    }
}

/// An address with the name to show for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The name; the address itself if none was given.
    pub name: String,
    /// The address.
    pub address: String,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = text.split_once('=').unwrap_or((text, text));
        Ok(Self { name: name.to_owned(), address: address.to_owned() })
    }
}

/// One connection to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// For `mining.authorize` and shares.
    pub user: String,
    /// For `mining.authorize`.
    pub password: String,
    /// For `mining.subscribe`.
    pub agent: String,
    /// Whether and how fast it hashes.
    pub work: Work,
}

/// What a connection does with its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Counts them.
    Idle,
    /// Hashes, at that many a second at most.
    Mine(Option<u64>),
}

impl RunArgs {
    /// How the options say to speak to the server.
    ///
    /// # Errors
    /// Options of V2 for a V1 server; a V2 server without a key or a word that none is wanted.
    pub fn server(&self) -> anyhow::Result<Server> {
        let Some(authority) = self.url.authority(self.no_authentication)? else {
            anyhow::ensure!(
                self.channel.is_none() && self.channels.is_none(),
                "--channel and --channels are for stratum2+tcp://HOST:PORT/AUTHORITYKEY"
            );
            return Ok(Server::V1);
        };
        let count = self.channels.unwrap_or(1) as usize; // at most 10,000
        Ok(Server::V2 { authority, channels: Channels { kind: self.channel.unwrap_or_default(), count } })
    }

    /// The connections that the options ask for.
    ///
    /// # Errors
    /// A connection without a user name.
    pub fn machines(&self) -> anyhow::Result<Vec<Machine>> {
        let specs = if self.idle {
            vec![MinerSpec::default(); self.connections as usize]
        } else if self.miner.is_empty() {
            vec![MinerSpec::default(); self.miners as usize]
        } else {
            self.miner.clone()
        };
        let machine = |spec: MinerSpec| {
            let user = spec.user.or_else(|| self.user.clone());
            Ok(Machine {
                user: user
                    .ok_or_else(|| anyhow::anyhow!("a miner has no user name: add --user ADDRESS.worker"))?,
                password: spec.password.unwrap_or_else(|| self.password.clone()),
                agent: spec.agent.unwrap_or_else(|| self.agent.clone()),
                work: if self.idle { Work::Idle } else { Work::Mine(spec.hashrate.or(self.hashrate)) },
            })
        };
        specs.into_iter().map(machine).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    fn machines(line: &str) -> Vec<Machine> {
        parse(line).unwrap().run.unwrap().machines().unwrap()
    }

    #[test]
    fn miners_take_what_they_do_not_say_from_the_common_options() {
        let line = "fleet --url stratum+tcp://127.0.0.1:3333 --user A.x --hashrate 1.5M \
                    --miner user=B.y,hashrate=800k,agent=bitaxe/1 --miner hashrate=7 --miner password=d=5";
        let got = machines(line);
        assert_eq!(
            (&*got[0].user, &*got[0].agent, got[0].work),
            ("B.y", "bitaxe/1", Work::Mine(Some(800_000)))
        );
        assert_eq!((&*got[1].user, &*got[1].password, got[1].work), ("A.x", "x", Work::Mine(Some(7))));
        assert_eq!((&*got[2].password, got[2].work), ("d=5", Work::Mine(Some(1_500_000))));
        assert_eq!(machines("fleet --url h:1 --user A --miners 3").len(), 3);
        assert_eq!(machines("fleet --url h:1 --user A")[0].work, Work::Mine(None));
        let idle = machines("fleet --url h:1 --user A --connections 10000 --idle");
        assert_eq!((idle.len(), idle[0].work), (10_000, Work::Idle));
    }

    #[test]
    fn mistakes_are_refused() {
        for line in [
            "fleet",
            "fleet --user A",
            "fleet --url stratum3+tcp://h:1 --user A",
            "fleet --url stratum2+tcp://h:1/KEY --user A",
            "fleet --url stratum2+tcp://h:1 --user A --channels 0",
            "fleet --url stratum2+tcp://h:1 --user A --channel group",
            "fleet --url stratum+tcp://h:1/KEY --user A",
            "fleet --url h --user A",
            "fleet --url :1 --user A",
            "fleet --url h:65536 --user A",
            "fleet --url h:1 --user A --connections 5",
            "fleet --url h:1 --user A --idle --hashrate 5",
            "fleet --url h:1 --user A --miners 0",
            "fleet --url h:1 --user A --hashrate 0",
            "fleet --url h:1 --user A --hashrate -5",
            "fleet --url h:1 --user A --hashrate NaN",
            "fleet --url h:1 --user A --hashrate 5T",
            "fleet --url h:1 --miner speed=5",
            "fleet --url h:1 --miner user",
            "fleet --url h:1 --miner user=A --miners 2",
            "fleet address",
            "fleet address --seed 1 --network moon",
            "fleet audit --cookie c",
            "fleet attack --kind storm",
            "fleet attack --kind rain --url h:1",
            "fleet attack --kind deaf --url h:1",
            "fleet attack --kind bad-shares --url h:1",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("fleet --url h:1").unwrap().run.unwrap().machines().is_err());
    }

    #[test]
    fn urls_name_host_and_port() {
        for (text, host, port) in [
            ("stratum+tcp://pool.example:3333", "pool.example", 3333),
            ("[::1]:1/", "::1", 1),
            ("tcp://h:80", "h", 80),
        ] {
            assert_eq!(text.parse(), Ok(Url { host: host.to_owned(), port, scheme: Scheme::V1 }));
        }
    }

    #[test]
    fn n12_v2_needs_a_key_or_a_word_that_none_is_wanted() {
        const KEY: &str = "9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh";
        let server = |line: &str| parse(line).unwrap().run.unwrap().server();
        let v2 = |authority, kind, count| Server::V2 { authority, channels: Channels { kind, count } };
        let pinned = server(&format!("fleet --url stratum2+tcp://h:1/{KEY} --user A")).unwrap();
        let key = KEY.parse().unwrap();
        assert_eq!(pinned, v2(Authority::Pinned(key), ChannelKind::Extended, 1));
        let open =
            "fleet --url stratum2+tcp://h:1 --user A --no-authentication --channel standard --channels 7";
        assert_eq!(server(open).unwrap(), v2(Authority::Unauthenticated, ChannelKind::Standard, 7));
        assert_eq!(server(open).unwrap().slots(), 7);
        let error = server("fleet --url stratum2+tcp://h:1/ --user A").unwrap_err().to_string();
        assert!(error.contains("--no-authentication"), "{error}");
        assert!(
            server(&format!("fleet --url stratum2+tcp://h:1/{KEY} --user A --no-authentication")).is_err()
        );
        assert_eq!(server("fleet --url h:1 --user A").unwrap(), Server::V1);
        for option in ["--channels 2", "--channel standard", "--no-authentication"] {
            assert!(server(&format!("fleet --url h:1 --user A {option}")).is_err(), "{option}");
        }
    }

    #[test]
    fn commands_need_no_server() {
        assert!(matches!(parse("fleet address --seed 1").unwrap().command, Some(Command::Address(_))));
        let audit = parse("fleet audit --cookie c --payees alice=tb1a,tb1b").unwrap().command;
        let Some(Command::Audit(audit)) = audit else { panic!("{audit:?}") };
        assert_eq!(audit.payees[0], Named { name: "alice".to_owned(), address: "tb1a".to_owned() });
        assert_eq!(audit.payees[1].name, "tb1b");
        let attack = parse("fleet attack --kind storm --url h:1").unwrap().command;
        assert!(matches!(attack, Some(Command::Attack(_))));
    }
}
