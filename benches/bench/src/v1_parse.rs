//! `v1_parse`: what it costs to read a share that comes as a line of 172 bytes.
//!
//! Ours is the whole session: bytes in, line found, JSON read, job and worker looked up, hex decoded, vardiff told, the
//! place of the reply kept. Beside it parsing alone, ours and `serde_json`'s. The reference implementation's V1 library
//! is not in the build.

use crate::measure::{Side, in_turns, thread_cpu};
use crate::report::{Report, Row, figure};
use crate::work::{self, ADDRESS, PREFIX, UNIX_S};
use anyhow::ensure;
use bitcoin::Network;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stratum::encoded::EncodedJob;
use stratum::pot::Pot;
use stratum::session::Action;
use stratum::v1::message::{Message, method};
use stratum::v1::server::{Session, Settings};

/// The benchmark's name.
pub const NAME: &str = "v1_parse";
/// Bytes of the line, its end included.
const LINE_BYTES: usize = 172;
const FIRST_JOB: u32 = 0x5f3a_9c10;
const NONCE: u32 = 0x7c2b_1e90;
/// Lines that are received before their shares are answered; a session keeps 1,024 replies.
const UNANSWERED: usize = 512;
const UNIT: &str = "ns per line";
const TO_VALUE: &str = "serde_json to a Value";
const TO_TYPED: &str = "serde_json to typed, borrowed fields";

/// A submit as `serde` alone would read it: borrowed from the line, so without escapes.
#[derive(Deserialize)]
struct Typed<'a> {
    id: u64,
    method: &'a str,
    #[serde(borrow)]
    params: [&'a str; 6],
}

/// Measures all ways.
///
/// # Errors
/// The session takes no share: the benchmark is at fault.
pub fn run() -> anyhow::Result<Report> {
    let line = line();
    check(&line)?;
    let figures = in_turns(vec![
        session_side(&line, false),
        session_side(&line, true),
        side(&line, |line| parse(line).is_some()),
        side(&line, |line| value(line).is_some()),
        side(&line, |line| typed(line).is_some()),
    ]);
    let [session, answered, message, to_value, to_typed] = [0, 1, 2, 3, 4].map(|side| figures.ns(side));
    let ratio = |ours, theirs| figures.ratio_to(ours, theirs);
    let rows = vec![
        Row::new("V1 session, submit to a share for judgement", UNIT, session)
            .beside(TO_VALUE, to_value, ratio(0, 3))
            .headline(),
        Row::new("V1 session, submit to a share for judgement", UNIT, session).beside(
            TO_TYPED,
            to_typed,
            ratio(0, 4),
        ),
        Row::new("V1 session, the same and its reply", UNIT, answered),
        Row::new("Message::parse and six texts, no session", UNIT, message).beside(
            TO_VALUE,
            to_value,
            ratio(2, 3),
        ),
        Row::new("Message::parse and six texts, no session", UNIT, message).beside(
            TO_TYPED,
            to_typed,
            ratio(2, 4),
        ),
    ];
    let summary =
        format!("{} ns from a line to a share, {} ns of them to read it", figure(session), figure(message));
    Ok(Report::new(NAME, rows, summary))
}

/// A submit as cgminer writes it, its worker's name as long as it takes.
fn line() -> String {
    let with = |worker: &str| {
        let (user, job, submit) = (format!("{ADDRESS}.{worker}"), FIRST_JOB, method::SUBMIT);
        format!(
            "{{\"params\": [\"{user}\", \"{job:x}\", \"01020304a5b6c7d8\", \"{UNIX_S:08x}\", \"{NONCE:08x}\", \
             \"00c00000\"], \"id\": 4711, \"method\": \"{submit}\"}}\n"
        )
    };
    let worker = "rig-0123456789".chars().cycle().take(LINE_BYTES - with("").len());
    with(&worker.collect::<String>())
}

/// A session that mines.
fn session(line: &str) -> (Session, Instant) {
    let now = Instant::now();
    let pot = Pot::try_from(13).expect("a pot");
    // One difficulty alone: a crowd of shares at one moment would raise it.
    let settings = Settings { pot_start: pot, pot_min: pot, pot_max: pot, ..Settings::new(Network::Signet) };
    let mut session = Session::new(Arc::new(settings), PREFIX, FIRST_JOB, now);
    let user = typed(line).expect("our own line").params[0];
    let hello = format!(
        "{{\"id\":1,\"method\":\"mining.configure\",\"params\":[[\"version-rolling\"],\
         {{\"version-rolling.mask\":\"1fffe000\"}}]}}\n\
         {{\"id\":2,\"method\":\"mining.subscribe\",\"params\":[\"bench\"]}}\n\
         {{\"id\":3,\"method\":\"mining.authorize\",\"params\":[\"{user}\",\"x\"]}}\n"
    );
    let mut actions = Vec::new();
    session.receive(hello.as_bytes(), now, &mut actions).expect("a polite machine");
    assert!(actions.iter().any(|action| matches!(action, Action::NeedWork)), "it asks for work: {actions:?}");
    let work = Arc::new(EncodedJob::new(work::body(work::small_coinbase(), Vec::new())));
    session.work(&work, now, &mut actions);
    (session, now)
}

fn parse(line: &str) -> Option<[Option<Cow<'_, str>>; 6]> {
    match Message::parse(line.as_bytes()) {
        Ok(Message::Request(request)) if request.method == method::SUBMIT => request.params.texts().ok(),
        _ => None,
    }
}

fn value(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}

fn typed(line: &str) -> Option<Typed<'_>> {
    serde_json::from_str(line).ok()
}

/// All ways read the same from the line.
fn check(line: &str) -> anyhow::Result<()> {
    ensure!(line.len() == LINE_BYTES, "the line has {} bytes", line.len());
    let (mut session, now) = session(line);
    let mut actions = Vec::new();
    session.receive(line.as_bytes(), now, &mut actions)?;
    let [Action::Share { share, .. }] = &actions[..] else { anyhow::bail!("no share: {actions:?}") };
    ensure!(share.allowed.is_ok() && share.roll.nonce == NONCE && share.roll.ntime == UNIX_S);
    ensure!(share.roll.extranonce2.as_bytes() == [1, 2, 3, 4, 0xa5, 0xb6, 0xc7, 0xd8]);
    let typed = typed(line).expect("a submit");
    ensure!((typed.id, typed.method) == (4711, method::SUBMIT));
    ensure!(parse(line).expect("a submit").iter().flatten().eq(typed.params.iter()), "the same texts");
    let value = value(line).expect("it is JSON");
    ensure!(value["params"] == Value::from(typed.params.to_vec()) && value["id"] == 4711);
    Ok(())
}

/// Reads the line again and again.
fn side<'a>(line: &'a str, read: impl Fn(&'a str) -> bool + 'a) -> Side<'a> {
    Side::new(
        |items| items,
        move |items| {
            for _ in 0..*items {
                black_box(read(black_box(line)));
            }
        },
    )
}

/// Lets a session receive the line again and again; replies are counted only if so asked.
fn session_side(line: &str, replies: bool) -> Side<'_> {
    let (mut session, now) = session(line);
    let mut actions = Vec::new();
    Side::timing_itself(move |items| {
        let mut took = Duration::ZERO;
        let mut left = items;
        while left > 0 {
            let lines = left.min(UNANSWERED);
            left -= lines;
            actions.clear();
            let before = thread_cpu();
            for _ in 0..lines {
                session.receive(black_box(line.as_bytes()), now, &mut actions).expect("room for the reply");
            }
            black_box(&actions);
            let received = thread_cpu();
            let mut shares = 0;
            for action in actions.drain(..) {
                if let Action::Share { ticket, share } = action {
                    black_box(share);
                    session.answer(ticket, Ok(()));
                    shares += 1;
                }
            }
            session.flush(&mut actions);
            took += if replies { thread_cpu() } else { received } - before;
            assert_eq!(shares, lines, "each line is a share");
        }
        took
    })
}
