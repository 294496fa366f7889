//! What is said of the servers, each figure of ours beside the floor's.

use super::{PACED, PIPELINED, SINGLE, STORM};
use crate::cell::{Load, Outcome, Protocol};
use crate::report::{Row, count, figure};
use anyhow::ensure;

/// Rows, and their gist.
pub type Said = (Vec<Row>, String);

/// A server to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// With its log and its node.
    Pool,
    /// With a pool of ours behind it.
    Proxy,
    /// What judges nothing.
    Floor,
}

impl Subject {
    /// As rows call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Proxy => "proxy",
            Self::Floor => "floor",
        }
    }
}

/// What a server did with shares.
#[derive(Debug)]
pub struct Shares {
    /// Many on their way on each connection.
    pub pipelined: Outcome,
    /// One at a time on each connection, as fast as they are answered.
    pub single: Outcome,
    /// One at a time on each connection, at a rate.
    pub paced: Outcome,
}

/// Which way of a figure is better.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Better {
    /// More of it.
    More,
    /// Less of it.
    Less,
    /// There is nothing to compare.
    Alone,
}

/// A figure of one server under one load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    /// What it is of.
    pub what: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Which way it is better.
    pub better: Better,
    headline: bool,
    /// Where it stands.
    pub of: fn(&Outcome) -> f64,
}

impl Figure {
    const fn cost(what: &'static str, unit: &'static str, of: fn(&Outcome) -> f64) -> Self {
        Self { what, unit, better: Better::Less, headline: false, of }
    }

    const fn headline(self) -> Self {
        Self { headline: true, ..self }
    }
}

const CPU: Figure = Figure::cost("CPU", "us per share", |outcome| outcome.per_share("cpu_us")).headline();
const SLEEPS: Figure =
    Figure::cost("threads put to sleep", "per share", |outcome| outcome.per_share("sleeps"));
const RATE: Figure = Figure {
    better: Better::More,
    ..Figure::cost("acknowledged", "shares/s", |outcome| outcome.shares("per_second"))
};
const REFUSED: Figure =
    Figure { better: Better::Alone, ..Figure::cost("refused", "shares", Outcome::refused) };
const ANSWER_P50: Figure =
    Figure::cost("answer, half of them within", "us", |outcome| outcome.shares("answer_us/p50"));
const ANSWER_P99: Figure =
    Figure::cost("answer, 99 % within", "us", |outcome| outcome.shares("answer_us/p99"));

/// Answers wait in queues at loads that are as fast as they are answered, so their times say nothing there.
pub(crate) const SATURATED: &[Figure] = &[RATE, CPU, SLEEPS, REFUSED];
/// Of a load that leaves a server asleep between shares.
pub(crate) const AT_A_RATE: &[Figure] = &[CPU, SLEEPS, ANSWER_P50, ANSWER_P99, RATE, REFUSED];
/// Of connections and tips.
pub(crate) const STORMED: &[Figure] = &[
    Figure::cost("CPU", "us per connection", |outcome| outcome.per_connection("cpu_us")).headline(),
    Figure::cost("memory", "bytes per connection", |outcome| outcome.per_connection("grown_bytes"))
        .headline(),
    Figure::cost("first job, half of them within", "us", |outcome| {
        outcome.connect("/connect/first_job_us/p50")
    }),
    Figure::cost("first job, 99 % within", "us", |outcome| outcome.connect("/connect/first_job_us/p99")),
    Figure {
        better: Better::Alone,
        ..Figure::cost("new tip, until the first is told", "us", |outcome| outcome.tip().first)
    },
    Figure::cost("new tip, from the first told to half of them", "us", |outcome| outcome.tip().p50),
    Figure::cost("new tip, from the first told to 99 %", "us", |outcome| outcome.tip().p99),
    Figure::cost("new tip, from the first told to the last", "us", |outcome| outcome.tip().last).headline(),
];

/// All that is said of shares; `rate` is that of the paced ones.
///
/// # Errors
/// A figure is missing.
pub fn share_rows(protocol: Protocol, rate: u32, outcomes: &[(Subject, Shares)]) -> anyhow::Result<Said> {
    let connections = |load: Load| count(load.connections as usize);
    let pipelined =
        format!("pipelined, {} on their way on each of {}", PIPELINED.depth, connections(PIPELINED));
    let single = format!("saturated, one on its way on each of {}", connections(SINGLE));
    let paced = format!("one by one, {} shares/s over {}", count(rate as usize), connections(PACED));
    type Part = fn(&Shares) -> &Outcome;
    let loads: [(String, &[Figure], Part); 3] = [
        (pipelined, SATURATED, |shares| &shares.pipelined),
        (single, SATURATED, |shares| &shares.single),
        (paced, AT_A_RATE, |shares| &shares.paced),
    ];
    let mut table = Vec::new();
    for (load, figures, part) in loads {
        let outcomes: Vec<_> = outcomes.iter().map(|(subject, shares)| (*subject, part(shares))).collect();
        let mut rows = rows(protocol, &load, &outcomes, figures)?;
        // Of the two loads with one share at a time, that which is paced stands for both.
        rows.iter_mut().for_each(|row| row.headline &= !load.starts_with("saturated"));
        table.extend(rows);
    }
    let said = outcomes.iter().map(|(subject, shares)| {
        let [paced, pipelined] =
            [&shares.paced, &shares.pipelined].map(|outcome| figure(outcome.per_share("cpu_us")));
        format!("{} {paced} us, pipelined {pipelined}", subject.name())
    });
    let said = said.collect::<Vec<_>>().join(", ");
    Ok((table, format!("{protocol:?} CPU per share one by one: {said}")))
}

/// All that is said of connections and tips.
///
/// # Errors
/// A figure is missing.
pub fn storm_rows(protocol: Protocol, outcomes: &[(Subject, Outcome)]) -> anyhow::Result<Said> {
    let connections = count(STORM.connections as usize);
    let load = format!("{connections} connections within {} s", STORM.within_ms / 1_000);
    let parts: Vec<_> = outcomes.iter().map(|(subject, outcome)| (*subject, outcome)).collect();
    let table = rows(protocol, &load, &parts, STORMED)?;
    let said = outcomes
        .iter()
        .map(|(subject, outcome)| format!("{} {} ms", subject.name(), figure(outcome.tip().last / 1e3)));
    let said = said.collect::<Vec<_>>().join(", ");
    Ok((table, format!("{protocol:?} first to last of {connections} told within: {said}")))
}

fn rows(
    protocol: Protocol,
    load: &str,
    outcomes: &[(Subject, &Outcome)],
    figures: &[Figure],
) -> anyhow::Result<Vec<Row>> {
    let floor = outcomes.iter().find(|(subject, _)| *subject == Subject::Floor).map(|(_, outcome)| *outcome);
    let mut rows = Vec::new();
    for (subject, outcome) in outcomes.iter().filter(|(subject, _)| *subject != Subject::Floor) {
        for figure in figures {
            let what = format!("{protocol:?} {}, {load}: {}", subject.name(), figure.what);
            let (ours, theirs) = ((figure.of)(outcome), floor.map(figure.of));
            ensure!(ours.is_finite(), "there is no figure of {what}");
            let row = beside(Row::new(what, figure.unit, ours), theirs, figure.better);
            rows.push(if figure.headline { row.headline() } else { row });
        }
    }
    Ok(rows)
}

/// The floor's figure beside ours, if the two can be compared.
fn beside(row: Row, theirs: Option<f64>, better: Better) -> Row {
    let Some(theirs) = theirs.filter(|theirs| theirs.is_finite()) else { return row };
    match better.ratio(row.ours, theirs) {
        Some(ratio) => row.beside(Subject::Floor.name(), theirs, ratio),
        None => row,
    }
}

impl Better {
    /// How many times better ours is than theirs, if the two can be compared.
    pub(crate) fn ratio(self, ours: f64, theirs: f64) -> Option<f64> {
        let ratio = match self {
            Self::More => ours / theirs,
            Self::Less => theirs / ours,
            Self::Alone => return None,
        };
        ratio.is_finite().then_some(ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_above_1_is_ours_whichever_way_is_better() {
        let row = |better| beside(Row::new("w", "u", 2.0), Some(8.0), better);
        assert_eq!(row(Better::Less).ratio, Some(4.0));
        assert_eq!(row(Better::More).ratio, Some(0.25));
        assert_eq!(row(Better::Alone).theirs, None);
    }

    #[test]
    fn nothing_stands_beside_a_figure_that_cannot_be_compared() {
        let none = Row::new("w", "u", 0.0);
        assert_eq!(beside(none.clone(), Some(8.0), Better::Less), none);
        assert_eq!(beside(none.clone(), Some(f64::NAN), Better::More), none);
    }

    #[test]
    fn a_figure_that_is_missing_is_an_error() {
        let outcome = Outcome::default();
        assert!(rows(Protocol::V1, "load", &[(Subject::Pool, &outcome)], &[RATE]).is_err());
    }
}
