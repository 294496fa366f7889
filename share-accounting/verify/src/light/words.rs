//! The answer, for people and for programs.

use crate::cosigned::Witnessed;
use crate::receipts::Checked;
use crate::words::{NEVER_PROVEN, list};
use bitcoin::hex::DisplayHex;
use serde_json::{Value, json};
use share_accounting::publish::Head;
use share_accounting::verify::light::{LightReport, MISSED};

/// What takes the whole log.
const NOT_LIGHT: &[&str] = &[
    "that the sums of credited work go back nowhere, as they could to hide work that was made up: they were added up in the \
     bundles that were fetched (without --light it is proven)",
    "what any job pays: outputs, windows, what is owed and settled, and what jobs commit to (without --light it is proven)",
    "that no share is credited twice, too late or on an old block: the samples alone were held against each other",
    "what has become of the blocks, and that the difficulty that jobs name is that of the chain",
    "that as many witnesses see this log as its rules want: its rules were not looked for (without --light they are)",
    "that a payee index stands for one payee only: the entries that register those of the samples are in the log, but \
     others may be",
];

/// All there is to say.
pub struct LightAnswer<'a> {
    pub head: Head,
    /// The head that this one was found to go on from.
    pub seen: Option<Head>,
    pub report: &'a LightReport,
    pub receipts: &'a Checked,
    pub witnessed: &'a Witnessed,
    pub fetched_bytes: u64,
}

impl LightAnswer<'_> {
    /// Whether nothing is wrong.
    pub fn is_honest(&self) -> bool {
        self.report.is_honest() && self.receipts.dropped.is_empty()
    }

    /// Whether all that was drawn could be checked, too.
    pub fn is_proven(&self) -> bool {
        self.is_honest() && self.report.is_proven() && self.witnessed.is_enough()
    }

    /// The least part of the work that is real, in percent, rounded down to what is shown.
    fn real_percent(&self) -> f64 {
        (self.report.real_part() * 1_000.0).floor() / 10.0
    }

    /// What was found about each entry.
    fn lies(&self) -> impl Iterator<Item = (u64, String)> {
        let dropped = self.receipts.dropped.iter().map(|dropped| (dropped.index, dropped.to_string()));
        dropped.chain(self.report.findings.iter().map(|finding| (finding.index, finding.lie.to_string())))
    }

    fn proven(&self) -> Vec<String> {
        let LightReport { total_work, samples, shares, bundles, .. } = self.report;
        let Head { size, root } = self.head;
        let mut proven = vec![format!(
            "the pool has signed a head of {size} entries, and their Merkle root is {}; all that was fetched is under it",
            root.to_lower_hex_string()
        )];
        if let Some(seen) = self.seen {
            proven
                .push(format!("they begin with the {} entries of the head that was seen before", seen.size));
        }
        if *total_work == 0 {
            proven.push("no work is credited yet".to_owned());
        } else if self.report.is_proven() {
            proven.push(format!(
                "with {samples} samples, at least {:.1} % of the credited work is real with {:.0} % probability, if its sums go back nowhere: {shares} \
                 shares were hashed again, each done for the payee and the difficulty that it is booked at",
                self.real_percent(),
                (1.0 - MISSED) * 100.0
            ));
        }
        proven.push(format!(
            "sums of credited work add up wherever they were looked at, in {bundles} bundles of entries"
        ));
        if self.receipts.included > 0 {
            let included = self.receipts.included;
            let work = if self.report.is_proven() { ", and their shares are real work" } else { "" };
            proven.push(format!("the entries of {included} receipts are in the log{work}"));
        }
        proven.extend(self.witnessed.said());
        proven
    }

    fn unproven(&self) -> Vec<String> {
        let mut unproven: Vec<_> = self.witnessed.lacking().into_iter().collect();
        if self.report.not_hashed > 0 {
            unproven.push(format!(
                "that {} shares that were drawn are real work: their payees were not checked, for the server does not tell \
                 who they are (payee/INDEX), as one that has the files alone cannot",
                self.report.not_hashed
            ));
        }
        unproven.extend(NOT_LIGHT.iter().chain(NEVER_PROVEN).map(|text| (*text).to_owned()));
        unproven
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if self.is_honest() {
            let title = if self.is_proven() { "proven:" } else { "not all could be checked; proven so far:" };
            list(&mut text, title, &self.proven());
            list(&mut text, "not proven:", &self.unproven());
        } else {
            let lies: Vec<_> = self.lies().map(|(entry, words)| format!("entry {entry}: {words}")).collect();
            list(&mut text, &format!("{} things are wrong:", lies.len()), &lies);
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> String {
        let report = self.report;
        let lies = self.lies().map(|(entry, what)| json!({"entry": entry, "what": what}));
        let answer = json!({
            "proven": self.is_proven(),
            "light": true,
            "entries": self.head.size,
            "root": self.head.root.to_lower_hex_string(),
            "goes_on_from_entries": self.seen.map(|seen| seen.size),
            "total_work": report.total_work.to_string(),
            "samples": report.samples,
            "shares": report.shares,
            "not_hashed": report.not_hashed,
            "real_percent_at_least": report.is_proven().then(|| self.real_percent()),
            "with_percent": (1.0 - MISSED) * 100.0,
            "bundles": report.bundles,
            "fetched_bytes": self.fetched_bytes,
            "cosigned": self.witnessed.json(),
            "receipts_included": self.receipts.included,
            "lies_total": self.lies().count(),
            "lies": lies.collect::<Value>(),
            "not_proven": self.unproven(),
        });
        format!("{answer:#}\n")
    }
}
