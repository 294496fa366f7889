use super::keeper::Round;
use super::*;
use bitcoin::hashes::Hash;
use bitcoin::hex::DisplayHex;
use bitcoin::{BlockHash, Network};
use prometheus::Registry;
use serde_json::json;
use share_accounting::entry::{Entry, Extranonce, JobEntry, PlanEntry, Share};
use share_accounting::publish::cosign::WitnessKey;
use share_accounting::publish::key::LogKey;
use share_accounting::publish::receipt::Receipt;
use share_accounting::tree::{Tree, leaves};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::iter;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use stratum::class::SizeClass;
use stratum::job::{Coinbase, TemplateId};
use stratum::pot::Pot;
use stratum::target::Work;

/// From BIP 173.
const PAYEE: &str = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";

/// A pool that answers what it is told to: bodies by the beginnings of their addresses.
struct Pool {
    url: String,
    key: (LogKey, String),
    answers: Arc<Mutex<HashMap<String, String>>>,
}

fn share(nonce: u32, credited: bool) -> Share {
    Share {
        pot: Pot::try_from(10).unwrap(),
        site: 0,
        payee: 0,
        job: 0,
        ntime: 5,
        nonce,
        version: 6,
        extranonce: Extranonce::new(&[7; 12]).unwrap(),
        credited,
        block_candidate: false,
        received_unix_ms: 0,
        total_work: Work(0),
    }
}

/// A coinbase whose script is a height and the gap, and one output.
fn job() -> JobEntry {
    let start = [&[2, 0, 0, 0, 1][..], &[0; 32], &[0xff; 4], &[28, 1, 7, 25]].concat();
    let end = [&[0xff; 4][..], &[1], &5_000_000_000_u64.to_le_bytes(), &[1, 0x51], &[0; 4]].concat();
    JobEntry {
        template: TemplateId(1),
        prev_hash: BlockHash::from_byte_array([1; 32]),
        nbits: 0x207f_ffff,
        version: 0x2000_0000,
        ntime_min: 1,
        height: 7,
        class: SizeClass::B755,
        out_bytes: 400,
        coinbase: Coinbase::new([&start[..], &[0; 25], &end].concat().into(), start.len()),
        merkle_branch: Vec::new(),
        plan: PlanEntry::Window { log_size: 0, ledger_block: BlockHash::all_zeros() },
    }
}

/// The job, and shares on it.
fn entries(shares: &[Share]) -> Vec<Vec<u8>> {
    let shares = shares.iter().map(|share| Entry::Share(share.clone()));
    let bytes = |entry: Entry| {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        bytes
    };
    iter::once(Entry::Job(job().into())).chain(shares).map(bytes).collect()
}

fn line(nonce: u32, at: u64) -> Line {
    let user = format!("{PAYEE}.farm");
    let receipt = |(index, entry)| Receipt { index, entry, path: Vec::new() };
    let receipts = (0..).zip(entries(&[share(nonce, true)])).map(receipt).collect();
    let receipts = Receipts { checkpoint: String::new(), receipts, next: 2 };
    let (_, script) = payee_of(&user).unwrap();
    let hash = receipted::shares(&receipts, &script)[0].hash.unwrap();
    Line { at, user, hash, fate: Fate::Accepted }
}

impl Pool {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/log", listener.local_addr().unwrap());
        let answers = Arc::new(Mutex::new(HashMap::<String, String>::new()));
        let told = answers.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = String::new();
                BufReader::new(&stream).read_line(&mut request).unwrap();
                let path = request.split(' ').nth(1).unwrap().strip_prefix("/log/").unwrap();
                let answers = told.lock().unwrap();
                let body = answers.iter().find(|(start, _)| path.starts_with(start.as_str()));
                let (status, body) = body.map_or(("404 no", ""), |(_, body)| ("200 OK", body));
                let length = body.len();
                write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                )
                .unwrap();
            }
        });
        Self { url, key: LogKey::generate("test/log"), answers }
    }

    fn says(&self, start: impl Into<String>, body: impl Into<String>) {
        self.answers.lock().unwrap().insert(start.into(), body.into());
    }

    /// Publishes a log of the job and one share or two; its head.
    fn publish(&self, shares: &[Share]) -> String {
        let entries = entries(shares);
        let hashes = leaves(&entries.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let root = |hashes: &[TreeHash]| hashes.iter().copied().collect::<Tree>().root();
        let size = entries.len() as u64;
        let checkpoint = self.key.0.sign(&Head { size, root: root(&hashes) }, Network::Signet);
        let path = |at: usize| match at {
            2 => vec![root(&hashes[..2])],
            _ => [&hashes[1 - at..2 - at], &hashes[2..]].concat(),
        };
        let receipt = |at: usize| Receipt { index: at as u64, entry: entries[at].clone(), path: path(at) };
        // As a pool does: shares from the one that was asked for on, and their job.
        for from in 0..=3 {
            let shares = from.max(1)..entries.len();
            let job = (!shares.is_empty()).then_some(0);
            let receipts = job.into_iter().chain(shares).map(receipt).collect();
            let receipts = Receipts { checkpoint: checkpoint.clone(), receipts, next: size };
            let receipts = serde_json::to_string(&receipts).unwrap();
            self.says(format!("receipts?payee={PAYEE}&from={from}"), receipts);
        }
        self.says("checkpoint", checkpoint.as_str());
        let proof = hashes.last().unwrap().to_lower_hex_string();
        self.says("consistency?from=2&to=3", json!([proof]).to_string());
        checkpoint
    }

    fn address(&self) -> LogAddress {
        let (url, key) = (self.url.clone() + "/", self.key.0.public().to_owned());
        LogAddress { url, key, witnesses: Witnesses::default() }
    }

    fn log(&self, dir: &Path) -> Log {
        Log::open(dir.to_owned(), self.address()).unwrap()
    }
}

fn metrics() -> Metrics {
    Metrics::new(Registry::new())
}

fn round(log: &mut Log) {
    let mut round = Round::begin(log);
    while let Some(payee) = round.next_payee() {
        round.ask(log, &payee, &metrics());
    }
    round.end(log);
}

fn long_ago() -> u64 {
    unix_ms() - MISSING_AFTER.as_millis() as u64 - 1_000
}

/// A log of one share, which was seen before the first share. Times are whole milliseconds, and a share of the very one in
/// which the head was asked for may be from before: the next has begun when this returns.
fn met(pool: &Pool, dir: &Path) -> Log {
    pool.publish(&[share(0, true)]);
    let mut log = pool.log(dir);
    round(&mut log);
    assert_eq!((log.head.map(|head| head.size), &log.trouble), (Some(2), &None));
    let asked = log.contacts.back().unwrap().at;
    while unix_ms() <= asked {
        thread::sleep(Duration::from_millis(1));
    }
    log
}

#[test]
fn receipts_are_kept_and_found_again_after_a_restart() {
    let (dir, pool) = (tempfile::tempdir().unwrap(), Pool::new());
    let mut log = pool.log(dir.path());
    round(&mut log);
    assert!(log.trouble.as_ref().is_some_and(|reason| reason.contains("404")), "{:?}", log.trouble);
    let mut log = met(&pool, dir.path());
    assert_eq!(log.expect(&line(1, unix_ms())), Taken::Expected);
    pool.publish(&[share(0, true), share(1, true)]);
    round(&mut log);
    assert_eq!((log.expected(), &log.trouble, &log.missing, log.unwatched()), (0, &None, &None, None));
    let file = dir.path().join(format!("receipts/{PAYEE}.000000000000-000000000003.json"));
    let kept: Receipts = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(kept.head(&log.verifier).unwrap().size, 3);

    // The run before has journalled one that is kept, and one that is not.
    let lines = line(1, unix_ms()).text() + &line(2, unix_ms()).text();
    std::fs::write(dir.path().join("shares.jsonl"), lines).unwrap();
    let log = pool.log(dir.path());
    assert_eq!((log.expected(), log.head.map(|head| head.size)), (1, Some(3)));
}

#[test]
fn a_share_that_is_not_in_the_log_is_told_and_so_is_one_without_credit() {
    let (dir, pool) = (tempfile::tempdir().unwrap(), Pool::new());
    let mut log = met(&pool, dir.path());
    // From before anybody has looked: not watched.
    log.expect(&line(8, long_ago()));
    round(&mut log);
    assert_eq!((log.expected(), &log.missing, log.unwatched), (0, &None, 1));
    log.expect(&line(9, unix_ms()));
    pool.publish(&[share(0, true), share(5, true)]);
    round(&mut log);
    assert_eq!((log.expected(), &log.missing), (1, &None), "it may still come");
    log.expect(&line(9, long_ago()));
    round(&mut log);
    assert!(
        log.missing.as_ref().is_some_and(|told| told.contains("not among the 3 entries")),
        "{:?}",
        log.missing
    );
    assert_eq!(log.expected(), 0);

    let dir = tempfile::tempdir().unwrap();
    let mut log = met(&pool, dir.path());
    log.expect(&line(2, unix_ms()));
    pool.publish(&[share(0, true), share(2, false)]);
    round(&mut log);
    let without_credit = |log: &Log| log.missing.as_ref().is_some_and(|told| told.contains("without credit"));
    assert!(without_credit(&log), "{:?}", log.missing);
    // Also if it was found before.
    let dir = tempfile::tempdir().unwrap();
    let mut log = met(&pool, dir.path());
    log.expect(&line(3, unix_ms()));
    pool.publish(&[share(0, true), share(2, false)]);
    round(&mut log);
    log.expect(&line(2, unix_ms()));
    assert!(without_credit(&log), "{:?}", log.missing);
}

#[test]
fn a_share_of_the_very_millisecond_in_which_the_head_was_asked_for_is_not_watched() {
    let (dir, pool) = (tempfile::tempdir().unwrap(), Pool::new());
    let mut log = met(&pool, dir.path());
    let asked = log.contacts.back().unwrap().at;
    log.expect(&line(8, asked));
    log.expect(&line(9, asked + 1));
    round(&mut log);
    assert_eq!((log.expected(), log.unwatched), (1, 1));
}

#[test]
fn lie_a_head_that_does_not_go_on_from_the_one_before_is_kept_and_no_more_is_asked() {
    let (dir, pool) = (tempfile::tempdir().unwrap(), Pool::new());
    let mut log = met(&pool, dir.path());
    pool.publish(&[share(7, true), share(2, true)]);
    log.expect(&line(2, unix_ms()));
    for _ in 0..2 {
        round(&mut log);
        let told = log.trouble.as_ref().is_some_and(|told| told.contains("two logs are shown"));
        assert!(told, "{:?}", log.trouble);
    }
    assert!(log.is_false && log.expect(&line(3, unix_ms())) == Taken::Unwatched);
    let kept = |name: &str| std::fs::read(dir.path().join("receipts").join(name)).unwrap();
    let sizes = ["checkpoint", "checkpoint.other"].map(|name| log.verifier.head(&kept(name)).unwrap().0.size);
    assert_eq!(sizes, [2, 3]);
}

#[test]
fn lie_another_head_of_the_same_size_needs_no_proof() {
    let (dir, pool) = (tempfile::tempdir().unwrap(), Pool::new());
    let mut log = met(&pool, dir.path());
    pool.publish(&[share(7, true)]);
    round(&mut log);
    assert!(log.is_false, "{:?}", log.trouble);
}

#[test]
fn an_old_head_and_what_is_not_signed_say_nothing() {
    let (dir, pool) = (tempfile::tempdir().unwrap(), Pool::new());
    let mut log = met(&pool, dir.path());
    log.expect(&line(1, unix_ms()));
    pool.publish(&[share(0, true), share(1, true)]);
    round(&mut log);
    log.expect(&line(3, long_ago()));
    pool.publish(&[share(0, true)]);
    round(&mut log);
    assert!(
        log.trouble.as_ref().is_some_and(|told| told.contains("an old head of 2 entries")),
        "{:?}",
        log.trouble
    );
    let forger =
        Pool { url: pool.url.clone(), answers: pool.answers.clone(), key: LogKey::generate("test/log") };
    forger.publish(&[share(0, true), share(1, true)]);
    round(&mut log);
    assert!(
        log.trouble.as_ref().is_some_and(|told| told.contains("not signed with the log's key")),
        "{:?}",
        log.trouble
    );
    assert_eq!((log.expected(), &log.missing), (1, &None));
    // Another key in the settings is another log.
    let error = format!("{:#}", Log::open(dir.path().to_owned(), forger.address()).err().unwrap());
    assert!(error.contains("another log needs another folder"), "{error}");
}

#[test]
fn a_receipt_that_is_there_before_the_acknowledgement_is_known_is_no_missing_one() {
    let (dir, pool) = (tempfile::tempdir().unwrap(), Pool::new());
    let mut log = met(&pool, dir.path());
    log.expect(&line(7, unix_ms()));
    pool.publish(&[share(0, true), share(2, true)]);
    round(&mut log);
    assert_eq!(log.payees[PAYEE].next, Some(3));
    // It was on its way while the receipt was fetched.
    assert_eq!(log.expect(&line(2, unix_ms())), Taken::Found { credited: true });
    assert_eq!(log.missing, None);
}

#[test]
fn shares_from_before_anybody_has_looked_are_not_waited_for_after_a_restart() {
    let (dir, pool) = (tempfile::tempdir().unwrap(), Pool::new());
    let lines = line(8, unix_ms() - 3_600_000).text() + &line(9, unix_ms() + 1_000).text();
    let mut log = met(&pool, dir.path());
    log.expect(&line(1, unix_ms()));
    pool.publish(&[share(0, true), share(1, true)]);
    round(&mut log);
    // One of an hour before, perhaps very many entries back, and one of after.
    std::fs::write(dir.path().join("shares.jsonl"), lines).unwrap();
    let mut log = pool.log(dir.path());
    assert_eq!(log.expected(), 1);
    round(&mut log);
    assert_eq!(log.missing, None);
}

#[test]
fn a_head_that_stands_still_is_told_and_accuses_nobody() {
    let (dir, pool) = (tempfile::tempdir().unwrap(), Pool::new());
    let mut log = met(&pool, dir.path());
    log.expect(&line(1, unix_ms()));
    pool.publish(&[share(0, true), share(1, true)]);
    round(&mut log);
    log.expect(&line(9, unix_ms() - 3 * MISSING_AFTER.as_millis() as u64));
    log.head_since = unix_ms() - 4 * MISSING_AFTER.as_millis() as u64;
    round(&mut log);
    assert_eq!((log.expected(), &log.missing), (1, &None));
    assert!(
        log.trouble.as_ref().is_some_and(|told| told.contains("head of 3 entries is old")),
        "{:?}",
        log.trouble
    );
    log.head_since = unix_ms();
    round(&mut log);
    assert!(log.missing.is_some() && log.trouble.is_none(), "{:?}", log.trouble);
}

#[test]
fn lie_a_share_at_another_difficulty_is_not_the_one_that_was_acknowledged() {
    let (dir, pool) = (tempfile::tempdir().unwrap(), Pool::new());
    let mut log = met(&pool, dir.path());
    log.expect(&line(2, unix_ms()));
    pool.publish(&[share(0, true), Share { pot: Pot::try_from(9).unwrap(), ..share(2, true) }]);
    round(&mut log);
    assert_eq!((log.expected(), &log.trouble), (1, &None));
}

#[test]
fn a_share_without_its_job_is_no_receipt() {
    let (dir, pool) = (tempfile::tempdir().unwrap(), Pool::new());
    let mut log = met(&pool, dir.path());
    log.expect(&line(2, unix_ms()));
    pool.publish(&[share(0, true), Share { job: 1, ..share(2, true) }]);
    round(&mut log);
    let told = log.trouble.as_ref().is_some_and(|told| told.contains("without the job"));
    assert!(told && log.expected() == 1, "{:?}", log.trouble);
}

#[test]
fn what_enough_witnesses_cosign_is_well_and_what_they_do_not_is_an_alarm_in_time() {
    let (dir, pool) = (tempfile::tempdir().unwrap(), Pool::new());
    let [a, b] = ["a", "b"].map(|name| WitnessKey::generate(name).0);
    let address = LogAddress {
        witnesses: Witnesses { keys: vec![a.verifier(), b.verifier()], needed: 2 },
        ..pool.address()
    };
    let first = pool.publish(&[share(0, true)]);
    let mut log = Log::open(dir.path().to_owned(), address).unwrap();
    let mut round_after = |seconds| {
        log.witnessed.long_ago(seconds);
        round(&mut log);
        assert_eq!(log.trouble, None);
        log.alarm.clone()
    };
    assert_eq!(round_after(0), None, "they are given time");
    assert!(round_after(600).unwrap().contains("404"));
    pool.says("cosigned", first.clone() + &a.cosign(&first, 1));
    assert!(round_after(0).unwrap().contains("1 of the witnesses have cosigned"));
    pool.says("cosigned", first.clone() + &a.cosign(&first, 1) + &b.cosign(&first, 2));
    assert_eq!(round_after(0), None);
    assert_eq!(round_after(600), None, "nothing new is signed");
    pool.publish(&[share(0, true), share(1, true)]);
    assert_eq!(round_after(0), None);
    assert!(round_after(600).unwrap().contains("does not grow"));
}

#[test]
fn a_share_under_the_very_head_that_was_asked_for_before_its_acknowledgement_is_no_missing_one() {
    let (dir, pool) = (tempfile::tempdir().unwrap(), Pool::new());
    // It is signed while the acknowledgement is on its way.
    pool.publish(&[share(0, true), share(1, true)]);
    let mut log = pool.log(dir.path());
    round(&mut log);
    let asked = log.contacts.back().unwrap().at;
    assert_eq!(log.expect(&line(1, asked + 1)), Taken::Expected);
    round(&mut log);
    assert_eq!((log.expected(), &log.missing, log.unwatched), (0, &None, 0));
}

#[test]
fn a_pool_that_is_away_is_no_alarm_of_witnesses() {
    let (dir, pool) = (tempfile::tempdir().unwrap(), Pool::new());
    let witness = WitnessKey::generate("a").0;
    let witnesses = Witnesses { keys: vec![witness.verifier()], needed: 1 };
    let first = pool.publish(&[share(0, true)]);
    let mut log = Log::open(dir.path().to_owned(), LogAddress { witnesses, ..pool.address() }).unwrap();
    round(&mut log);
    pool.answers.lock().unwrap().clear();
    log.witnessed.long_ago(600);
    log.contacts.iter_mut().for_each(|contact| contact.at -= 600_000);
    round(&mut log);
    assert!(log.alarm.is_none() && log.trouble.is_some(), "{:?}", log.alarm);
    // It is back, and its witness has not come round yet.
    pool.publish(&[share(0, true)]);
    round(&mut log);
    assert_eq!((&log.alarm, &log.trouble), (&None, &None));
    pool.says("cosigned", first.clone() + &witness.cosign(&first, 1));
    round(&mut log);
    assert_eq!(log.witnessed.waits(u64::MAX), Duration::ZERO);
}

#[test]
fn lie_what_witnesses_have_cosigned_is_another_log() {
    let (dir, pool) = (tempfile::tempdir().unwrap(), Pool::new());
    let witness = WitnessKey::generate("a").0;
    let address =
        LogAddress { witnesses: Witnesses { keys: vec![witness.verifier()], needed: 1 }, ..pool.address() };
    let other = pool.publish(&[share(7, true)]);
    pool.publish(&[share(0, true), share(1, true)]);
    pool.says("cosigned", other.clone() + &witness.cosign(&other, 1));
    let mut log = Log::open(dir.path().to_owned(), address).unwrap();
    round(&mut log);
    assert!(log.is_false, "{:?}", log.trouble);
    let kept = std::fs::read(dir.path().join("receipts/checkpoint.other")).unwrap();
    assert_eq!(log.verifier.head(&kept).unwrap().0.size, 2);
}

#[test]
fn only_an_address_is_asked_for() {
    for end in [".rig.1", "_rig", "/rig", ""] {
        assert_eq!(payee_of(&format!("{PAYEE}{end}")).map(|(payee, _)| payee), Some(PAYEE), "{end}");
    }
    for user in
        ["", ".x", "../../etc/passwd.x", "a b", "a&from=0", "ä", &"x".repeat(91), "tb1qx", &PAYEE[1..]]
    {
        assert_eq!(payee_of(user), None, "{user}");
    }
}
