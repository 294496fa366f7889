//! What a benchmark has found: a table for people, and the same as JSON.

use serde::Serialize;
use std::fmt::{self, Display};
use std::path::Path;

/// One figure, and a peer's from the same run.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// In what.
    pub unit: &'static str,
    /// Our figure.
    pub ours: f64,
    /// Whom it stands beside.
    pub peer: Option<String>,
    /// The peer's figure.
    pub theirs: Option<f64>,
    /// Ours over theirs.
    pub ratio: Option<f64>,
}

impl Row {
    /// A figure of ours beside a peer's, if there is one.
    pub fn beside(
        what: impl Into<String>,
        unit: &'static str,
        ours: f64,
        peer: &str,
        theirs: Option<f64>,
    ) -> Self {
        let ratio = theirs.filter(|theirs| *theirs != 0.0).map(|theirs| ours / theirs);
        Self { what: what.into(), unit, ours, peer: theirs.map(|_| peer.to_owned()), theirs, ratio }
    }
}

/// All of a benchmark.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The benchmark's.
    pub name: &'static str,
    /// In the order in which they are shown.
    pub rows: Vec<Row>,
    /// One line.
    pub summary: String,
}

impl Report {
    /// Writes NAME.json into a folder.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(format!("{}.json", self.name)), serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0);
        for Row { what, unit, ours, peer, theirs, ratio } in &self.rows {
            write!(f, "{what:width$}  {:>11} {unit:8}", figure(*ours))?;
            if let (Some(peer), Some(theirs)) = (peer, theirs) {
                write!(f, "  {peer} {:>11}", figure(*theirs))?;
            }
            if let Some(ratio) = ratio {
                write!(f, "  x {ratio:.2}")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "{}", self.summary)
    }
}

/// As many digits as say something.
fn figure(value: f64) -> String {
    match value.abs() {
        ..10.0 => format!("{value:.2}"),
        ..1_000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
