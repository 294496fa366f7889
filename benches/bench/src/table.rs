//! The README's table, from the reports that were stored.

use crate::report::{Report, figure, times};
use anyhow::Context;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The table stands between these two lines.
const BEGIN: &str = "<!-- bench:begin -->";
const END: &str = "<!-- bench:end -->";

/// Replaces the table in a document by one of the headline rows of the reports in a folder. Reports named in `order`
/// come first; what was not measured is left out.
///
/// # Errors
/// There is no report, a file of the folder is none, or the document has no place for the table.
pub fn write(document: &Path, folder: &Path, order: &[&str]) -> anyhow::Result<()> {
    let reports = load(folder, order)?;
    anyhow::ensure!(!reports.is_empty(), "{} holds no report: run benches/run first", folder.display());
    let text = fs::read_to_string(document).with_context(|| format!("cannot read {}", document.display()))?;
    let text = replace(&text, &markdown(&reports))
        .with_context(|| format!("{} has no lines {BEGIN} and {END}", document.display()))?;
    fs::write(document, text).with_context(|| format!("cannot write {}", document.display()))
}

fn load(folder: &Path, order: &[&str]) -> anyhow::Result<Vec<Report>> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut reports = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            reports.push(Report::load(&path)?);
        }
    }
    let place = |report: &Report| order.iter().position(|name| *name == report.name).unwrap_or(order.len());
    reports.sort_by_key(|report| (place(report), report.name.clone()));
    Ok(reports)
}

/// Puts `table` between the marks; `None` if they are not there, one behind the other.
fn replace(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, behind) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{behind}"))
}

fn markdown(reports: &[Report]) -> String {
    let mut table = String::from("| | ours | beside | ratio |\n|---|---|---|---|\n");
    let mut add = |line: std::fmt::Arguments<'_>| {
        table.write_fmt(line).expect("writing to a String does not fail");
    };
    let headlines = reports.iter().flat_map(|report| &report.rows).filter(|row| row.headline);
    for row in headlines {
        let beside = match (&row.peer, row.theirs) {
            (Some(peer), Some(theirs)) => format!("{} ({peer})", figure(theirs)),
            _ => String::new(),
        };
        let ratio = row.ratio.map_or_else(String::new, times);
        add(format_args!("| {} | {} {} | {beside} | {ratio} |\n", row.what, figure(row.ours), row.unit));
    }
    add(format_args!("\n"));
    for (at, line) in places(reports).into_iter().enumerate() {
        add(format_args!("{}{line}\n", if at == 0 { "Measured " } else { "and " }));
    }
    add(format_args!(
        "A ratio above 1 is in our favour. To repeat it: `./benches/run`, then `target/release/bench table`.\n"
    ));
    table
}

/// The machines and dates, each once, with the benchmarks if there is more than one.
fn places(reports: &[Report]) -> Vec<String> {
    let mut places: Vec<(String, Vec<&str>)> = Vec::new();
    for report in reports {
        let machine = &report.machine;
        let place = format!(
            "on {} of an {} (Linux {}) on {}",
            if machine.cores == 1 { "1 core".to_owned() } else { format!("{} cores", machine.cores) },
            machine.cpu,
            machine.kernel,
            date(report.unix_s)
        );
        match places.iter_mut().find(|(known, _)| *known == place) {
            Some((_, names)) => names.push(&report.name),
            None => places.push((place, vec![&report.name])),
        }
    }
    let single = places.len() == 1;
    let line = |(place, names): (String, Vec<&str>)| {
        if single { format!("{place}.") } else { format!("{place} ({}).", names.join(", ")) }
    };
    places.into_iter().map(line).collect()
}

/// Year, month and day in UTC, as ISO 8601 writes them.
fn date(unix_s: u64) -> String {
    // Years begin in March here, so that the leap day is the last one; 400 of them have 146,097 days.
    let days = unix_s / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + later)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use crate::report::Row;

    fn report(name: &str, unix_s: u64) -> Report {
        let machine = Machine { cpu: "A CPU".to_owned(), cores: 2, kernel: "6.1".to_owned() };
        let rows = vec![
            Row::new(format!("{name} shown"), "us", 1.5).beside("them", 3.0, 2.0).headline(),
            Row::new(format!("{name} not shown"), "us", 9.0),
        ];
        Report { name: name.to_owned(), machine, unix_s, rows, summary: String::new() }
    }

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let text = format!("# Title\n\n{BEGIN}\nold\nold\n{END}\n\nbehind\n");
        let new = replace(&text, "new\n").unwrap();
        assert_eq!(new, format!("# Title\n\n{BEGIN}\nnew\n{END}\n\nbehind\n"));
        assert_eq!(replace(&new, "new\n").unwrap(), new);
    }

    #[test]
    fn a_document_without_both_marks_in_order_is_left_alone() {
        for text in ["", BEGIN, END, &format!("{END}\n{BEGIN}")] {
            assert_eq!(replace(text, "new"), None);
        }
    }

    #[test]
    fn headline_rows_are_shown_in_the_given_order_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["zeta", "alpha", "fleet"] {
            report(name, 1_790_000_000).store(folder.path()).unwrap();
        }
        let document = folder.path().join("README.md");
        fs::write(&document, format!("{BEGIN}\n{END}\n")).unwrap();
        write(&document, folder.path(), &["missing", "zeta", "alpha"]).unwrap();
        let text = fs::read_to_string(&document).unwrap();
        let at = |what: &str| text.find(what).unwrap();
        assert!(at("zeta shown") < at("alpha shown") && at("alpha shown") < at("fleet shown"));
        assert!(!text.contains("not shown") && !text.contains("missing"));
        assert!(text.contains("| zeta shown | 1.50 us | 3.00 (them) | 2.00x |"));
        assert!(text.contains("Measured on 2 cores of an A CPU (Linux 6.1) on 2026-09-21.\n"));
    }

    #[test]
    fn reports_of_different_days_say_which_is_which() {
        let text = markdown(&[report("a", 0), report("b", 86_400)]);
        assert!(text.contains("on 1970-01-01 (a).\nand on 2 cores"), "{text}");
    }

    #[test]
    fn without_reports_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let document = folder.path().join("README.md");
        fs::write(&document, format!("{BEGIN}\nold\n{END}\n")).unwrap();
        assert!(write(&document, &folder.path().join("none"), &[]).is_err());
        assert!(fs::read_to_string(&document).unwrap().contains("old"));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix_s, text) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_735_689_599, "2024-12-31"),
            (1_735_689_600, "2025-01-01"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(unix_s), text);
        }
    }
}
