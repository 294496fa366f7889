//! What a benchmark found: rows for people and for machines.
//!
//! A benchmark makes a [`Report`] of [`Row`]s; `main` prints and stores it. Rows marked by [`Row::headline`] go into
//! the table of the README.

use crate::machine::Machine;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// Where reports are stored, below the folder that the program is run in.
pub const FOLDER: &str = "target/bench";

/// All that one benchmark found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The benchmark.
    pub name: String,
    /// Where it ran.
    pub machine: Machine,
    /// When it ended.
    pub unix_s: u64,
    /// The figures.
    pub rows: Vec<Row>,
    /// The gist in a line, without the benchmark's name.
    pub summary: String,
}

/// One figure of ours, perhaps with another's beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Unit of both figures.
    pub unit: String,
    /// Our figure.
    pub ours: f64,
    /// What the other figure is of.
    pub peer: Option<String>,
    /// The other figure.
    pub theirs: Option<f64>,
    /// How many times better ours is: above 1 we are ahead, whether more or less of the unit is better.
    pub ratio: Option<f64>,
    /// Whether it goes into the README.
    #[serde(default)]
    pub headline: bool,
}

impl Row {
    /// A figure with nothing beside it.
    pub fn new(what: impl Into<String>, unit: &str, ours: f64) -> Self {
        let (what, unit) = (what.into(), unit.to_owned());
        Self { what, unit, ours, peer: None, theirs: None, ratio: None, headline: false }
    }

    /// Puts a figure beside it. `ratio` as in [`Row::ratio`].
    pub fn beside(self, peer: &str, theirs: f64, ratio: f64) -> Self {
        Self { peer: Some(peer.to_owned()), theirs: Some(theirs), ratio: Some(ratio), ..self }
    }

    /// Marks it for the README.
    pub fn headline(self) -> Self {
        Self { headline: true, ..self }
    }
}

impl Report {
    /// The report of a benchmark that has just ended here.
    pub fn new(name: &str, rows: Vec<Row>, summary: String) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { name: name.to_owned(), machine: Machine::here(), unix_s: since.as_secs(), rows, summary }
    }

    /// Stores it as `NAME.json`.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn store(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let path = folder.join(format!("{}.json", self.name));
        let json = serde_json::to_string_pretty(self)? + "\n";
        fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads a stored report.
    ///
    /// # Errors
    /// It is not there, or no report.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let json = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&json).with_context(|| format!("{} is no report", path.display()))
    }

    /// The table for people, and the summary as its last line.
    pub fn text(&self) -> String {
        let head = ["", "ours", "theirs", "ratio", "unit", "beside"].map(str::to_owned);
        let cells = self.rows.iter().map(|row| {
            let optional = |value: Option<f64>| value.map_or_else(String::new, figure);
            let ratio = row.ratio.map_or_else(String::new, times);
            let peer = row.peer.clone().unwrap_or_default();
            [row.what.clone(), figure(row.ours), optional(row.theirs), ratio, row.unit.clone(), peer]
        });
        let lines: Vec<[String; 6]> = [head].into_iter().chain(cells).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
        let widths: [usize; 6] = std::array::from_fn(width);
        let mut text = String::new();
        for [what, ours, theirs, ratio, unit, peer] in &lines {
            let [w, o, t, r, u, _] = widths;
            let line = format!("{what:w$}  {ours:>o$}  {theirs:>t$}  {ratio:>r$}  {unit:u$}  {peer}");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text + &format!("{}: {}", self.name, self.summary)
    }
}

/// A ratio as it is shown.
pub fn times(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.2}x") } else { format!("{ratio:.1}x") }
}

/// A number of things as it is shown: thousands apart.
pub fn count(things: usize) -> String {
    grouped(&things.to_string())
}

/// A figure as it is shown: three digits that count, thousands apart.
pub fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        size if size < 0.9995 => 3,
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.find('.').map_or((&text[..], ""), |dot| text.split_at(dot));
    grouped(whole) + rest
}

fn grouped(digits: &str) -> String {
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        let left = digits.len() - at;
        if left.is_multiple_of(3) && grouped.ends_with(|before: char| before.is_ascii_digit()) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let rows = vec![
            Row::new("a share", "us", 1.234).beside("them", 2.468, 2.0).headline(),
            Row::new("shares", "shares/s", 1_234_567.8),
        ];
        Report { unix_s: 1_790_000_000, ..Report::new("sample", rows, "all is well".to_owned()) }
    }

    #[test]
    fn a_report_is_read_as_it_was_stored() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new");
        report().store(&folder).unwrap();
        assert_eq!(Report::load(&folder.join("sample.json")).unwrap(), report());
        assert!(Report::load(&folder.join("other.json")).is_err());
    }

    #[test]
    fn the_json_has_the_fields_that_others_read() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["name"], "sample");
        assert_eq!(json["unix_s"], 1_790_000_000);
        assert!(json["machine"]["cpu"].is_string() && json["machine"]["cores"].is_number());
        assert!(json["machine"]["kernel"].is_string());
        assert_eq!(json["rows"][0]["peer"], "them");
        assert_eq!(json["rows"][0]["ratio"], 2.0);
        assert!(json["rows"][1]["theirs"].is_null() && json["rows"][1]["peer"].is_null());
    }

    #[test]
    fn a_report_without_marks_is_read_too() {
        let json = r#"{"what":"w","unit":"us","ours":1.0,"peer":null,"theirs":null,"ratio":null}"#;
        assert_eq!(serde_json::from_str::<Row>(json).unwrap(), Row::new("w", "us", 1.0));
    }

    #[test]
    fn the_text_ends_with_the_summary() {
        let text = report().text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[1].contains("1.23") && lines[1].contains("2.00x") && lines[1].ends_with("them"));
        assert_eq!(lines[3], "sample: all is well");
    }

    #[test]
    fn figures_keep_three_digits_and_group_thousands() {
        for (value, text) in [
            (0.0, "0"),
            (0.1234, "0.123"),
            (0.9999, "1.00"),
            (1.0, "1.00"),
            (99.99, "100"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1_234.0, "1,234"),
            (1_234_567.0, "1,234,567"),
            (-1_234.0, "-1,234"),
            (-123.0, "-123"),
        ] {
            assert_eq!(figure(value), text);
        }
        assert_eq!([1, 999, 1_000, 31_150].map(count), ["1", "999", "1,000", "31,150"]);
    }
}
