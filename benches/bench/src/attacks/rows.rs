//! What is said of each attack: the attacked pool beside the one left alone.

use super::Attack;
use super::attacker::Pace;
use crate::cell::Outcome;
use crate::report::{Row, figure};
use anyhow::ensure;

/// What stands beside.
const ALONE: &str = "left alone";

/// One measurement of one attack.
#[derive(Debug)]
pub struct Round {
    /// The honest load before.
    pub alone: Outcome,
    /// The same while there is an attacker.
    pub attacked: Outcome,
    /// What that did.
    pub pace: Pace,
}

/// Something of the honest load, or of what the server used meanwhile: of both the less the better.
struct Figure {
    what: &'static str,
    unit: &'static str,
    headline: bool,
    of: fn(&Outcome) -> f64,
}

const P99: Figure = Figure {
    what: "answer, 99 % within",
    unit: "us",
    headline: true,
    of: |outcome| outcome.shares("answer_us/p99"),
};
const FIGURES: &[Figure] = &[
    P99,
    Figure {
        what: "answer, half of them within",
        unit: "us",
        headline: false,
        of: |outcome| outcome.shares("answer_us/p50"),
    },
    Figure {
        what: "first job of another one, 99 % within",
        unit: "us",
        headline: false,
        of: |outcome| outcome.connect("/connect/first_job_us/p99"),
    },
    Figure { what: "newcomers without work", unit: "of 200", headline: false, of: Outcome::connects_failed },
    Figure {
        what: "the server's CPU",
        unit: "% of a core",
        headline: false,
        of: |outcome| outcome.server("cpu_us") / outcome.shares("seconds") / 1e4,
    },
    Figure {
        what: "the server's memory grows by",
        unit: "bytes",
        headline: false,
        of: |outcome| outcome.server("grown_bytes"),
    },
];

/// Rows, and their gist.
///
/// # Errors
/// A figure is missing.
pub fn rows(attacks: &[Attack], rounds: &[Vec<Round>]) -> anyhow::Result<(Vec<Row>, String)> {
    let (mut rows, mut said) = (Vec::new(), Vec::new());
    for (attack, rounds) in attacks.iter().zip(rounds) {
        for figure in FIGURES {
            rows.push(row(attack, rounds, figure)?);
        }
        for (what, unit, of) in attack.efforts {
            let effort = median(rounds.iter().map(|round| of(&round.pace)));
            ensure!(effort.is_finite(), "there is no figure of the attacker's {what}: {}", attack.name);
            rows.push(Row::new(title(attack, &format!("the attacker's {what}")), unit, effort));
        }
        let [p99, times] =
            [median(values(rounds, &P99)), median(slower(rounds, &P99))].map(crate::report::figure);
        said.push(format!("{:?} {} {p99} us ({times}x)", attack.protocol, attack.name));
    }
    let alone = rounds.iter().flatten().map(|round| (P99.of)(&round.alone));
    let summary = format!("honest p99 {} us alone; {}", figure(median(alone)), said.join(", "));
    Ok((rows, summary))
}

fn row(attack: &Attack, rounds: &[Round], figure: &Figure) -> anyhow::Result<Row> {
    let what = title(attack, figure.what);
    let ours = median(values(rounds, figure));
    let theirs = median(rounds.iter().map(|round| (figure.of)(&round.alone)));
    ensure!(ours.is_finite() && theirs.is_finite(), "there is no figure of {what}");
    let ratio = 1.0 / median(slower(rounds, figure));
    let row = Row::new(what, figure.unit, ours);
    let row = if ratio.is_finite() && ratio > 0.0 { row.beside(ALONE, theirs, ratio) } else { row };
    Ok(if figure.headline { row.headline() } else { row })
}

fn title(attack: &Attack, what: &str) -> String {
    format!("{:?} pool, {}: {what}", attack.protocol, attack.name)
}

fn values<'a>(rounds: &'a [Round], figure: &'a Figure) -> impl Iterator<Item = f64> + 'a {
    rounds.iter().map(|round| (figure.of)(&round.attacked))
}

/// How many times as much it is under attack.
fn slower<'a>(rounds: &'a [Round], figure: &'a Figure) -> impl Iterator<Item = f64> + 'a {
    rounds.iter().map(|round| (figure.of)(&round.attacked) / (figure.of)(&round.alone))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outcome(p99: f64) -> Outcome {
        let answer = json!({ "p50": p99 / 2.0, "p99": p99 });
        Outcome {
            connect: json!({ "connect": { "first_job_us": { "p99": 1 }, "wanted": 1, "ready": 1 } }),
            shares: json!({
                "shares": { "seconds": 2, "answer_us": answer },
                "server": { "cpu_us": 1_000_000, "grown_bytes": 0 },
            }),
            ..Outcome::default()
        }
    }

    fn round(alone: f64, attacked: f64) -> Round {
        let pace = Pace { tried: 8.0, begun: 7.0, bytes: 0.0, refused: 0.0 };
        Round { alone: outcome(alone), attacked: outcome(attacked), pace }
    }

    #[test]
    fn the_median_round_counts_and_a_slowdown_is_not_in_our_favour() {
        let rounds = vec![round(100.0, 150.0), round(10.0, 900.0), round(200.0, 200.0)];
        let (rows, summary) = rows(&super::super::ATTACKS[..1], &[rounds]).unwrap();
        assert_eq!((rows[0].ours, rows[0].theirs, rows[0].ratio), (200.0, Some(100.0), Some(1.0 / 1.5)));
        assert_eq!((rows[3].ours, rows[3].ratio), (0.0, None));
        assert_eq!((rows[4].ours, &*rows[4].unit), (50.0, "% of a core"));
        // Nothing stands beside what has not grown.
        assert_eq!(rows[5].ratio, None);
        assert_eq!(rows.last().unwrap().ours, 7.0);
        assert_eq!(summary, "honest p99 100 us alone; V1 garbage 200 us (1.50x)");
    }

    #[test]
    fn a_figure_that_is_missing_is_an_error() {
        let nothing = Round { alone: Outcome::default(), ..round(1.0, 1.0) };
        assert!(rows(&super::super::ATTACKS[..1], &[vec![nothing]]).is_err());
    }
}
