//! `attacks`: what honest miners notice of one attacker (faults N05 to N08 and N10).
//!
//! The pool is put under an honest load that is paced, and the same again while another process attacks it. Each figure
//! of the attacked pool stands beside that of the pool left alone, taken just before: there are several rounds, and a
//! figure is the median of its rounds, a ratio the median of theirs.
//!
//! Loopback is exempt from what one address may do, so an attack from there is what many strangers could do together;
//! where it says so, it comes from this machine's own address and meets the default limits. Attacker, load and server
//! share the cores of this machine, and in use only the server has to do with the attacked machine: so the attacker has
//! the lowest priority, and gets what server and honest load leave. What it did get is said beside.
//!
//! Where every hash is a share none is too easy. The worthless shares are one that was sent before, which costs the
//! server as much as one that is too easy, and ones of a job that never was, in turns.
//!
//! Those that do not read stand beside as many that do: a new tip takes longer to tell to more. An address whose
//! connections broke the rules is kept out for a while, so a stranger's garbage and storm are refused for the most part.
//!
//! Nothing honest may be refused or lost meanwhile, and no honest connection closed: the benchmark fails if any is. Only
//! shares that were on their way when a new tip came may be stale, and one in 65,536 misses even the lowest difficulty.
//! The load's connections are newcomers of each round, who do not try again: under a flood of handshakes, of which the
//! oldest makes room, some may get no work. They are counted.
//!
//! - [`attacker`]: the hostile process; [`tips`]: a new tip each second; [`rows`]: what is said

mod attacker;
mod rows;
mod tips;

use self::attacker::{Attacker, Pace};
use self::rows::Round;
use self::tips::Tips;
use crate::cell::{Load, Outcome, Protocol, try_load};
use crate::report::{self, Report};
use crate::stage::{Node, Served, Stage};
use anyhow::{Context, ensure};

/// The benchmark's name.
pub const NAME: &str = "attacks";
/// Every hash is a share, but for one in 65,536.
const EASIEST: i8 = -32;
const ROUNDS: usize = 3;
const HONEST: Load =
    Load { connections: 200, within_ms: 500, tips: 0, seconds: 5, depth: 1, rate: Some(1_000) };
/// Honest shares that may be refused at each new tip: those of a tenth of a second, sent before their miner was told.
const LATE_MAX: f64 = 100.0;

/// An attack.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// As people call it.
    name: &'static str,
    /// As the attacker calls it.
    kind: &'static str,
    /// What attacker and honest load speak.
    protocol: Protocol,
    /// Open at a time.
    connections: u32,
    /// Connections begun in a second, if not all that are possible.
    rate: Option<u32>,
    /// Whether it meets the limits of an address.
    stranger: bool,
    /// Whether there is a new tip each second.
    tips: bool,
    /// What others as many do while the pool is left alone, if it is not alone.
    beside: Option<&'static str>,
    /// What counts of what the attacker does.
    efforts: &'static [Effort],
}

/// Something that an attacker does, its unit, and how often it did.
type Effort = (&'static str, &'static str, fn(&Pace) -> f64);

const TRIED: Effort = ("tries", "connections/s", |pace| pace.tried);
const BEGUN: Effort = ("connections", "connections/s", |pace| pace.begun);
const BYTES: Effort = ("bytes that are taken", "bytes/s", |pace| pace.bytes);
const REFUSED: Effort = ("shares that are refused", "shares/s", |pace| pace.refused);

impl Attack {
    const fn new(name: &'static str, kind: &'static str, protocol: Protocol, connections: u32) -> Self {
        let efforts = &[TRIED, BEGUN];
        Self {
            name,
            kind,
            protocol,
            connections,
            rate: None,
            stranger: false,
            tips: false,
            beside: None,
            efforts,
        }
    }

    const fn by_a_stranger(self, name: &'static str) -> Self {
        Self { name, stranger: true, ..self }
    }

    const fn counting(self, efforts: &'static [Effort]) -> Self {
        Self { efforts, ..self }
    }
}

const GARBAGE: Attack = Attack::new("garbage", "garbage", Protocol::V1, 16).counting(&[BYTES, BEGUN]);
const STORM: Attack = Attack::new("reconnect storm", "storm", Protocol::V1, 64);
const ATTACKS: &[Attack] = &[
    GARBAGE,
    GARBAGE.by_a_stranger("garbage of a stranger"),
    Attack::new("bad shares", "bad-shares", Protocol::V1, 1).counting(&[REFUSED, BEGUN]),
    Attack::new("bad shares", "bad-shares", Protocol::V2, 1).counting(&[REFUSED, BEGUN]),
    Attack { rate: Some(20_000), ..Attack::new("handshakes", "handshakes", Protocol::V2, 2_500) },
    Attack {
        tips: true,
        beside: Some("idle"),
        ..Attack::new("1,000 that do not read", "deaf", Protocol::V1, 1_000).counting(&[])
    },
    STORM,
    STORM.by_a_stranger("reconnect storm of a stranger"),
];

/// Measures all of it.
///
/// # Errors
/// A program is missing or fails, or something honest was refused, lost or closed.
pub fn run() -> anyhow::Result<Report> {
    std::fs::create_dir_all(report::FOLDER)?;
    let folder = std::path::Path::new(report::FOLDER).canonicalize()?;
    let dir = tempfile::TempDir::with_prefix_in("attacks-", folder)?;
    let stage = Stage::new(dir.path(), &["sluice-pool", "fleet"])?;
    let bench = Bench { node: stage.node()?, stage };
    let mut server = bench.stage.pool(&bench.node, EASIEST)?;
    let tips = Tips::prepare(&bench.node)?;
    // The first load finds another kind of job, and files that do not exist yet.
    for protocol in [Protocol::V1, Protocol::V2] {
        bench.honest(&mut server, protocol, None)?;
    }
    let mut rounds: Vec<Vec<Round>> = ATTACKS.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (attack, rounds) in ATTACKS.iter().zip(&mut rounds) {
            let round = bench.round(&mut server, attack, &tips);
            rounds.push(round.with_context(|| format!("{:?} {}", attack.protocol, attack.name))?);
        }
    }
    let (rows, summary) = rows::rows(ATTACKS, &rounds)?;
    Ok(Report::new(NAME, rows, summary))
}

struct Bench {
    node: Node,
    stage: Stage,
}

impl Bench {
    fn round(&self, server: &mut Served, attack: &Attack, tips: &Tips) -> anyhow::Result<Round> {
        let tips = attack.tips.then_some(tips);
        eprintln!("{:?} {}: alone", attack.protocol, attack.name);
        let others =
            attack.beside.map(|kind| Attacker::start(&self.stage, server, &Attack { kind, ..*attack }));
        let others = others.transpose()?;
        let alone = self.honest(server, attack.protocol, tips)?;
        others.map(Attacker::stop).transpose()?;
        eprintln!("{:?} {}: attacked", attack.protocol, attack.name);
        let attacker = Attacker::start(&self.stage, server, attack)?;
        let attacked = self.honest(server, attack.protocol, tips)?;
        Ok(Round { alone, attacked, pace: attacker.stop()? })
    }

    /// The honest load, and nothing of it may go wrong.
    fn honest(
        &self,
        server: &mut Served,
        protocol: Protocol,
        tips: Option<&Tips>,
    ) -> anyhow::Result<Outcome> {
        let mut measure = || try_load(&self.stage, Some(&self.node), server, protocol, HONEST);
        let (outcome, made) = match tips {
            None => (measure()?, 0),
            Some(tips) => {
                let (outcome, made) = tips.during(&self.node, measure)?;
                (outcome?, made)
            }
        };
        // A share may be a block, which is a new tip too.
        check(&outcome, LATE_MAX * f64::from(made + 1))?;
        Ok(outcome)
    }
}

/// That nothing honest went wrong, but for some shares that were too late for a tip.
fn check(outcome: &Outcome, late_max: f64) -> anyhow::Result<()> {
    ensure!(outcome.closed() == 0.0, "honest connections were closed: {}", outcome.shares);
    ensure!(outcome.lost() == 0.0, "honest shares were lost: {}", outcome.shares);
    let excused = outcome.refused_for(|reason| reason.contains("stale") || reason.contains("difficulty"));
    ensure!(outcome.refused() == excused, "honest shares were refused: {}", outcome.shares);
    ensure!(excused <= late_max, "too many honest shares were refused: {}", outcome.shares);
    Ok(())
}
