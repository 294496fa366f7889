//! One hostile peer, on one thread, as fast as it gets: to measure what honest miners notice of it.
//!
//! Once a second it prints, as a JSON object on a line of its own, what it has done so far; the first time when the
//! attack stands.
//!
//! - [`garbage`]: bytes that are no protocol; [`blind`]: connections that say one thing and leave;
//!   [`shares`]: sessions that send worthless shares, or that never read
//! - [`source`]: where it comes from
//!
//! What it does not do: it attacks no server but one of this machine.

mod blind;
mod garbage;
mod shares;
mod source;

use self::blind::Blind;
use self::garbage::Garbage;
use self::shares::{Manner, Players};
use self::source::Source;
use crate::cli::Url;
use crate::load::player::Speech;
use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::net::{Ipv4Addr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use stratum::v2::noise::ACT1_BYTES;
use stratum_net::limits::raise_file_limit;

/// When nothing could be done.
const REST: Duration = Duration::from_micros(200);
const SAY_EVERY: Duration = Duration::from_secs(1);
const SUBSCRIBE: &[u8] = b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"storm\"]}\n";

/// Options of `fleet attack`.
#[derive(Debug, Args)]
pub struct AttackArgs {
    /// What to do.
    #[arg(long, value_enum)]
    kind: Kind,
    /// The server: stratum+tcp://HOST:PORT, or stratum2+tcp://HOST:PORT/AUTHORITYKEY.
    #[arg(long)]
    url: Url,
    /// V2 without an authority's key.
    #[arg(long)]
    no_authentication: bool,
    /// User name, where one is needed.
    #[arg(long, required_if_eq_any([("kind", "bad-shares"), ("kind", "deaf"), ("kind", "idle")]))]
    user: Option<String>,
    /// Connections that are open at a time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,
    /// Connections begun in a second, for those that leave at once; without it as many as there can be.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// The address to come from; without it each connection comes from another one of loopback.
    #[arg(long, value_name = "ADDRESS")]
    from: Option<Ipv4Addr>,
}

/// Attacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Random bytes, lines without end, broken JSON.
    Garbage,
    /// Shares that are worth nothing, as fast as they are answered.
    BadShares,
    /// First acts of V2 handshakes, never a word after that.
    Handshakes,
    /// Authorized, and never reading again.
    Deaf,
    /// Authorized and reading: not hostile, to compare with those that do not read.
    Idle,
    /// Subscribing and leaving.
    Storm,
}

/// What was done so far.
#[derive(Debug, Default)]
struct Done {
    /// Connections begun.
    begun: u64,
    /// Connections that could not be, or not at once.
    failed: u64,
    /// Connections that the server ended.
    ended: u64,
    /// Bytes of garbage that it took.
    bytes: u64,
    /// Shares that it refused.
    refused: u64,
}

enum Attack {
    Garbage(Garbage),
    Blind(Blind),
    Players(Players),
}

/// Attacks until it is killed.
///
/// # Errors
/// The server is on another machine, or the options do not fit each other.
pub fn run(args: &AttackArgs) -> anyhow::Result<ExitCode> {
    raise_file_limit();
    let address = (args.url.host.as_str(), args.url.port).to_socket_addrs()?.next();
    let mut source = Source::new(address.context("the host has no address")?, args.from)?;
    let mut attack = Attack::new(args)?;
    let (mut done, started, mut said) = (Done::default(), Instant::now(), None);
    loop {
        let busy = match &mut attack {
            Attack::Garbage(garbage) => garbage.turn(&mut source, &mut done),
            Attack::Blind(blind) => blind.turn(&mut source, &mut done),
            Attack::Players(players) => players.turn(&mut source, &mut done),
        };
        let stands = !matches!(&attack, Attack::Players(players) if !players.stand());
        if said.map_or(stands, |said: Instant| said.elapsed() >= SAY_EVERY) {
            said = Some(Instant::now());
            say(&done, started.elapsed());
        }
        if !busy {
            std::thread::sleep(REST);
        }
    }
}

impl Attack {
    fn new(args: &AttackArgs) -> anyhow::Result<Self> {
        let count = args.connections as usize; // 60,000 at most
        let authority = args.url.authority(args.no_authentication)?;
        let players = |manner| {
            let user = args.user.clone().context("there is no user name")?;
            let speech = Speech { authority, port: args.url.port };
            Ok(Self::Players(Players::new(speech, user, count, manner)))
        };
        match args.kind {
            Kind::Garbage => Ok(Self::Garbage(Garbage::new(count))),
            Kind::BadShares => players(Manner::Worthless),
            Kind::Deaf => players(Manner::Deaf),
            Kind::Idle => players(Manner::Idle),
            Kind::Storm => Ok(Self::Blind(Blind::new(|| SUBSCRIBE.to_vec(), count, args.rate))),
            Kind::Handshakes => Ok(Self::Blind(Blind::new(act1, count, args.rate))),
        }
    }
}

/// As good as any: every 64 bytes are a key.
fn act1() -> Vec<u8> {
    rand::random::<[u8; ACT1_BYTES]>().to_vec()
}

#[expect(clippy::print_stdout, reason = "the counts are the result of the program")]
fn say(done: &Done, elapsed: Duration) {
    let Done { begun, failed, ended, bytes, refused } = done;
    println!(
        "{}",
        json!({ "seconds": elapsed.as_secs_f64(), "begun": begun, "failed": failed, "ended": ended, "bytes": bytes, "refused": refused })
    );
}
