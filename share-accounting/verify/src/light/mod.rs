//! A published log checked by samples: what they need is fetched, and kept nowhere but for the signed head.
//!
//! - [`words`]: the answer

mod words;

use crate::cli::PublishedArgs;
use crate::cosigned::{self, Asked};
use crate::fetch::{check_address, fetch, fetch_if_there};
use crate::holder::Holder;
use crate::kept::{Kept, SignedLie, old_head};
use crate::progress::Bar;
use crate::receipts;
use crate::{Verdict, light::words::LightAnswer};
use anyhow::{Context, anyhow};
use share_accounting::entry::Entry;
use share_accounting::publish::Head;
use share_accounting::publish::receipt::Receipts;
use share_accounting::publish::tiles::Place;
use share_accounting::tree::TreeHash;
use share_accounting::verify::light::{Light, LightError, SignedLog};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Fetches the head and what samples of the log under it need, checks them, and says what that proves.
///
/// # Errors
/// [`SignedLie`], or what could not be had.
pub fn check(args: &PublishedArgs, url: &str, receipts: Vec<PathBuf>) -> anyhow::Result<Verdict> {
    let verifier = &args.key;
    check_address(url)?;
    let kept = Kept::new(&args.dir);
    let seen = kept.seen(verifier)?.map(|(head, _)| head);
    // Before the newest head: the log under that goes on from it.
    let cosigned = fetch_if_there(url, "cosigned");
    let note = fetch(url, "checkpoint")?;
    let (head, _) = verifier.head(&note).with_context(|| format!("{url}/checkpoint"))?;
    let file = |place: &Place| fetch(url, &place.path());
    let log = SignedLog::new(head, &file).map_err(failed)?;
    match seen {
        Some(seen) if seen.size > head.size => return Err(judge_older(&kept, &seen, &log, &note)),
        Some(seen) if log.root(seen.size).map_err(failed)? != seen.root => {
            return Err(kept.two_logs(seen.size, &note)?.into());
        }
        _ => kept.keep(&note)?,
    }
    let registration = |payee| registration(url, payee);
    let mut light = Light::new(&log, &registration).map_err(failed)?;
    // What is drawn can be known to nobody before the head is signed.
    let drawn = light.draw(args.samples, &mut rand::rng());
    let mut bar = Bar::new("sampling", "shares", u64::from(args.samples));
    for (nth, number) in (0..).zip(drawn) {
        bar.is_at(nth);
        light.sample(number).map_err(failed)?;
    }
    drop(bar);
    let mut held = Held { dir: &args.dir, log: &log, light };
    let receipts = receipts::check(receipts, &mut held, verifier)?;
    let asked = Asked { rules: None, wanted: &args.witnesses };
    let witnessed = cosigned::check(&args.dir, Some(cosigned), &held, verifier, &asked)?;
    let report = held.light.finish();
    let fetched_bytes = log.fetched_bytes();
    let answer = LightAnswer {
        head,
        seen,
        report: &report,
        receipts: &receipts,
        witnessed: &witnessed,
        fetched_bytes,
    };
    let text = if args.common.json { answer.json() } else { answer.text() };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(match (answer.is_honest(), answer.is_proven()) {
        (false, _) => Verdict::Lie,
        (true, false) => Verdict::Unchecked,
        (true, true) => Verdict::Proven,
    })
}

/// A head that is smaller than the one that was seen is an old one, or of another log.
fn judge_older(kept: &Kept, seen: &Head, shown: &SignedLog<'_, anyhow::Error>, note: &[u8]) -> anyhow::Error {
    let shown_head = shown.head();
    match shown.under(*seen).and_then(|log| log.root(shown_head.size)) {
        Ok(root) if root == shown_head.root => old_head(&shown_head, seen),
        Ok(_) => kept.two_logs(shown_head.size, note).map_or_else(|error| error, Into::into),
        Err(error) => failed(error).context(format!(
            "a head of {} entries is shown, although there were {} before, and whether it is of the same log cannot be told",
            shown_head.size, seen.size
        )),
    }
}

/// The entry that registers a payee, as the pool names it; a server of files alone knows none.
fn registration(url: &str, payee: u32) -> anyhow::Result<Option<u64>> {
    let path = format!("payee/{payee}");
    let Some(answer) = fetch_if_there(url, &path)? else { return Ok(None) };
    let answer: Receipts = serde_json::from_slice(&answer).with_context(|| format!("{url}/{path}"))?;
    let receipt = answer.receipts.first().with_context(|| format!("{url}/{path} names no entry"))?;
    Ok(Some(receipt.index))
}

fn failed(error: LightError<anyhow::Error>) -> anyhow::Error {
    match error {
        LightError::Fetch(error) => error,
        LightError::NoEntry { index, what } => SignedLie::NoEntry { index, what: what.to_string() }.into(),
        other => anyhow!("{other}"),
    }
}

/// The log for receipts: shares that it holds are hashed, too.
struct Held<'a> {
    dir: &'a Path,
    log: &'a SignedLog<'a, anyhow::Error>,
    light: Light<'a, anyhow::Error>,
}

impl Holder for Held<'_> {
    fn size(&self) -> u64 {
        self.log.head().size
    }

    fn holds(&mut self, index: u64, entry: &[u8]) -> anyhow::Result<bool> {
        if !self.log.holds(index, entry).map_err(failed)? {
            return Ok(false);
        }
        if let Ok((Entry::Share(share), _)) = Entry::decode(entry) {
            self.light.hold(index, share).map_err(failed)?;
        }
        Ok(true)
    }

    fn roots(&self, sizes: &BTreeSet<u64>) -> anyhow::Result<BTreeMap<u64, TreeHash>> {
        sizes.iter().map(|size| Ok((*size, self.log.root(*size).map_err(failed)?))).collect()
    }

    fn kept_at(&self) -> anyhow::Result<SystemTime> {
        Ok(SystemTime::now())
    }

    fn cosigned(&self) -> Option<Vec<u8>> {
        fs::read(self.dir.join("cosigned")).ok()
    }
}
