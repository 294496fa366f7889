//! `sluice-verify published --light`: from a pool that runs, and from a server of files that lies.

use crate::published::{key, mine, serve_files, verify, words};
use serde_json::{Value, json};
use share_accounting::entry::Entry;
use share_accounting::log::Reader;
use share_accounting::publish::Head;
use share_accounting::publish::key::LogKey;
use share_accounting::publish::receipt::{Receipt, Receipts};
use share_accounting::publish::tiles::{Row, Tiles};
use sluice_tests::support::binary;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{PoolBuilder, address};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use stratum::pot::Pot;
use tempfile::TempDir;

/// What stands in a log.
fn entries(log: &Path) -> Vec<Entry> {
    Reader::open(log).unwrap().map(|entry| entry.unwrap().1).collect()
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Lays a log out as files for any web server, under a head that is signed; with files that tell its payees, as a pool
/// does, or without.
fn lay_out(entries: &[Entry], key: &LogKey, with_payees: bool) -> TempDir {
    let (site, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut tiles = Tiles::open(scratch.path()).unwrap();
    for (index, entry) in (0..).zip(entries) {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        tiles.append(&[&bytes]).unwrap();
        if let (true, Entry::Payee(payee)) = (with_payees, entry) {
            let receipts = vec![Receipt { index, entry: bytes, path: Vec::new() }];
            let receipts = Receipts { checkpoint: String::new(), receipts, next: index + 1 };
            let path = site.path().join(format!("payee/{}", payee.index));
            write(&path, &serde_json::to_vec(&receipts).unwrap());
        }
    }
    let rows = [(Row::Entries, 0), (Row::Level(0), 0), (Row::Level(1), 8), (Row::Level(2), 16)];
    for place in rows.into_iter().flat_map(|(row, shift)| row.places(tiles.size() >> shift)) {
        write(&site.path().join(place.path()), &tiles.read(&place).unwrap());
    }
    let head = Head { size: tiles.size(), root: tiles.root().unwrap() };
    fs::write(site.path().join("checkpoint"), key.sign(&head, bitcoin::Network::Regtest)).unwrap();
    site
}

fn light(copy: &Path, site: &TempDir, key: &LogKey) -> (Option<i32>, String) {
    let url = format!("http://{}", serve_files(site.path()));
    let mut command = Command::new(binary("sluice-verify"));
    command.arg("published").arg(copy).args(["--light", "--url", &url, "--key", key.public()]);
    let output = command.output().unwrap();
    (output.status.code(), words(&output))
}

fn answer(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", words(output)))
}

#[test]
fn a_running_pools_log_is_proven_by_samples_and_goes_on_through_kills() {
    let node = Node::regtest();
    let mut pool = PoolBuilder::new(&node).set("difficulty.pot_start", "-32").start();
    let (copy, receipts) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    for round in 0..3 {
        mine(&pool, &node, 40);
        let kept = pool.http(&format!("/log/receipts?payee={}", address(3, node.network))).unwrap();
        fs::write(receipts.path().join(format!("{round}.json")), kept).unwrap();
        let with_receipts = ["--light", "--receipts", receipts.path().to_str().unwrap()];
        let output = verify(&pool, copy.path(), &with_receipts);
        let text = words(&output);
        assert_eq!(output.status.code(), Some(0), "round {round}: {text}");
        let said = "with 300 samples, at least 99.0 % of the credited work is real with 95 % probability";
        assert!(text.contains(said), "{text}");
        assert!(text.contains("receipts are in the log, and their shares are real work"), "{text}");
        assert_eq!(text.contains("of the head that was seen before"), round > 0, "{text}");
        pool = pool.kill().start();
    }
    assert!(!copy.path().join("tile").exists(), "the head alone is kept");
    let output = verify(&pool, copy.path(), &["--light", "--samples", "50", "--json"]);
    let json = answer(&output);
    assert_eq!((output.status.code(), &json["proven"], &json["lies"]), (Some(0), &json!(true), &json!([])));
    assert_eq!((&json["samples"], &json["not_hashed"]), (&json!(50), &json!(0)), "{json:#}");
    // The whole of it can be checked in the same folder later, from the same head on.
    let output = verify(&pool, copy.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    for wrong in [
        &["--samples", "5"][..],
        &["--light", "--samples", "0"],
        &["--light", "--rpc", "127.0.0.1:1"],
        &["--light", "--blocks", "blocks"],
    ] {
        let output = verify(&pool, copy.path(), wrong);
        assert_eq!(output.status.code(), Some(64), "{wrong:?}: {}", words(&output));
    }
    assert!(key(&pool).contains('+'));
}

#[test]
fn lie_light_a_server_shows_a_real_pools_log_with_something_changed() {
    let node = Node::regtest();
    let pool = PoolBuilder::new(&node).set("difficulty.pot_start", "-24").start();
    mine(&pool, &node, 70);
    let (status, builder) = pool.stop();
    assert!(status.success());
    let honest = entries(&builder.data_dir().join("log"));
    let (key, _) = LogKey::generate("liar.example/log");
    let fresh = || TempDir::new().unwrap();

    let kept = fresh();
    let (code, text) = light(kept.path(), &lay_out(&honest, &key, true), &key);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = light(fresh().path(), &lay_out(&honest, &key, false), &key);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("their payees were not checked"), "{text}");

    // A file that was altered on its way is no lie of the pool's.
    let altered = lay_out(&honest, &key, true);
    let bundle = altered.path().join("tile/entries/000");
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[500] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    let (code, text) = light(fresh().path(), &altered, &key);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("tile/entries/000 is not what the signed head covers"), "{text}");

    let mut forged = honest.clone();
    let shares: Vec<_> = (0..forged.len()).filter(|at| matches!(forged[*at], Entry::Share(_))).collect();
    let Entry::Share(last) = forged[*shares.last().unwrap()].clone() else { unreachable!() };
    let mut sum = last.total_work.0;
    for nonce in 0..100 {
        let mut share = last.clone();
        // Of a difficulty that nothing meets by chance, for it would solve a block of this chain, too.
        (share.nonce, share.pot) = (nonce, Pot::try_from(20).unwrap());
        (share.credited, share.block_candidate) = (true, false);
        sum += share.credited_work().0;
        share.total_work.0 = sum;
        forged.push(Entry::Share(share));
    }
    // They go on from the honest log, which was seen before.
    let (code, text) = light(kept.path(), &lay_out(&forged, &key, true), &key);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(": share without work: its hash ") || text.contains("mined for"), "{text}");

    // Another log under the same key: the same entries but one.
    let mut other = forged.clone();
    let last = other.len() - 1;
    let Entry::Chain(event) = &mut other[1] else { panic!("the first entries are rules and the epoch") };
    event.unix_ms += 1;
    for shown in [&other[..], &other[..last]] {
        let (code, text) = light(kept.path(), &lay_out(shown, &key, true), &key);
        // Of a shorter one the server must have the longer one's files, too, to be convicted.
        let (expected, said) = match shown.len() > last {
            true => (Some(1), "two logs were shown"),
            false => (Some(2), "whether it is of the same log cannot be told"),
        };
        assert_eq!(code, expected, "{text}");
        assert!(text.contains(said), "{text}");
    }
    assert!(kept.path().join("checkpoint.other").exists());
    let both = lay_out(&forged, &key, true);
    let old = lay_out(&honest, &key, true);
    fs::copy(old.path().join("checkpoint"), both.path().join("checkpoint")).unwrap();
    let (code, text) = light(kept.path(), &both, &key);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("an old head of"), "{text}");
}
