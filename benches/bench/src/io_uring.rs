//! `io_uring`: whether another way to the sockets would pay. The floor over epoll, as the servers are, beside the floor
//! over io_uring: the same answers on the same wire, one thread each, under the same loads in turns.
//!
//! What the second one uses: one request that accepts all connections and one for all that a connection ever says,
//! buffers that the kernel takes as it needs them, and one call of the kernel for all that is to be sent and for the
//! wait (`benches/uring`). Figures are as those of [`crate::fleet`]: here each is the median over the rounds, its ratio
//! the median of the ratios within a round. Theirs is io_uring's: a ratio below 1 is in its favour.
//!
//! How to read it: a server of ours takes several times the floor's CPU time per share, and io_uring can save at most
//! what lies between the two floors. A fifth of the floor's CPU time, saturated and at a rate, is what it would take to
//! pay. On two quiet cores of a virtual machine with Linux 6.18 the ratios of CPU time were 0.96 and 0.98 pipelined, 1.07
//! and 0.96 saturated, 1.02 and 1.12 at a rate (V1, V2): nothing to gain. So the servers stay with epoll; another kind of
//! machine may say otherwise.
//!
//! Where the system refuses io_uring there is nothing to measure, and the report says so.

use crate::cell::{Load, Outcome, Protocol, measure};
use crate::fleet::rows::{AT_A_RATE, Figure, SATURATED, STORMED};
use crate::fleet::{PACED, PIPELINED, SINGLE, STORM, quarter};
use crate::measure::median;
use crate::report::{self, Report, Row, count, figure};
use crate::stage::{Served, Stage};
use anyhow::ensure;

/// The benchmark's name.
pub const NAME: &str = "io_uring";
/// Each server is under each load so often.
const ROUNDS: usize = 3;
/// How the servers are called, and what makes the floor be them.
const SERVERS: [(&str, &[&str]); 2] = [("epoll", &[]), (NAME, &["--io-uring"])];

/// What both servers did in each round.
type Rounds = Vec<[Outcome; 2]>;

/// Measures all of it.
///
/// # Errors
/// A program is missing or fails, or connections do.
pub fn run() -> anyhow::Result<Report> {
    if let Some(error) = uring::refused() {
        let summary = format!("left out: this system refuses io_uring: {error}");
        return Ok(Report::new(NAME, Vec::new(), summary));
    }
    std::fs::create_dir_all(report::FOLDER)?;
    let folder = std::path::Path::new(report::FOLDER).canonicalize()?;
    let dir = tempfile::TempDir::with_prefix_in("io_uring-", folder)?;
    let stage = Stage::new(dir.path(), &["fleet", "floor"])?;
    let (mut rows, mut gists) = (Vec::new(), Vec::new());
    for protocol in [Protocol::V1, Protocol::V2] {
        let (shares, gist) = shares(&stage, protocol)?;
        rows.extend(shares);
        gists.push(gist);
    }
    let storm = in_turns(&stage, Protocol::V1, STORM)?;
    rows.extend(compared(Protocol::V1, &connected(STORM), &storm, STORMED)?);
    Ok(Report::new(NAME, rows, gists.join("; ")))
}

fn shares(stage: &Stage, protocol: Protocol) -> anyhow::Result<(Vec<Row>, String)> {
    let pipelined = in_turns(stage, protocol, PIPELINED)?;
    let single = in_turns(stage, protocol, SINGLE)?;
    let taken = |server| of(&single, server, |outcome| outcome.shares("per_second"));
    let rate = quarter([0, 1].map(taken).into_iter());
    let paced = in_turns(stage, protocol, Load { rate: Some(rate), ..PACED })?;
    let connections = |load: Load| count(load.connections as usize);
    let loads = [
        (
            format!("{} on their way on each of {}", PIPELINED.depth, connections(PIPELINED)),
            pipelined,
            SATURATED,
        ),
        (format!("saturated, one on its way on each of {}", connections(SINGLE)), single, SATURATED),
        (format!("{} shares/s over {}", count(rate as usize), connections(PACED)), paced, AT_A_RATE),
    ];
    let (mut rows, mut gists) = (Vec::new(), Vec::new());
    for (load, rounds, figures) in &loads {
        rows.extend(compared(protocol, load, rounds, figures)?);
        let [epoll, ring] = [0, 1].map(|server| of(rounds, server, |outcome| outcome.per_share("cpu_us")));
        gists.push(format!("{} -> {}", figure(epoll), figure(ring)));
    }
    Ok((rows, format!("{protocol:?} CPU us per share pipelined, saturated, paced: {}", gists.join(", "))))
}

fn connected(load: Load) -> String {
    format!("{} connections within {} s", count(load.connections as usize), load.within_ms / 1_000)
}

fn in_turns(stage: &Stage, protocol: Protocol, load: Load) -> anyhow::Result<Rounds> {
    let mut rounds = Rounds::new();
    for round in 0..ROUNDS {
        // There and back: what drifts then favours nobody.
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        let mut outcomes = [Outcome::default(), Outcome::default()];
        for which in order {
            let (name, options) = SERVERS[which];
            eprintln!("{protocol:?} {name}, round {}: {load:?}", round + 1);
            let mut server: Served = stage.floor(options)?;
            outcomes[which] = measure(stage, None, &mut server, protocol, load)?;
        }
        rounds.push(outcomes);
    }
    Ok(rounds)
}

/// The median of a server's figure over the rounds.
fn of(rounds: &Rounds, server: usize, figure: fn(&Outcome) -> f64) -> f64 {
    median(rounds.iter().map(|round| figure(&round[server])).collect())
}

fn compared(protocol: Protocol, load: &str, rounds: &Rounds, figures: &[Figure]) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for figure in figures {
        let what = format!("{protocol:?} epoll, {load}: {}", figure.what);
        let [ours, theirs] = [0, 1].map(|server| of(rounds, server, figure.of));
        ensure!(ours.is_finite() && theirs.is_finite(), "there is no figure of {what}");
        let row = Row::new(what, figure.unit, ours);
        let ratios =
            rounds.iter().map(|[ours, theirs]| figure.better.ratio((figure.of)(ours), (figure.of)(theirs)));
        rows.push(match ratios.collect::<Option<Vec<f64>>>() {
            Some(ratios) => row.beside(NAME, theirs, median(ratios)),
            None => row,
        });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outcome(cpu_us: f64) -> Outcome {
        let shares = json!({ "shares": { "accepted": 10 }, "server": { "cpu_us": cpu_us } });
        Outcome { shares, ..Outcome::default() }
    }

    #[test]
    fn ratios_are_taken_within_rounds() {
        // The machine ran at a third of its speed in the first round.
        let rounds = vec![
            [outcome(90.0), outcome(45.0)],
            [outcome(30.0), outcome(15.0)],
            [outcome(30.0), outcome(60.0)],
        ];
        let cpu = SATURATED.iter().find(|figure| figure.what == "CPU").unwrap();
        let rows = compared(Protocol::V1, "load", &rounds, &[*cpu]).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].ours, rows[0].theirs, rows[0].ratio), (3.0, Some(4.5), Some(0.5)));
        assert_eq!(rows[0].what, "V1 epoll, load: CPU");
    }

    #[test]
    fn a_figure_that_is_missing_is_an_error() {
        let rounds = vec![[Outcome::default(), outcome(1.0)]];
        assert!(compared(Protocol::V1, "load", &rounds, SATURATED).is_err());
    }
}
