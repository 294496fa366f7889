//! `fleet`: pool and proxy as processes, load from another process over loopback, each figure beside that of a server
//! which judges nothing, the *floor*, on the same wire in the same run.
//!
//! Shares come in three ways: as many as a server takes, many on their way on each connection; one on its way on each
//! connection, as fast as they are answered; and the same at a rate that is a quarter of what the slowest server took,
//! spread evenly over the connections and the time, but for a millisecond, which is as fine as the load's clock.
//! Connections come over some seconds, and then are told of new tips.
//!
//! Server and load share the machine's cores: shares a second say little of a server on a machine of its own, CPU time
//! per share does. CPU time is of all threads of the server's process, in user space and in the kernel.
//!
//! A share in about five million is a block of the node's chain. It brings a new tip, as it does in use, and the shares
//! that are on their way then are refused as stale: thousands where many are on their way. One in 65,536 misses even the
//! lowest difficulty. Neither is a share that was lost; CPU time is for each acknowledged one.
//!
//! - [`rows`]: what is said of them

pub(crate) mod rows;

use self::rows::{Shares, Subject, share_rows, storm_rows};
use crate::cell::{Load, Outcome, Protocol, measure};
use crate::report::{self, Report};
use crate::stage::{Node, Served, Stage};
use anyhow::Context;

/// The benchmark's name.
pub const NAME: &str = "fleet";
/// Every hash is a share, but for one in 65,536.
const EASIEST: i8 = -32;
/// What the pool behind the proxy pays for: one in half a million of the load's shares.
const UPSTREAM: i8 = -13;
pub(crate) const PIPELINED: Load =
    Load { connections: 500, within_ms: 1_000, tips: 0, seconds: 5, depth: 16, rate: None };
pub(crate) const SINGLE: Load =
    Load { connections: 1_000, within_ms: 1_000, tips: 0, seconds: 3, depth: 1, rate: None };
pub(crate) const PACED: Load =
    Load { connections: 1_000, within_ms: 1_000, tips: 0, seconds: 5, depth: 1, rate: None };
/// Of the new tips the middle one counts.
pub(crate) const STORM: Load =
    Load { connections: 10_000, within_ms: 10_000, tips: 3, seconds: 0, depth: 1, rate: None };
/// Paced rates are multiples of this.
const RATE_STEP: u32 = 500;

const CELLS: [(Protocol, &[Subject]); 2] = [
    (Protocol::V1, &[Subject::Pool, Subject::Proxy, Subject::Floor]),
    (Protocol::V2, &[Subject::Pool, Subject::Floor]),
];

/// Measures all of it.
///
/// # Errors
/// A program is missing or fails, or a connection or a share went wrong that is to be measured.
pub fn run() -> anyhow::Result<Report> {
    std::fs::create_dir_all(report::FOLDER)?;
    let folder = std::path::Path::new(report::FOLDER).canonicalize()?;
    let dir = tempfile::TempDir::with_prefix_in("fleet-", folder)?;
    let stage = Stage::new(dir.path(), &["sluice-pool", "sluice-proxy", "fleet", "floor"])?;
    let bench = Bench { node: stage.node()?, stage };
    let (mut rows, mut summary) = (Vec::new(), Vec::new());
    for (protocol, subjects) in CELLS {
        let (shares, said) = bench.shares(protocol, subjects)?;
        rows.extend(shares);
        summary.push(said);
    }
    for (protocol, subjects) in CELLS {
        let (storm, said) = bench.storm(protocol, subjects)?;
        rows.extend(storm);
        summary.push(said);
    }
    Ok(Report::new(NAME, rows, summary.join("; ")))
}

struct Bench {
    node: Node,
    stage: Stage,
}

impl Bench {
    fn start(&self, subject: Subject) -> anyhow::Result<Served> {
        let server = match subject {
            Subject::Pool => self.stage.pool(&self.node, EASIEST),
            Subject::Proxy => self.stage.proxy(&self.node, UPSTREAM),
            Subject::Floor => self.stage.floor(&[]),
        };
        server.with_context(|| format!("the {} does not start", subject.name()))
    }

    fn measure(
        &self,
        subject: Subject,
        server: &mut Served,
        protocol: Protocol,
        load: Load,
    ) -> anyhow::Result<Outcome> {
        eprintln!("{protocol:?} {}: {load:?}", subject.name());
        measure(&self.stage, Some(&self.node), server, protocol, load)
            .with_context(|| format!("{protocol:?} {}", subject.name()))
    }

    fn shares(&self, protocol: Protocol, subjects: &[Subject]) -> anyhow::Result<rows::Said> {
        let mut servers = Vec::new();
        for subject in subjects {
            // Only one at a time has anything to do.
            let mut server = self.start(*subject)?;
            let pipelined = self.measure(*subject, &mut server, protocol, PIPELINED)?;
            let single = self.measure(*subject, &mut server, protocol, SINGLE)?;
            servers.push((*subject, server, pipelined, single));
        }
        let rate = quarter(servers.iter().map(|(_, _, _, single)| single.shares("per_second")));
        let mut outcomes = Vec::new();
        for (subject, mut server, pipelined, single) in servers {
            let load = Load { rate: Some(rate), ..PACED };
            let paced = self.measure(subject, &mut server, protocol, load)?;
            outcomes.push((subject, Shares { pipelined, single, paced }));
        }
        share_rows(protocol, rate, &outcomes)
    }

    fn storm(&self, protocol: Protocol, subjects: &[Subject]) -> anyhow::Result<rows::Said> {
        let mut outcomes = Vec::new();
        for subject in subjects {
            let mut server = self.start(*subject)?;
            // A pool without a share has another kind of job.
            let one = Load { connections: 1, seconds: 1, depth: 1, rate: Some(50), ..Load::default() };
            self.measure(*subject, &mut server, protocol, one)?;
            outcomes.push((*subject, self.measure(*subject, &mut server, protocol, STORM)?));
        }
        storm_rows(protocol, &outcomes)
    }
}

/// A quarter of the least of what servers took, shares a second: the same for all, so that they can be compared.
pub(crate) fn quarter(saturated: impl Iterator<Item = f64>) -> u32 {
    let quarter = (saturated.fold(f64::INFINITY, f64::min) / 4.0) as u32; // below a few million
    (quarter / RATE_STEP).max(1) * RATE_STEP
}
