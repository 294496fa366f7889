//! `sluice-verify`: recomputes what a pool's share log claims, and says what that proves and what it does not.
//!
//! - `cli`: what is asked; `progress`: how far it is; `chain`, `custody`: what a node says of the blocks, and of
//!   the reserve; `source`: by RPC, or by its block files; `words`: the answer
//! - `mirror`: a copy of a published log, by `fetch`, with its `hashes`, under the head that is `kept`; `receipts`: what miners were
//!   promised of it; `light`: samples of it, without a copy
//! - `journal`: what a proxy has written down of it; `cosigned`: what witnesses say of it; `witness`: to be one
//! - `export`, with the feature of that name: a log as a table, and read again from it
//!
//! The audit itself is `share_accounting::verify`. Exit code 0: proven; 1: a lie was found; 2: it could not be checked;
//! 64: wrong usage.
#![forbid(unsafe_code)]

mod chain;
mod cli;
mod cosigned;
mod custody;
#[cfg(feature = "export")]
pub mod export;
#[cfg(not(feature = "export"))]
#[path = "no_export.rs"]
mod export;
mod fetch;
mod hashes;
mod holder;
mod journal;
mod kept;
mod light;
mod mirror;
mod progress;
mod receipts;
mod source;
mod witness;
mod words;

use bitcoin::Network;
use clap::Parser;
use cli::{Cli, Command, Common, LogArgs, PublishedArgs};
use cosigned::Asked;
use export::Exported;
use journal::Journalled;
use kept::SignedLie;
use mirror::Mirror;
use progress::Shown;
use share_accounting::log::Reader;
use share_accounting::verify::{Report, audit};
use source::Source;
use std::io::Write;
use std::process::ExitCode;
use stratum_net::logging::chain;
use words::{Answer, Promised};

const EXIT_LIE: u8 = 1;
const EXIT_UNCHECKED: u8 = 2;
const EXIT_USAGE: u8 = 64;

/// Does what the command line asks for.
pub fn run() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        let code = if error.use_stderr() { i32::from(EXIT_USAGE) } else { 0 };
        let _ = error.print();
        std::process::exit(code)
    });
    let answered = match &cli.command {
        Command::Log(args) => check_log(args),
        Command::Published(args) => check_published(args),
        Command::Witness(args) => witness::run(args).map(|()| Verdict::Proven),
        #[cfg(feature = "export")]
        Command::Export(args) => export::export(args).map(|()| Verdict::Proven),
    };
    match answered {
        Ok(Verdict::Proven) => ExitCode::SUCCESS,
        Ok(Verdict::Unchecked) => ExitCode::from(EXIT_UNCHECKED),
        Ok(Verdict::Lie) => ExitCode::from(EXIT_LIE),
        Err(error) => failed(&error, cli.command.wants_json()),
    }
}

/// Says why there is no audit: without one, too, two signed heads can be a lie.
fn failed(error: &anyhow::Error, json: bool) -> ExitCode {
    let is_lie = error.is::<SignedLie>();
    let text = chain(error.as_ref());
    eprintln!("sluice-verify: {}: {text}", if is_lie { "a lie" } else { "could not check" });
    if json {
        let answer = words::json_of_failure(&text, is_lie);
        let _ = writeln!(std::io::stdout().lock(), "{answer:#}");
    }
    ExitCode::from(if is_lie { EXIT_LIE } else { EXIT_UNCHECKED })
}

enum Verdict {
    Proven,
    Unchecked,
    Lie,
}

/// Audits a pool's own files.
fn check_log(args: &LogArgs) -> anyhow::Result<Verdict> {
    if args.dir.is_file() {
        return check_file(args);
    }
    let first = Reader::open(&args.dir)?;
    let Some(header) = first.headers().next() else {
        anyhow::bail!("there is no share log in {}", args.dir.display());
    };
    let network = header.network;
    let entries = first.about_entries();
    let report = audit(network, Some(header.log_id), shown(entries, || Reader::open(&args.dir)))?;
    answer(&args.common, network, &report, None)
}

/// Audits what was exported, whoever stands behind it.
fn check_file(args: &LogArgs) -> anyhow::Result<Verdict> {
    let file = Exported::open(&args.dir)?;
    let (about, root) = (file.about(), file.check()?);
    let report =
        audit(about.network, about.log_id, shown(file.size(), || Ok::<_, anyhow::Error>(file.entries())))?;
    anyhow::ensure!(report.root == root || !report.is_honest(), "the file has changed meanwhile");
    answer(&args.common, about.network, &report, None)
}

/// Audits what a pool has published.
fn check_published(args: &PublishedArgs) -> anyhow::Result<Verdict> {
    let verifier = &args.key;
    // What is asked wrong is told before anything that takes long.
    let receipts = args.receipts.as_deref().map(receipts::files).transpose()?.unwrap_or_default();
    if let (true, Some(url), false) = (args.light, &args.url, args.dir.is_file()) {
        return light::check(args, url, receipts);
    }
    if let Some(url) = &args.url {
        fetch::check_address(url)?;
    }
    // Before the newest head: the log under that goes on from it.
    let cosigned = args.url.as_ref().map(|url| fetch::fetch_if_there(url, "cosigned"));
    let mut mirror = Mirror::open(&args.dir, args.url.as_deref(), verifier)?;
    let read = shown(mirror.head().size, || Ok::<_, anyhow::Error>(mirror.entries()));
    let report = audit(mirror.network(), verifier.log_id(), read)?;
    anyhow::ensure!(
        report.root == mirror.head().root || !report.is_honest(),
        "the copy has changed meanwhile"
    );
    if !report.is_honest() {
        // Whatever else cannot be looked at must not hide that.
        return answer(&args.common, mirror.network(), &report, None);
    }
    let receipts = receipts::check(receipts, &mut mirror, verifier)?;
    let journal = match &args.journal {
        None => Journalled::default(),
        Some(dir) => journal::check(dir, &mirror)?,
    };
    let asked = Asked { rules: report.params.as_ref(), wanted: &args.witnesses };
    let witnessed = cosigned::check(&args.dir, cosigned, &mirror, verifier, &asked)?;
    let promised = Promised { receipts, journal, witnessed };
    answer(&args.common, mirror.network(), &report, Some(&promised))
}

/// Shows how far each reading of an audit is, of about so many entries.
fn shown<I, E>(entries: u64, read: impl Fn() -> Result<I, E>) -> impl FnMut() -> Result<Shown<I>, E> {
    let mut readings = ["reading", "checking", "reading again", "comparing"].into_iter();
    move || Ok(Shown::new(readings.next().expect("an audit reads four times at most"), entries, read()?))
}

/// Says what the audit has found; asks the node or its files, if they are named.
fn answer(
    args: &Common,
    network: Network,
    report: &Report,
    promised: Option<&Promised>,
) -> anyhow::Result<Verdict> {
    let chain = match Source::named(args, network)? {
        None => None,
        Some(mut source) => Some(chain::ask(&mut source, network, report)?),
    };
    let answer = Answer { report, chain: chain.as_ref(), promised };
    let text = if args.json { answer.json() } else { answer.text() };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(match (answer.is_honest(), answer.is_proven()) {
        (false, _) => Verdict::Lie,
        (true, false) => Verdict::Unchecked,
        (true, true) => Verdict::Proven,
    })
}
