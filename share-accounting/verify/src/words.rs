//! The answer, for people and for programs.

use crate::chain::{Chain, Fate, State};
use crate::cosigned::Witnessed;
use crate::custody::{Custody, Held};
use crate::journal::Journalled;
use crate::receipts::Checked;
use bitcoin::hex::DisplayHex;
use serde_json::{Value, json};
use share_accounting::verify::Report;
use std::fmt::Write;

/// What happens by chance so seldom is worth a word.
const UNLIKELY: f64 = 1e-6;

/// What no log can show of itself.
pub const NEVER_PROVEN: &[&str] = &[
    "that no acknowledged share is missing: only its miner's receipts or its proxy's journal can show one",
    "that nobody was shown another log: compare the root with what others were shown",
    "the order of shares within one commit, and the times that the pool wrote beside them",
    "that payees are different people, and what was paid to anybody outside the coinbase",
    "that all miners got new work at the same time, and the same transactions in it",
    "which shares were refused: only a proxy's journal shows them",
    "that the pool has noted each new tip, on which it depends what is too late",
    "that what is owed will be paid: the holder of the reserve's key must sign for it",
];

/// Adds lines below a title.
pub fn list(text: &mut String, title: &str, lines: &[String]) {
    let _ = writeln!(text, "{title}");
    for line in lines {
        let _ = writeln!(text, "  - {line}");
    }
}

/// For programs, where no audit came to its end.
pub fn json_of_failure(words: &str, is_lie: bool) -> Value {
    let lies: Vec<_> = is_lie.then(|| json!({"entry": null, "what": words})).into_iter().collect();
    let trouble = (!is_lie).then_some(words);
    json!({"proven": false, "lies_total": lies.len(), "lies": lies, "could_not_check": trouble})
}

/// All there is to say.
pub struct Answer<'a> {
    pub report: &'a Report,
    /// What a node says, if one was asked.
    pub chain: Option<&'a Chain>,
    /// What others know of a log that has signed heads.
    pub promised: Option<&'a Promised>,
}

/// What miners were promised of a log, and what witnesses say of it.
#[derive(Debug, Default)]
pub struct Promised {
    pub receipts: Checked,
    pub journal: Journalled,
    pub witnessed: Witnessed,
}

/// What else is not proven, of this log.
fn unproven(report: &Report, fates: Option<&[Fate]>) -> Vec<String> {
    let mut unproven: Vec<String> = NEVER_PROVEN.iter().map(|text| (*text).to_owned()).collect();
    if report.jobs_left_out > 0 {
        let jobs = report.jobs_left_out;
        unproven.push(format!(
            "payouts of {jobs} jobs but for what follows from the window: they build on a pool block whose share is not in the log"
        ));
    }
    if report.jobs_of_unknown_age > 0 {
        let jobs = report.jobs_of_unknown_age;
        unproven.push(format!(
            "that {jobs} jobs pay the newest window there was: the log does not say when they were made"
        ));
    }
    if report.not_hashed > 0 {
        let shares = report.not_hashed;
        unproven.push(format!(
            "{shares} late shares without credit, whose jobs are long gone: they weigh nothing"
        ));
    }
    if !report.moves.is_empty() && report.moves_of_any_log {
        unproven.push(
            "that payees have signed for this log that they move: its name does not say its id".to_owned(),
        );
    }
    if report.settlements_left_out > 0 {
        let settlements = report.settlements_left_out;
        unproven.push(format!(
            "{settlements} settlements: they start from a pool block whose share is not in the log"
        ));
    }
    let settlements = report.may_be_paid();
    if fates.is_none() && settlements > 0 {
        unproven.push(format!(
            "that none of {settlements} settlements, whatever the log says of them, has paid, or will, what a block of the chain \
             has paid, too: which blocks are in it only a node can tell, or its block files"
        ));
    }
    match fates {
        None => unproven.push(
            "what has become of the blocks, and that each job goes by what is owed, and by the difficulty, on the chain that \
             it builds on: no node was named (--rpc and --cookie-file, or --blocks)"
                .to_owned(),
        ),
        Some(fates) => {
            unproven.extend(fates.iter().filter_map(|Fate { entry, hash, state }| {
                let why = match state {
                    State::InChain { .. } | State::Orphaned => return None,
                    State::Replaced => "the node knows only another one in its place",
                    State::Unknown => "the node does not know it",
                };
                Some(format!("that block {hash} of entry {entry} was handed in: {why}"))
            }));
        }
    }
    unproven
}

/// What the reserve holds, if a node could say.
fn held(custody: &Custody) -> Option<String> {
    let (paid, sats) = (custody.paid.len(), custody.held.sats()?);
    let Custody { not_paid, missing, unknown, .. } = custody;
    if paid == 0 && [not_paid, missing, unknown].into_iter().all(Vec::is_empty) {
        return Some(format!(
            "{sats} satoshis are put aside for those who are owed something, and are all there"
        ));
    }
    Some(format!(
        "{paid} settlements are in the node's best chain, and no block there has paid a credit of theirs, too; {sats} satoshis are put aside, and are all there but for those \
         that settlements spend"
    ))
}

/// What is proven if nothing is wrong.
fn proven(report: &Report, fates: Option<&[Fate]>) -> Vec<String> {
    let Report { entries, shares, credited, root, .. } = report;
    let jobs = report.jobs - report.jobs_left_out;
    let of_known_age = report.jobs - report.jobs_of_unknown_age;
    let mut proven = vec![
        format!("the log has {entries} entries, and their Merkle root is {}", root.to_lower_hex_string()),
        format!(
            "each of {shares} shares is real work, done for the payee and the difficulty that it is booked at"
        ),
        format!(
            "{credited} of them earn, no header twice, none on a job that was replaced 130 s before or more"
        ),
        format!(
            "{jobs} jobs pay the window, the ledger and the rules that they name, to the satoshi, and commit to them"
        ),
        format!(
            "the windows of {of_known_age} jobs were not older than a quarter of an hour when they were made, as far as the \
             log notes when work was replaced"
        ),
    ];
    let moved = report.moves.len();
    if moved > 0 {
        proven.push(format!(
            "{moved} payees are paid to another address since, which the owner of the old one has signed"
        ));
    }
    if let Some(fates) = fates {
        let count = |of: fn(&State) -> bool| fates.iter().filter(|fate| of(&fate.state)).count();
        let in_chain = count(|state| matches!(state, State::InChain { .. }));
        let orphaned = count(|state| *state == State::Orphaned);
        proven.push(format!(
            "{in_chain} blocks that these shares solve are in the node's best chain, so they paid what their jobs say; \
             {orphaned} lost to others; each job that builds on that chain, but for those left out, goes by what was owed there, and by its difficulty where \
             that is certain"
        ));
    }
    proven
}

impl Promised {
    /// Promises that were kept.
    fn kept(&self, proven: &mut Vec<String>) {
        let (receipts, journal) = (self.receipts.included, self.journal.included);
        if receipts > 0 {
            proven.push(format!("the entries of {receipts} receipts are in the log"));
        }
        if journal > 0 {
            let new = self.journal.too_new;
            proven.push(format!(
                "{journal} shares that the journal calls acknowledged are in the log and earn; {new} are too new to be there"
            ));
        }
        proven.extend(self.witnessed.said());
    }

    /// Promises that were not.
    fn broken(&self) -> impl Iterator<Item = (Option<u64>, String)> {
        let missing = self.journal.missing.iter().map(|hash| {
            (None, format!("share {hash}, which the journal calls acknowledged, is not in the log"))
        });
        let uncredited = self.journal.uncredited.iter().map(|(entry, hash)| {
            (Some(*entry), format!("share {hash}, which the journal calls acknowledged, has no credit"))
        });
        missing.chain(uncredited)
    }
}

impl Witnessed {
    /// What they have said.
    pub fn said(&self) -> Option<String> {
        let Self { size, by, .. } = self;
        let names: Vec<_> = by.iter().map(|(name, unix_s)| format!("{name} at {unix_s}")).collect();
        (!by.is_empty()).then(|| {
            let names = names.join(", ");
            format!("witnesses have cosigned the head of {size} entries, and nothing behind it (Unix time): {names}")
        })
    }

    /// What is missing of them.
    pub fn lacking(&self) -> Option<String> {
        let Self { needed, of_the_rules, absent, trouble, .. } = self;
        let mut lacking = Vec::new();
        if let Some((needed, of)) = needed.filter(|(needed, _)| of_the_rules < needed) {
            lacking.push(format!(
                "{of_the_rules} of {of} that the rules name have cosigned a head of it within a day, {needed} have to"
            ));
        }
        if !absent.is_empty() {
            lacking.push(format!("{} have cosigned none within a day", absent.join(", ")));
        }
        (!lacking.is_empty()).then(|| {
            lacking.extend(trouble.clone());
            format!("that witnesses see this log: {}", lacking.join("; "))
        })
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let by = self.by.iter().map(|(name, unix_s)| json!({"witness": name, "unix_s": unix_s}));
        let (needed, of) = self.needed.unzip();
        json!({"entries": self.size, "by": by.collect::<Value>(), "needed": needed, "of": of})
    }
}

impl Answer<'_> {
    /// Whether nothing is wrong.
    pub fn is_honest(&self) -> bool {
        self.lies_total() == 0
    }

    /// Whether nothing had to be left out, too.
    pub fn is_proven(&self) -> bool {
        let is_known = match self.chain {
            Some(chain) => chain.custody.is_known(),
            None => self.report.may_be_paid() == 0,
        };
        // One that has lost is unknown to each node that did not hear of it in time.
        let has_unknown =
            self.fates().is_some_and(|fates| fates.iter().any(|fate| fate.state == State::Unknown));
        let is_witnessed = self.promised.is_none_or(|promised| promised.witnessed.is_enough());
        self.is_honest() && self.report.is_proven() && is_known && !has_unknown && is_witnessed
    }

    fn lies_total(&self) -> u64 {
        self.report.findings_total + self.others().count() as u64 // usize fits u64
    }

    /// Lies that the log does not show by itself, and their entries.
    fn others(&self) -> impl Iterator<Item = (Option<u64>, String)> {
        let dropped = self.promised.into_iter().flat_map(|promised| &promised.receipts.dropped);
        let wrong = self.chain.into_iter().flat_map(|chain| chain.wrong.iter().chain(&chain.custody.wrong));
        let dropped = dropped.map(|dropped| (Some(dropped.index), dropped.to_string()));
        let wrong = wrong.map(|(entry, words)| (Some(*entry), words.clone()));
        dropped.chain(wrong).chain(self.promised.into_iter().flat_map(Promised::broken))
    }

    fn fates(&self) -> Option<&[Fate]> {
        self.chain.map(|chain| &chain.fates[..])
    }

    fn proven(&self) -> Vec<String> {
        let mut proven = proven(self.report, self.fates());
        let settlements = self.report.settlements.all().len() as u64; // usize fits u64
        if settlements > self.report.settlements_left_out {
            let settlements = settlements - self.report.settlements_left_out;
            proven.push(format!(
                "{settlements} settlements take from the reserve what the rules give, for those to whom it was owed \
                 behind the block that they name"
            ));
        }
        proven.extend(self.chain.map(|chain| &chain.custody).and_then(held));
        if let Some(promised) = self.promised {
            proven.insert(1, "these entries are under the head that the pool has signed".to_owned());
            promised.kept(&mut proven);
        }
        proven
    }

    fn unproven(&self) -> Vec<String> {
        let mut unproven = unproven(self.report, self.fates());
        unproven.extend(self.promised.and_then(|promised| promised.witnessed.lacking()));
        if self.promised.is_none() {
            unproven.push(
                "that the pool stands by these entries: no head that it has signed was asked for".to_owned(),
            );
        }
        let Some(custody) = self.chain.map(|chain| &chain.custody) else { return unproven };
        for index in &custody.not_paid {
            unproven
                .push(format!("that the settlement of entry {index} is paid: it is not in the node's chain"));
        }
        for index in &custody.missing {
            unproven.push(format!(
                "that the settlement of entry {index} is paid, as the log says: it is not in the node's chain, and what it spends \
                 is there"
            ));
        }
        for index in &custody.unknown {
            unproven.push(format!(
                "that the settlement of entry {index} is paid: the node does not have the block that has spent its outputs"
            ));
        }
        if let Held::Behind(blocks) = custody.held {
            unproven.push(format!(
                "that the reserve is still there: the log ends {blocks} blocks before the node's tip, or on another chain"
            ));
        }
        unproven
    }

    fn hints(&self) -> Vec<String> {
        let Report { statistics, scripts, .. } = self.report;
        let evenness = statistics.evenness();
        let verdict =
            if evenness.chance < UNLIKELY { "they do not look like honest work" } else { "as they should" };
        let mut hints = vec![format!(
            "the hashes of {} shares lie below their targets with a distance of {:.5} from even, which chance exceeds with \
             {:.2e}: {verdict}",
            evenness.shares, evenness.distance, evenness.chance
        )];
        let late = statistics.payees.iter().map(|payee| payee.late).sum::<u64>();
        let all = late + statistics.payees.iter().map(|payee| payee.credited).sum::<u64>();
        hints.push(format!("{late} of {all} shares came too late"));
        for (payee, script) in statistics.payees.iter().zip(scripts) {
            let chance = payee.chance_of_so_few_blocks();
            // As many payees, as many chances.
            if chance * (statistics.payees.len() as f64) < UNLIKELY {
                hints.push(format!(
                    "script {script:x} has found {} blocks where {:.1} are to be expected, which happens by chance with \
                     {chance:.2e}: blocks may be kept back",
                    payee.blocks, payee.expected_blocks
                ));
            }
        }
        hints
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let report = self.report;
        if self.is_honest() {
            let title = if self.is_proven() { "proven:" } else { "not all could be checked; proven so far:" };
            list(&mut text, title, &self.proven());
            list(&mut text, "not proven:", &self.unproven());
            list(&mut text, "what chance says, which proves nothing:", &self.hints());
            return text;
        }
        let others = self.others().map(|(entry, words)| match entry {
            Some(entry) => format!("entry {entry}: {words}"),
            None => words,
        });
        let lies: Vec<_> = others.chain(report.findings.iter().map(ToString::to_string)).collect();
        let total = self.lies_total();
        list(&mut text, &format!("{total} things are wrong:"), &lies);
        if let Some(more) = total.checked_sub(lies.len() as u64).filter(|more| *more > 0) {
            let _ = writeln!(text, "  and {more} more");
        }
        text
    }

    fn settlements(&self) -> Value {
        let custody = self.chain.map(|chain| &chain.custody);
        let shown = self.report.settlements.all().iter().map(|(index, made)| {
            let block = custody.and_then(|custody| custody.paid.get(index)).map(|(_, block)| block.to_string());
            json!({"entry": index, "said": made.state.label(), "sats": made.settlement.total(), "in_chain_in": block})
        });
        shown.collect()
    }

    /// For programs.
    pub fn json(&self) -> String {
        let Self { report, promised, .. } = *self;
        let fates = self.fates();
        let found = report.findings.iter().map(|finding| (Some(finding.index), finding.lie.to_string()));
        let lies = self.others().chain(found).map(|(entry, what)| json!({"entry": entry, "what": what}));
        let answer = json!({
            "proven": self.is_proven(),
            "entries": report.entries,
            "root": report.root.to_lower_hex_string(),
            "shares": report.shares,
            "credited": report.credited,
            "total_work": report.total_work.to_string(),
            "jobs": report.jobs,
            "jobs_left_out": report.jobs_left_out,
            "jobs_of_unknown_age": report.jobs_of_unknown_age,
            "not_hashed": report.not_hashed,
            "receipts_included": promised.map(|promised| promised.receipts.included),
            "journal_included": promised.map(|promised| promised.journal.included),
            "cosigned": promised.map(|promised| promised.witnessed.json()),
            "blocks": report.blocks.iter().map(|(entry, hash)| block(*entry, &hash.to_string(), fates)).collect::<Value>(),
            "statistics": statistics(report),
            "lies_total": self.lies_total(),
            "lies": lies.collect::<Value>(),
            "settlements": self.settlements(),
            "payees_moved": report.moves.len(),
            "reserve_sats": self.chain.and_then(|chain| chain.custody.held.sats()),
            "not_proven": self.unproven(),
        });
        format!("{answer:#}\n")
    }
}

fn statistics(report: &Report) -> Value {
    let evenness = report.statistics.evenness();
    let payees = report.statistics.payees.iter().zip(&report.scripts).map(|(payee, script)| {
        json!({
            "script": script.to_hex_string(),
            "credited": payee.credited,
            "late": payee.late,
            "blocks": payee.blocks,
            "expected_blocks": payee.expected_blocks,
            "chance_of_so_few_blocks": payee.chance_of_so_few_blocks(),
        })
    });
    json!({
        "shares": evenness.shares,
        "distance_from_even": evenness.distance,
        "chance_of_more": evenness.chance,
        "payees": payees.collect::<Value>(),
    })
}

fn block(entry: u64, hash: &str, fates: Option<&[Fate]>) -> Value {
    let fate = fates.and_then(|fates| fates.iter().find(|fate| fate.entry == entry));
    let (state, height) = match fate.map(|fate| fate.state) {
        None => ("not asked", None),
        Some(State::InChain { height }) => ("in chain", Some(height)),
        Some(State::Orphaned) => ("orphaned", None),
        Some(State::Replaced) => ("unknown to the node, which has another in its place", None),
        Some(State::Unknown) => ("unknown to the node", None),
    };
    json!({"entry": entry, "hash": hash, "state": state, "height": height})
}
