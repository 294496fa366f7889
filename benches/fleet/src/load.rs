//! Load for benchmarks: many connections that play shares without hashing, on one thread.
//!
//! Three parts, each measured and printed as a JSON object on a line of its own: connecting (until all have work), new
//! tips, shares. Shares come as fast as they are answered, so many at once on each connection, or at a rate.
//!
//! - [`player`]: one connection; [`v1`], [`v2`]: what it says
//! - [`counts`]: what is counted; [`watched`]: what the server's process used meanwhile
//!
//! What it does not do: it hashes nothing, so its shares are good only where every hash is one (pot -32); and it does
//! not connect again.

mod counts;
pub mod player;
mod v1;
mod v2;
mod watched;

use self::counts::{Counts, Tip};
use self::player::{Heard, Player, Speech};
use self::watched::Sample;
use crate::cli::Url;
use anyhow::{Context, ensure};
use clap::Args;
use floor::link::{Link, SCRATCH_BYTES};
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use serde_json::{Value, json};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use stratum_net::limits::raise_file_limit;

const EVENTS_MAX: usize = 1_024;
const CLOCK: Token = Token(usize::MAX - 1);
/// Between two looks at the time, where nothing else happens.
const TICK: Duration = Duration::from_millis(1);
/// Shares at a rate leave in portions no closer than this.
const PORTION_MIN: Duration = Duration::from_micros(50);
/// Work for all after the last connection was begun.
const CONNECT_MAX: Duration = Duration::from_secs(30);
/// A tip for all after it was waited for; somebody has to find a block first.
const TIP_MAX: Duration = Duration::from_secs(120);
/// Before shares count.
const WARM_UP: Duration = Duration::from_secs(1);
/// For the last answers.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// Options of `fleet load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// The server: stratum+tcp://HOST:PORT, or stratum2+tcp://HOST:PORT/AUTHORITYKEY.
    #[arg(long)]
    url: Url,
    /// V2 without an authority's key.
    #[arg(long)]
    no_authentication: bool,
    /// User name of all connections.
    #[arg(long)]
    user: String,
    /// How many connections; with V2 each has an extended channel.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,
    /// Milliseconds over which they are opened.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    within_ms: u64,
    /// After that wait for so many new tips, and say how each spread.
    #[arg(long, default_value_t = 0)]
    tips: u32,
    /// After that send shares for so many seconds.
    #[arg(long = "for", default_value_t = 0, value_name = "SECONDS")]
    for_seconds: u32,
    /// Shares that may wait for their answers on each connection.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    depth: u16,
    /// Shares per second over all connections; without it as fast as they are answered.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: Option<u32>,
    /// The server's process, to say what it used.
    #[arg(long, value_name = "PID")]
    watch: Option<u32>,
}

/// Connects, waits for tips, sends shares.
///
/// # Errors
/// The machine cannot give what is needed, or no connection came about.
pub fn run(args: &LoadArgs) -> anyhow::Result<ExitCode> {
    raise_file_limit();
    let mut load = Load::new(args)?;
    load.watched("connect", Load::open)?;
    ensure!(load.counts.ready > 0, "no connection got work: {:?}", load.counts.failed);
    for _ in 0..args.tips {
        load.watched("tip", Load::tip)?;
    }
    if args.for_seconds > 0 {
        load.send_shares()?;
    }
    Ok(ExitCode::SUCCESS)
}

struct Load<'a> {
    args: &'a LoadArgs,
    speech: Speech,
    address: SocketAddr,
    poll: Poll,
    events: Events,
    clock: OwnedFd,
    players: Vec<Option<Player>>,
    counts: Counts,
    tip: Option<Tip>,
    /// Shares that each connection keeps on their way, when they come as fast as they are answered.
    refill: usize,
    scratch: Vec<u8>,
    out: Vec<u8>,
}

impl<'a> Load<'a> {
    fn new(args: &'a LoadArgs) -> anyhow::Result<Self> {
        let (host, port) = (args.url.host.as_str(), args.url.port);
        let address = (host, port).to_socket_addrs()?.next().context("the host has no address")?;
        let speech = Speech { authority: args.url.authority(args.no_authentication)?, port };
        let clock = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        let poll = Poll::new()?;
        poll.registry().register(&mut SourceFd(&clock.as_raw_fd()), CLOCK, Interest::READABLE)?;
        Ok(Self {
            args,
            speech,
            address,
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            clock,
            players: Vec::new(),
            counts: Counts::default(),
            tip: None,
            refill: 0,
            scratch: vec![0; SCRATCH_BYTES],
            out: Vec::new(),
        })
    }

    /// Runs a part of the load and prints what it says, with what server and load used meanwhile.
    fn watched(&mut self, name: &str, part: fn(&mut Self) -> anyhow::Result<Value>) -> anyhow::Result<()> {
        say(&json!({ "begin": name }));
        let before = self.samples()?;
        let said = part(self)?;
        let after = self.samples()?;
        let [server, own] = [0, 1].map(|which| before[which].until(after[which]));
        say(&json!({ name: said, "server": server, "own": own }));
        Ok(())
    }

    /// Of the server, and of this process.
    fn samples(&self) -> anyhow::Result<[Sample; 2]> {
        let server = self.args.watch.map(Sample::of).transpose().context("the server is gone")?;
        Ok([server.unwrap_or_default(), Sample::of(std::process::id())?])
    }

    fn open(&mut self) -> anyhow::Result<Value> {
        let (wanted, started) = (self.args.connections as usize, Instant::now()); // 60,000 at most
        let within = Duration::from_millis(self.args.within_ms);
        loop {
            let elapsed = started.elapsed();
            let due = if elapsed < within {
                (wanted as f64 * elapsed.as_secs_f64() / within.as_secs_f64()) as usize // below `wanted`
            } else {
                wanted
            };
            while self.players.len() < due {
                self.connect()?;
            }
            let settled = self.counts.ready + self.players.iter().filter(|player| player.is_none()).count();
            if settled >= wanted || elapsed > within + CONNECT_MAX {
                return Ok(self.counts.connects(wanted, elapsed.as_secs_f64()));
            }
            self.turn(TICK)?;
        }
    }

    fn connect(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut stream = match TcpStream::connect(self.address) {
            Ok(stream) => stream,
            Err(error) => {
                self.counts.failed.count(error.to_string());
                self.players.push(None);
                return Ok(());
            }
        };
        let token = Token(self.players.len());
        self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.players.push(Some(Player::new(Link::new(stream), started)));
        Ok(())
    }

    fn tip(&mut self) -> anyhow::Result<Value> {
        self.tip = None;
        let started = Instant::now();
        let done = |load: &Self| load.tip.as_ref().is_some_and(|tip| tip.connections() >= load.counts.ready);
        while !done(self) {
            ensure!(started.elapsed() < TIP_MAX, "no tip has come to all connections: {:?}", self.tip);
            self.turn(TICK * 10)?;
        }
        Ok(self.tip.as_ref().map(Tip::to_json).unwrap_or_default())
    }

    fn send_shares(&mut self) -> anyhow::Result<()> {
        let window = Duration::from_secs(u64::from(self.args.for_seconds));
        if let Some(rate) = self.args.rate {
            self.set_clock(PORTION_MIN.max(Duration::from_secs(1) / rate))?;
        } else {
            self.refill = usize::from(self.args.depth);
            (0..self.players.len()).for_each(|index| self.look(index, false));
        }
        let mut pace = Pace { rate: self.args.rate.unwrap_or(0), started: Instant::now(), sent: 0, next: 0 };
        let until = Instant::now() + WARM_UP;
        while Instant::now() < until {
            self.step(&mut pace)?;
        }
        self.counts = Counts { ready: self.counts.ready, ..Counts::default() };
        let (before, started) = (self.samples()?, Instant::now());
        while started.elapsed() < window {
            self.step(&mut pace)?;
        }
        let (after, seconds) = (self.samples()?, started.elapsed().as_secs_f64());
        let waiting = |load: &Self| load.players.iter().flatten().map(Player::waiting).sum();
        let said = self.counts.shares(seconds, waiting(self));
        let [server, own] = [0, 1].map(|which| before[which].until(after[which]));
        self.refill = 0;
        let until = Instant::now() + DRAIN_MAX;
        while waiting(self) > 0 && Instant::now() < until {
            self.turn(TICK)?;
        }
        say(
            &json!({ "shares": said, "server": server, "own": own, "lost": waiting(self), "ready": self.counts.ready, "failed": self.counts.failed.0 }),
        );
        Ok(())
    }

    fn set_clock(&self, every: Duration) -> anyhow::Result<()> {
        let nanos = i64::try_from(every.as_nanos()).context("a second at most")?;
        let every = Timespec { tv_sec: nanos / 1_000_000_000, tv_nsec: nanos % 1_000_000_000 };
        let spec = Itimerspec { it_interval: every, it_value: every };
        timerfd_settime(&self.clock, TimerfdTimerFlags::empty(), &spec)?;
        Ok(())
    }

    fn step(&mut self, pace: &mut Pace) -> anyhow::Result<()> {
        self.turn(TICK)?;
        let depth = usize::from(self.args.depth);
        for _ in 0..pace.due() {
            // Round and round, past those that wait for an answer.
            let free = |index: &usize| {
                self.players[*index]
                    .as_ref()
                    .is_some_and(|player| player.has_work() && player.waiting() < depth)
            };
            let count = self.players.len();
            let Some(index) = (pace.next..count).chain(0..pace.next).find(free) else {
                self.counts.held_back += 1;
                continue;
            };
            pace.next = (index + 1) % count;
            self.out.clear();
            if let Some(player) = &mut self.players[index] {
                let sent =
                    player.submit(Instant::now(), &mut self.out).and_then(|()| player.link.send(&self.out));
                self.end_if(index, sent);
            }
        }
        Ok(())
    }

    /// Waits for the poller, and looks at everyone it names.
    fn turn(&mut self, longest: Duration) -> anyhow::Result<()> {
        match self.poll.poll(&mut self.events, Some(longest)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        events.iter().filter(|event| event.token() != CLOCK).for_each(|event| {
            self.look(event.token().0, event.is_writable());
        });
        self.events = events;
        Ok(())
    }

    fn look(&mut self, index: usize, writable: bool) {
        let Some(player) = &mut self.players[index] else { return };
        self.out.clear();
        let was_idle = !player.has_work();
        let speech = (&self.speech, self.args.user.as_str());
        let turned = player.turn(speech, writable, &mut self.scratch, &mut self.out);
        let turned = turned.and_then(|heard| {
            let now = Instant::now();
            if was_idle && player.has_work() {
                self.counts.ready += 1;
                self.counts.first_job.record(micros(now - player.started));
            }
            hear(heard, player, now, &mut self.counts, &mut self.tip);
            while player.has_work() && player.waiting() < self.refill {
                player.submit(now, &mut self.out)?;
            }
            player.link.send(&self.out)
        });
        self.end_if(index, turned);
    }

    fn end_if(&mut self, index: usize, result: io::Result<()>) {
        let Err(error) = result else { return };
        self.counts.failed.count(error.to_string());
        let worked = self.players[index].take().is_some_and(|player| player.has_work());
        self.counts.ready -= usize::from(worked);
    }
}

fn hear(heard: Heard, player: &mut Player, now: Instant, counts: &mut Counts, tip: &mut Option<Tip>) {
    let answers = heard.accepted as usize + heard.refused.len();
    for sent in (0..answers).map_while(|_| player.answered()) {
        counts.answer.record(micros(now - sent));
    }
    counts.accepted += u64::from(heard.accepted);
    heard.refused.into_iter().for_each(|reason| counts.refused.count(reason));
    let Some(told) = heard.tip else { return };
    // The first job of a connection is no new tip.
    let Some(before) = player.tip.replace(told) else { return };
    match tip {
        _ if before == told => {}
        Some(tip) if tip.tip == told => tip.another(now),
        _ => *tip = Some(Tip::first(told, now)),
    }
}

/// Shares at a rate.
struct Pace {
    /// Per second; 0: they are not paced.
    rate: u32,
    started: Instant,
    sent: u64,
    /// Whose turn it is.
    next: usize,
}

impl Pace {
    /// How many are to be sent now.
    fn due(&mut self) -> u64 {
        let by_now = (self.started.elapsed().as_secs_f64() * f64::from(self.rate)) as u64; // far below 2^53
        let due = by_now - self.sent;
        self.sent = by_now;
        due
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::print_stdout, reason = "the measurements are the result of the program")]
fn say(value: &Value) {
    println!("{value}");
}
