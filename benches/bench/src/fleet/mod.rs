//! Pool and proxy as processes, load from another process over loopback, each figure beside that of a server which
//! judges nothing, the *floor*, on the same wire in the same run.
//!
//! - [`stage`]: the processes; [`cell`]: one of them under one load
//!
//! Two processes share the machine's cores: shares a second say little of a server on a machine of its own. CPU time per
//! share does.

mod cell;
mod stage;

use self::cell::{Load, Outcome, Protocol, measure};
use self::stage::{Node, Served, Stage};
use crate::report::{Report, Row};
use std::path::Path;

/// Every hash is a share, but for one in 65,536.
const EASIEST: i8 = -32;
/// What the pool behind the proxy pays for: one in half a million of the load's shares.
const UPSTREAM: i8 = -13;
/// Milliseconds of a storm.
const STORM_MS: u32 = 10_000;
const PIPELINED: Load =
    Load { connections: 500, within_ms: 1_000, tips: 0, seconds: 6, depth: 16, rate: None };
const SINGLE: Load = Load { connections: 1_000, within_ms: 2_000, tips: 0, seconds: 6, depth: 1, rate: None };

/// Options of `bench fleet`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Storms of so many connections each.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000])]
    storms: Vec<u32>,
    /// New tips for each storm; the middle one counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    tips: u32,
}

/// A server to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Pool,
    Proxy,
    Floor,
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Proxy => "proxy",
            Self::Floor => "floor",
        }
    }
}

const CELLS: [(Protocol, &[Subject]); 2] = [
    (Protocol::V1, &[Subject::Pool, Subject::Proxy, Subject::Floor]),
    (Protocol::V2, &[Subject::Pool, Subject::Floor]),
];

/// Runs it all; the report goes to standard output and to target/bench.
///
/// # Errors
/// A program is missing or fails.
#[expect(clippy::print_stdout, reason = "the report is the result of the program")]
pub fn run(args: &Args) -> anyhow::Result<()> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench");
    std::fs::create_dir_all(&target)?;
    let dir = tempfile::TempDir::with_prefix_in("fleet-", target.canonicalize()?)?;
    let stage = Stage::new(dir.path())?;
    let bench = Bench { node: stage.node()?, stage };
    let mut rows = Vec::new();
    let mut summary = Vec::new();
    for (protocol, subjects) in CELLS {
        let (shares, said) = bench.shares(protocol, subjects)?;
        rows.extend(shares);
        summary.push(said);
    }
    for connections in &args.storms {
        for (protocol, subjects) in CELLS {
            let (storm, said) = bench.storm(protocol, subjects, *connections, args.tips)?;
            rows.extend(storm);
            summary.push(said);
        }
    }
    let report = Report { name: "fleet", rows, summary: format!("fleet: {}", summary.join("; ")) };
    print!("{report}");
    report.write(&target)
}

struct Bench {
    node: Node,
    stage: Stage,
}

impl Bench {
    fn start(&self, subject: Subject) -> anyhow::Result<Served> {
        match subject {
            Subject::Pool => self.stage.pool(&self.node, EASIEST),
            Subject::Proxy => self.stage.proxy(&self.node, UPSTREAM),
            Subject::Floor => self.stage.floor(),
        }
    }

    fn measure(
        &self,
        subject: Subject,
        server: &mut Served,
        protocol: Protocol,
        load: Load,
    ) -> anyhow::Result<Outcome> {
        eprintln!("{subject:?} {protocol:?} {load:?}");
        measure(&self.stage, &self.node, server, protocol, load)
    }

    /// As many as a server takes, then each share by itself: as fast as they are answered, and at a quarter of that.
    fn shares(&self, protocol: Protocol, subjects: &[Subject]) -> anyhow::Result<(Vec<Row>, String)> {
        let mut servers = Vec::new();
        for subject in subjects {
            // Only one at a time has anything to do.
            let mut server = self.start(*subject)?;
            let pipelined = self.measure(*subject, &mut server, protocol, PIPELINED)?;
            let single = self.measure(*subject, &mut server, protocol, SINGLE)?;
            servers.push((*subject, server, pipelined, single));
        }
        // The same for all, so that they can be compared.
        let all = servers.iter().map(|(_, _, _, single)| single.shares("per_second"));
        let rate = (all.fold(f64::INFINITY, f64::min) / 4.0) as u32; // below a few million
        let mut outcomes = Vec::new();
        for (subject, mut server, pipelined, single) in servers {
            let quarter =
                self.measure(subject, &mut server, protocol, Load { rate: Some(rate), ..SINGLE })?;
            outcomes.push((subject, Shares { pipelined, single, quarter }));
        }
        Ok(share_rows(protocol, &outcomes))
    }

    fn storm(
        &self,
        protocol: Protocol,
        subjects: &[Subject],
        connections: u32,
        tips: u32,
    ) -> anyhow::Result<(Vec<Row>, String)> {
        let mut outcomes = Vec::new();
        for subject in subjects {
            let mut server = self.start(*subject)?;
            // A pool without a share has another kind of job.
            let one = Load { connections: 1, seconds: 1, depth: 1, rate: Some(50), ..Load::default() };
            self.measure(*subject, &mut server, protocol, one)?;
            let load = Load { connections, within_ms: STORM_MS, tips, ..Load::default() };
            outcomes.push((*subject, self.measure(*subject, &mut server, protocol, load)?));
        }
        Ok(storm_rows(protocol, connections, &outcomes))
    }
}

type Part = fn(&Shares) -> &Outcome;
type Figure<T> = (&'static str, &'static str, fn(&T) -> f64);

/// Every figure of each server of ours, beside the floor's.
fn rows<T>(group: &str, outcomes: &[(Subject, T)], figures: &[Figure<T>]) -> Vec<Row> {
    let floor = outcomes.iter().find(|(subject, _)| *subject == Subject::Floor).map(|(_, outcome)| outcome);
    let ours = outcomes.iter().filter(|(subject, _)| *subject != Subject::Floor);
    ours.flat_map(|(subject, outcome)| {
        figures.iter().map(move |(what, unit, figure)| {
            let what = format!("{} {group}: {what}", subject.name());
            Row::beside(what, unit, figure(outcome), "floor", floor.map(figure))
        })
    })
    .collect()
}

/// What a server did with shares.
struct Shares {
    /// Many at once on each connection.
    pipelined: Outcome,
    /// One at a time on each connection, as fast as they are answered.
    single: Outcome,
    /// The same at a quarter of the slowest server's rate.
    quarter: Outcome,
}

fn share_rows(protocol: Protocol, outcomes: &[(Subject, Shares)]) -> (Vec<Row>, String) {
    const FIGURES: [Figure<Outcome>; 6] = [
        ("shares acknowledged a second", "/s", |outcome| outcome.shares("per_second")),
        ("CPU per share", "us", |outcome| outcome.per_share("cpu_us")),
        ("threads put to sleep per share", "", |outcome| outcome.per_share("sleeps")),
        ("shares refused", "", Outcome::refused),
        ("answer p50", "us", |outcome| outcome.shares("answer_us/p50")),
        ("answer p99", "us", |outcome| outcome.shares("answer_us/p99")),
    ];
    let loads: [(&str, Part); 3] = [
        ("pipelined", |shares| &shares.pipelined),
        ("one by one", |shares| &shares.single),
        ("at a quarter", |shares| &shares.quarter),
    ];
    let table = loads.iter().flat_map(|(name, load)| {
        let outcomes: Vec<_> =
            outcomes.iter().map(|(subject, shares)| (*subject, load(shares).clone())).collect();
        rows(&format!("{protocol:?} {name}"), &outcomes, &FIGURES)
    });
    let said = outcomes.iter().map(|(subject, shares)| {
        let [single, pipelined] =
            [&shares.quarter, &shares.pipelined].map(|outcome| outcome.per_share("cpu_us"));
        format!("{} {single:.1} us, pipelined {pipelined:.1}", subject.name())
    });
    let said = said.collect::<Vec<_>>().join(", ");
    (table.collect(), format!("{protocol:?} CPU per share one at a time: {said}"))
}

fn storm_rows(protocol: Protocol, connections: u32, outcomes: &[(Subject, Outcome)]) -> (Vec<Row>, String) {
    let figures: [Figure<Outcome>; 9] = [
        ("connections failed", "", Outcome::connects_failed),
        ("CPU per connection", "us", |outcome| outcome.per_connection("cpu_us")),
        ("memory per connection", "bytes", |outcome| outcome.per_connection("grown_bytes")),
        ("first job p50", "us", |outcome| outcome.connect("/connect/first_job_us/p50")),
        ("first job p99", "us", |outcome| outcome.connect("/connect/first_job_us/p99")),
        ("new tip to the first", "us", |outcome| outcome.tip().first),
        ("from the first to half", "us", |outcome| outcome.tip().p50),
        ("from the first to 99 %", "us", |outcome| outcome.tip().p99),
        ("from the first to the last", "us", |outcome| outcome.tip().last),
    ];
    let table = rows(&format!("{protocol:?} {connections} connections"), outcomes, &figures);
    let said = outcomes
        .iter()
        .map(|(subject, outcome)| format!("{} {:.1} ms", subject.name(), outcome.tip().last / 1e3));
    let said = said.collect::<Vec<_>>().join(", ");
    (table, format!("{protocol:?} first to last of {connections} told within: {said}"))
}
