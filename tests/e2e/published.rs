//! What a pool publishes, as everybody reads it: over HTTP, into a folder, by `sluice-verify published`.

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use bitcoin::hex::FromHex;
use serde_json::{Value, json};
use share_accounting::entry::Entry;
use share_accounting::publish::Head;
use share_accounting::publish::key::{LogKey, LogVerifier};
use share_accounting::publish::tiles::{Row, Tiles, WIDTH};
use sluice_tests::support::binary;
use sluice_tests::support::log::Log;
use sluice_tests::support::miner::Miner;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{Pool, PoolBuilder, address};
use sluice_tests::support::wait_for;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use stratum::class::SizeClass;
use tempfile::TempDir;

pub fn mine(pool: &Pool, node: &Node, shares: usize) {
    for number in 1..=5 {
        let mut miner = Miner::connect(pool.v1(), &address(number, node.network), "xminer-1.0");
        (0..shares).for_each(|_| drop(miner.mine_accepted_share()));
    }
}

pub fn key(pool: &Pool) -> String {
    pool.http("/log/key").unwrap().trim().to_owned()
}

/// The newest head that a pool has signed.
pub fn head(pool: &Pool) -> Head {
    let verifier = LogVerifier::parse(&key(pool)).unwrap();
    wait_for("a signed head", || Some(verifier.head(pool.http("/log/checkpoint")?.as_bytes()).ok()?.0))
}

/// Has a copy brought up to date from a pool and checked.
pub fn verify(pool: &Pool, copy: &Path, more: &[&str]) -> Output {
    let url = format!("http://127.0.0.1:{}/log", pool.builder.http_port);
    let key = key(pool);
    let mut command = Command::new(binary("sluice-verify"));
    command.arg("published").arg(copy).args(["--url", &url, "--key", &key]);
    command.args(more).output().unwrap()
}

/// Has a fresh copy of a pool's log fetched and proven by the node alone, once the pool has come to rest: after a restart.
/// Gives the settings of the pool, which has ended then, and what was proven.
pub fn stop_and_prove(pool: Pool, node: &Node) -> (PoolBuilder, Value) {
    let (status, builder) = pool.stop();
    assert!(status.success());
    let pool = builder.start();
    let (copy, rpc, cookie) =
        (TempDir::new().unwrap(), format!("127.0.0.1:{}", node.rpc_port), node.cookie_file());
    let asked = ["--json", "--rpc", &rpc, "--cookie-file", cookie.to_str().unwrap()];
    let (code, answer) = crate::verify::json(&verify(&pool, copy.path(), &asked));
    assert_eq!((code, &answer["lies"]), (Some(0), &json!([])), "{answer:#}");
    let (status, builder) = pool.stop();
    assert!(status.success());
    (builder, answer)
}

/// What is published says of work, blocks and money what the pool's own log says.
pub fn assert_same_verdict(published: &Value, log: &Value) {
    let verdict =
        ["proven", "lies", "shares", "total_work", "blocks", "statistics", "settlements", "reserve_sats"];
    for part in verdict {
        assert!(!log[part].is_null(), "{part}: {log:#}");
        assert_eq!(published[part], log[part], "{part}");
    }
}

pub fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Copies the files of a folder that has no folders in it.
fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[test]
fn a_published_log_is_proven_and_goes_on_through_kills() {
    let node = Node::regtest();
    let mut pool = PoolBuilder::new(&node).set("difficulty.pot_start", "-32").start();
    let copy = TempDir::new().unwrap();
    for round in 0..3 {
        // More than one bundle each time.
        mine(&pool, &node, 40);
        let output = verify(&pool, copy.path(), &[]);
        let text = words(&output);
        assert_eq!(output.status.code(), Some(0), "round {round}: {text}");
        assert!(text.contains("these entries are under the head that the pool has signed"), "{text}");
        pool = pool.kill().start();
    }
    let (_, level_1) = assert_whole(&pool, copy.path());
    assert!(level_1 > 0, "parts of tiles above the lowest are looked at, too");
    let url = format!("http://127.0.0.1:{}/log/", pool.builder.http_port);
    let key = key(&pool);
    let rpc = format!("127.0.0.1:{}", node.rpc_port);
    let (cookie, blocks) = (node.cookie_file(), node.blocks_dir());
    let asked = ["--rpc", &rpc, "--cookie-file", cookie.to_str().unwrap()];
    let read = ["--blocks", blocks.to_str().unwrap()];
    let [asked, read] = [&asked[..], &read].map(|source| {
        let other = TempDir::new().unwrap();
        let mut command = Command::new(binary("sluice-verify"));
        command
            .arg("published")
            .arg(other.path())
            .args(["--url", &url, "--key", &key, "--json"])
            .args(source);
        let output = command.output().unwrap();
        let answer: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", words(&output)));
        assert_eq!((output.status.code(), &answer["proven"]), (Some(0), &Value::Bool(true)), "{answer:#}");
        // It goes on writing.
        assert!(answer["entries"].as_u64().unwrap() <= head(&pool).size, "{answer:#}");
        let blocks = answer["blocks"].as_array().unwrap();
        assert!(blocks.iter().filter(|block| block["state"] == "in chain").count() > 100, "{answer:#}");
        answer
    });
    assert_eq!((&asked["blocks"], &asked["reserve_sats"]), (&read["blocks"], &read["reserve_sats"]));
    let (status, builder) = pool.stop();
    assert!(status.success());
    Log::read(&builder.data_dir());
}

#[test]
fn lie_a_share_dropped_after_its_receipt() {
    let node = Node::regtest();
    let pool = PoolBuilder::new(&node).set("difficulty.pot_start", "-32").start();
    mine(&pool, &node, 2);
    let earlier = Miner::connect(pool.v1(), &address(3, node.network), "xminer-1.0").mine_accepted_share();
    let (_, builder) = pool.stop();
    let (log, backup) = (builder.data_dir().join("log"), builder.data_dir().join("backup"));
    copy_files(&log, &backup);

    let pool = builder.start();
    let (copy, receipts) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut miner = Miner::connect(pool.v1(), &address(3, node.network), "xminer-1.0");
    let share = miner.mine_accepted_share();
    // By the hash of its header, once it is published, and with all others of the payee, late ones among them.
    let receipt_of = |hash| {
        wait_for("its receipt", || {
            let receipt = pool.http(&format!("/log/share/{}", BlockHash::from_byte_array(hash)))?;
            receipt.contains("\"receipts\"").then_some(receipt)
        })
    };
    let newest = receipt_of(share.hash);
    receipt_of(earlier.hash);
    let parsed: Value = serde_json::from_str(&newest).unwrap_or_else(|_| panic!("{newest}"));
    let index = parsed["receipts"][0]["index"].as_u64().unwrap();
    let all = pool.http(&format!("/log/receipts?payee={}", address(3, node.network))).unwrap();
    let in_bulk: Value = serde_json::from_str(&all).unwrap_or_else(|_| panic!("{all}"));
    let in_bulk = in_bulk["receipts"].as_array().unwrap();
    assert!(in_bulk.len() >= 3 && in_bulk.iter().any(|receipt| receipt["index"] == index), "{all}");
    // Each with the job that it was hashed on.
    let decoded = |receipt: &Value| {
        Entry::decode(&Vec::from_hex(receipt["entry"].as_str().unwrap()).unwrap()).unwrap().0
    };
    for receipt in in_bulk {
        if let Entry::Share(share) = decoded(receipt) {
            let job = in_bulk.iter().find(|receipt| receipt["index"] == share.job).unwrap();
            assert!(matches!(decoded(job), Entry::Job(_)), "{all}");
        }
    }
    fs::write(receipts.path().join("all.json"), &all).unwrap();
    let entry = Vec::from_hex(parsed["receipts"][0]["entry"].as_str().unwrap()).unwrap();
    let nonce = u32::from_str_radix(share.params[4].as_str().unwrap(), 16).unwrap();
    assert!(matches!(Entry::decode(&entry), Ok((Entry::Share(logged), 72)) if logged.nonce == nonce));
    fs::write(receipts.path().join("newest.json"), newest).unwrap();
    assert!(pool.http(&format!("/log/share/{}", "0".repeat(64))).unwrap().contains("no share of that hash"));

    let receipts = ["--receipts", receipts.path().to_str().unwrap()];
    let output = verify(&pool, copy.path(), &receipts);
    let text = words(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let count = in_bulk.len() + 1;
    assert!(text.contains(&format!("the entries of {count} receipts are in the log")), "{text}");

    // The pool goes back to what it was before, and on from there.
    let (_, builder) = pool.stop();
    fs::remove_dir_all(&log).unwrap();
    fs::rename(&backup, &log).unwrap();
    // Not under the same key, unless somebody takes the trouble.
    let pool = builder.launch();
    let health = wait_for("the pool to refuse", || {
        pool.http("/health").filter(|health| health.contains("does not go on from the head"))
    });
    assert!(health.contains("\"ok\":false"), "{health}");
    assert!(pool.http("/log/checkpoint").unwrap().contains("there is no checkpoint yet"));
    let (_, builder) = pool.stop();
    fs::remove_file(builder.data_dir().join("log.head")).unwrap();
    let pool = builder.start();
    mine(&pool, &node, 2);
    let output = verify(&pool, copy.path(), &receipts);
    let text = words(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("two logs were shown"), "{text}");
    // Who has no copy has the receipts.
    let output = verify(&pool, TempDir::new().unwrap().path(), &receipts);
    let text = words(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("entry {index}: share dropped after its receipt")), "{text}");
}

/// That a copy has each file that its pool has below the copy's head, and no other: any server could carry it. How many
/// files with hashes there are, of leaves and above.
fn assert_whole(pool: &Pool, copy: &Path) -> (usize, usize) {
    let verifier = LogVerifier::parse(&key(pool)).unwrap();
    let (Head { size, .. }, _) = verifier.head(&fs::read(copy.join("checkpoint")).unwrap()).unwrap();
    let rows = [(Row::Entries, size), (Row::Level(0), size), (Row::Level(1), size / 256)];
    let counts = rows.map(|(row, count)| {
        let places: Vec<_> = row.places(count).map(|place| place.path()).collect();
        for path in &places {
            let url = format!("http://127.0.0.1:{}/log/{path}", pool.builder.http_port);
            let theirs = stratum_net::fetch::get(&url, 20 << 20).unwrap();
            assert!(fs::read(copy.join(path)).unwrap() == theirs, "{path}");
        }
        places.len()
    });
    assert_eq!(files_in(&copy.join("tile")), counts.iter().sum::<usize>());
    (counts[1], counts[2])
}

/// Files below a folder.
fn files_in(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files_in(&path) } else { 1 }).sum()
}

/// Serves the files of a folder, as any web server would.
pub fn serve_files(dir: &Path) -> SocketAddr {
    let dir = dir.to_owned();
    serve(move |path| fs::read(dir.join(path)).ok())
}

/// Serves what there is at each path.
pub fn serve(page: impl Fn(&str) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = String::new();
            BufReader::new(&stream).read_line(&mut request).unwrap();
            let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
            let (status, body) = match page(path) {
                Some(body) => ("200 OK", body),
                None => ("404 Not Found", Vec::new()),
            };
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
        }
    });
    address
}

#[test]
fn another_server_carries_the_files_and_one_that_lags_is_no_liar() {
    let node = Node::regtest();
    let pool = PoolBuilder::new(&node).start();
    mine(&pool, &node, 60);
    let (old, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    assert_eq!(verify(&pool, old.path(), &[]).status.code(), Some(0));
    mine(&pool, &node, 3);
    assert_eq!(verify(&pool, copy.path(), &[]).status.code(), Some(0));
    let elsewhere = format!("http://{}", serve_files(old.path()));
    let run = |copy: &Path, more: &[&str]| {
        let mut command = Command::new(binary("sluice-verify"));
        command.arg("published").arg(copy).args(["--url", &elsewhere, "--key", &key(&pool)]);
        command.args(more).output().unwrap()
    };
    // What is asked wrong is told apart from what could not be had.
    let empty = TempDir::new().unwrap();
    let output = verify(&pool, copy.path(), &["--receipts", empty.path().to_str().unwrap()]);
    let text = words(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("there is no receipt in"), "{text}");
    let mut command = Command::new(binary("sluice-verify"));
    let output = command.arg("published").arg(old.path()).args(["--key", "x"]).output().unwrap();
    let text = words(&output);
    assert_eq!(output.status.code(), Some(64), "{text}");
    assert!(text.contains("as a pool gives it out on /log/key"), "{text}");
    let third = TempDir::new().unwrap();
    let output = run(third.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    // It has no answer to who a payee's number is, but all that the head covers.
    let fourth = TempDir::new().unwrap();
    let output = run(fourth.path(), &["--light"]);
    let text = words(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("for the server does not tell who they are"), "{text}");
    let mut command = Command::new(binary("sluice-verify"));
    let alone = command.arg("published").arg(fourth.path()).args(["--key", &key(&pool)]).output().unwrap();
    let text = words(&alone);
    assert_eq!(alone.status.code(), Some(2), "{text}");
    assert!(text.contains("is no whole copy, and --url brings it up to date"), "{text}");
    let output = run(copy.path(), &[]);
    let text = words(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("an old head of"), "{text}");
    assert_eq!(verify(&pool, third.path(), &[]).status.code(), Some(0), "it is brought up to date");
}

#[test]
fn lie_an_entry_that_is_none_under_a_signed_head() {
    let dir = TempDir::new().unwrap();
    let (key, _) = LogKey::generate("liar.example/log");
    let mut tiles = Tiles::open(dir.path()).unwrap();
    tiles.append(&[&b"nothing"[..]; WIDTH]).unwrap();
    let head = Head { size: tiles.size(), root: tiles.root().unwrap() };
    fs::write(dir.path().join("checkpoint"), key.sign(&head, bitcoin::Network::Regtest)).unwrap();
    let run = |key: &str| {
        let mut command = Command::new(binary("sluice-verify"));
        command.arg("published").arg(dir.path()).args(["--key", key, "--json"]).output().unwrap()
    };
    let output = run(key.public());
    let text = words(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("a lie: entry 0 under the signed head is none"), "{text}");
    let (_, answer) = crate::verify::json(&output);
    assert_eq!((&answer["lies_total"], &answer["could_not_check"]), (&json!(1), &Value::Null), "{answer:#}");
    let lie = answer["lies"][0]["what"].as_str().unwrap();
    assert!(lie.starts_with("entry 0 under the signed head is none"), "{lie}");

    let (code, answer) = crate::verify::json(&run(LogKey::generate("liar.example/log").0.public()));
    assert_eq!((code, &answer["lies"]), (Some(2), &json!([])), "{answer:#}");
    assert!(answer["could_not_check"].is_string(), "{answer:#}");
}

#[test]
fn what_is_asked_wrong_or_too_early_is_told_and_what_never_changes_says_so() {
    let node = Node::regtest();
    let pool = PoolBuilder::new(&node).set("publish.origin", "\"pool.example/log\"").start();
    mine(&pool, &node, 1);
    assert!(key(&pool).starts_with("pool.example/log+"));
    let size = head(&pool).size;
    for (path, status) in [
        ("/log/checkpoint".to_owned(), "200 OK"),
        ("/log/tile/0/000".to_owned(), "404 Not Found"),
        ("/log/tile/0/000.p/1".to_owned(), "200 OK"),
        ("/log/tile/entries/000.p/2".to_owned(), "200 OK"),
        ("/log/tile/0/../../../../pool.toml".to_owned(), "404 Not Found"),
        ("/log/tile/entries/0".to_owned(), "404 Not Found"),
        (format!("/log/receipt/{}", size - 1), "200 OK"),
        (format!("/log/receipt/{}", u64::MAX), "404 Not Found"),
        ("/log/receipt/x".to_owned(), "400 Bad Request"),
        ("/log/payee/0".to_owned(), "200 OK"),
        ("/log/payee/4".to_owned(), "200 OK"),
        ("/log/payee/5".to_owned(), "404 Not Found"),
        ("/log/payee/-1".to_owned(), "400 Bad Request"),
        (format!("/log/inclusion?index=0&size={size}"), "200 OK"),
        (format!("/log/inclusion?index={size}&size={size}"), "404 Not Found"),
        (format!("/log/consistency?from=1&to={size}"), "200 OK"),
        (format!("/log/consistency?from=0&to={size}"), "404 Not Found"),
        ("/log/consistency?from=1".to_owned(), "400 Bad Request"),
        ("/log/share/xyz".to_owned(), "400 Bad Request"),
        ("/log/receipts?payee=nobody".to_owned(), "400 Bad Request"),
        (format!("/log/receipts?payee={}&from={}", address(9, node.network), u64::MAX), "200 OK"),
    ] {
        let head = pool.http_head(&path).unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {head}");
        let immutable = head.to_lowercase().contains("immutable");
        let expected =
            status == "200 OK" && ["tile", "inclusion", "consistency"].iter().any(|part| path.contains(part));
        assert_eq!(immutable, expected, "{path}: {head}");
    }
    // Another key believes nothing of it.
    let wrong = key(&pool).replace("pool.example", "fool.example");
    let copy = TempDir::new().unwrap();
    let run = |key: &str, url: &str| {
        let mut command = Command::new(binary("sluice-verify"));
        command.arg("published").arg(copy.path()).args(["--url", url, "--key", key]);
        command.output().unwrap()
    };
    let url = format!("http://127.0.0.1:{}/log", pool.builder.http_port);
    assert_eq!(run(&wrong, &url).status.code(), Some(64), "its id is not that of its name");
    let (other, _) = LogKey::generate("pool.example/log");
    assert_eq!(run(other.public(), &url).status.code(), Some(2));
    assert!(words(&run(&key(&pool), "https://127.0.0.1/log")).contains("leave --url out"));
    let nobody = run(&key(&pool), "http://127.0.0.1:1/log");
    assert_eq!(nobody.status.code(), Some(2), "{}", words(&nobody));
    assert_eq!(run(&key(&pool), &url).status.code(), Some(0));
    // A damaged copy is no lie of the pool's: it is fetched again, if there is an address.
    let bundle =
        fs::read_dir(copy.path().join("tile/entries/000.p")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[40] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    let offline = || {
        let mut command = Command::new(binary("sluice-verify"));
        command.arg("published").arg(copy.path()).args(["--key", &key(&pool)]).output().unwrap()
    };
    let damaged = offline();
    assert_eq!(damaged.status.code(), Some(2), "{}", words(&damaged));
    assert_eq!(run(&key(&pool), &url).status.code(), Some(0));
    assert_eq!(offline().status.code(), Some(0));
}

#[test]
fn what_is_paid_and_owed_is_shown_and_adds_up() {
    let node = Node::regtest();
    let pool = PoolBuilder::new(&node)
        .set("payout.min_payout_sats", "20000000")
        .set("payout.window", "\"300\"")
        .set("difficulty.pot_start", "-32")
        .start();
    let page = |path: &str| {
        let text = pool.http(path).unwrap();
        serde_json::from_str::<Value>(&text).unwrap_or_else(|_| panic!("{path}: {text}"))
    };
    let sum = |lines: &Value| {
        lines.as_array().unwrap().iter().map(|line| line["sats"].as_u64().unwrap()).sum::<u64>()
    };
    let fresh = page("/pool/plan");
    assert_eq!((&fresh["basis"]["of"], &fresh["outputs"]), (&json!("finder"), &json!([])));
    for number in 1..=40 {
        let mut miner = Miner::connect(pool.v1(), &address(number, node.network), "NerdMinerV2");
        (0..3).for_each(|_| drop(miner.mine_accepted_share()));
    }
    let plan = wait_for("a plan on the newest block", || {
        let plan = page("/pool/plan");
        (plan["prev_hash"] == node.call("getbestblockhash", &[])).then_some(plan)
    });
    assert_eq!(plan["basis"]["of"], "window", "{plan:#}");
    assert_eq!(sum(&plan["outputs"]), plan["value_sats"].as_u64().unwrap(), "{plan:#}");
    // The smaller a coinbase, the more of the reward it holds in reserve.
    let ratios = SizeClass::ALL.map(|class| plan["reserve_ratios"][class.to_string()].as_f64().unwrap());
    assert!(ratios.is_sorted_by(|smaller, larger| smaller >= larger) && ratios[0] > 0.0, "{ratios:?}");
    let owed = page("/pool/ledger");
    assert!(owed["owed_sats"].as_u64().unwrap() > 0, "{owed:#}");
    assert_eq!(sum(&owed["credits"]), owed["owed_sats"].as_u64().unwrap(), "{owed:#}");
    let blocks = page("/pool/blocks");
    let blocks = blocks.as_array().unwrap();
    assert!(blocks.len() > 10);
    for block in blocks {
        assert_eq!(sum(&block["outputs"]), block["value_sats"].as_u64().unwrap(), "{block:#}");
    }
    // All blocks are shown as long as there are few.
    let reserves: u64 = blocks
        .iter()
        .filter(|block| block["state"] == "in_chain" || block["state"] == "matured")
        .map(|block| block["reserve_sats"].as_u64().unwrap())
        .sum();
    assert!(blocks.len() == 100 || reserves == owed["owed_sats"].as_u64().unwrap(), "{reserves} {owed:#}");
    let window = page("/pool/window");
    let work = |value: &Value| value.as_str().unwrap().parse::<u128>().unwrap();
    let payees = window["payees"].as_array().unwrap();
    assert_eq!(payees.iter().map(|payee| work(&payee["work"])).sum::<u128>(), work(&window["work"]));
    assert!(
        payees.iter().all(|payee| payee["address"].as_str().unwrap().starts_with("bcrt1q")),
        "{window:#}"
    );
}
