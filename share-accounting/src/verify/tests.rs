//! Lies are caught, each by its name, and no honest history is called a lie.

mod history;
mod light;
mod lives;
mod moves;
mod payouts;
mod recalled;
mod receipted;
mod restored;
mod settlements;
mod shares;

use self::history::{Crook, History, POT, Planned, honest, params};
use super::*;
use crate::entry::{ChainEntry, ChainEvent};
use crate::entry::{PlanEntry, Settlement, Share};
use crate::testing::{SIGNERS, script};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf, TxOut};
use proptest::prelude::*;
use std::convert::Infallible;
use stratum::class::SizeClass;
use stratum::job::TemplateId;
use stratum::pot::Pot;
use stratum::share::NTIME_AHEAD_MAX_S;

/// 65,536 hashes a share: what is altered meets that by chance once in so many. Each is a block.
const HARD: i8 = -16;

fn audited(entries: &[Entry]) -> Report {
    audited_with(Seen::default(), entries)
}

fn audited_with(seen: Seen, entries: &[Entry]) -> Report {
    let read = || Ok::<_, Infallible>((0..).zip(entries).map(|(index, entry)| Ok((index, entry.clone()))));
    let Ok(report) = audit_with(seen, Network::Regtest, None, read);
    report
}

/// What a log and a chain show together, in words.
fn lies_in(history: History) -> Vec<String> {
    let chain = history.in_chain();
    let report = audited(&history.entries());
    report.findings.iter().chain(&report.paid_twice(&chain)).map(ToString::to_string).collect()
}

/// What is found in a log, in words.
fn lies(entries: &[Entry]) -> Vec<String> {
    audited(entries).findings.iter().map(ToString::to_string).collect()
}

/// That one lie alone is found, named so.
fn assert_lie(entries: &[Entry], index: usize, words: &str) {
    let found = lies(entries);
    let named = found.iter().any(|lie| lie.starts_with(&format!("entry {index}: ")) && lie.contains(words));
    assert!(named && found.len() == 1, "{words}: {found:#?}");
}

/// A pool that starts alone and then pays a window: `shares` shares of three payees on jobs of a crook, or of none.
fn lived(shares: usize, crook: &Crook) -> History {
    let mut history = History::new(params(12));
    let solo = history.plan(1, &honest());
    history.mine(&solo, 1, POT);
    let mut job = history.plan(1, &honest());
    for n in 0..shares {
        let to = 1 + (n % 3) as u8;
        if history.mine(&job, to, POT) || n % 5 == 4 {
            let honest = honest();
            job = history.plan(to, if n + 8 < shares { &honest } else { crook });
        }
    }
    history.mine(&job, 2, HARD);
    history
}

fn shares(entries: &[Entry]) -> Vec<usize> {
    (0..entries.len()).filter(|at| matches!(entries[*at], Entry::Share(_))).collect()
}

fn share(entries: &mut [Entry], at: usize) -> &mut Share {
    let Entry::Share(share) = &mut entries[at] else { panic!("entry {at} is no share") };
    share
}

/// A liar who knows how to add.
fn resum(entries: &mut [Entry]) {
    let mut sum = 0;
    for entry in entries {
        if let Entry::Share(share) = entry {
            sum += share.credited_work().0;
            share.total_work = Work(sum);
        }
    }
}

/// An honest log, and its last share, one of [`HARD`].
fn honest_log() -> (Vec<Entry>, usize) {
    let entries = lived(20, &honest()).entries();
    assert_eq!(lies(&entries), [""; 0]);
    let last = *shares(&entries).last().unwrap();
    (entries, last)
}

/// The first job that a crook has made: what he lies about there, all later ones repeat.
fn assert_crooked(crook: &Crook, words: &str) {
    let found = lies(&lived(30, crook).entries());
    assert!(!found.is_empty() && found.iter().all(|lie| lie.contains(words)), "{words}: {found:#?}");
}
