//! A proxy keeps the books of what it has forwarded, and the pool's receipts for it, without anybody asking.

use super::export::assert_same_from_a_file_of_a_copy;
use super::published::{key, serve};
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use proxy::receipts::expected::MISSING_AFTER;
use serde_json::{Value, json};
use share_accounting::entry::Entry;
use share_accounting::publish::journal::{Fate, Line};
use share_accounting::publish::receipt::Receipts;
use sluice_tests::support::binary;
use sluice_tests::support::miner::Miner;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{Pool, PoolBuilder, address, files};
use sluice_tests::support::proxy::{Proxy, ProxyBuilder};
use sluice_tests::support::wait_for;
use sluice_tests::support::witness::Witness;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use stratum_net::fetch;

const KEPT: &str = "sluice_proxy_receipts_total{result=\"kept\"}";
const MISSING: &str = "sluice_proxy_receipts_total{result=\"missing\"}";

fn mine(proxy: &Proxy, shares: usize) {
    for machine in ["1", "2"] {
        let mut miner = Miner::connect(proxy.v1(), machine, "cgminer/4.12.0");
        (0..shares).for_each(|_| drop(miner.mine_accepted_share()));
    }
}

/// Waits until each share that the pool has acknowledged to this run of the proxy is found in the log.
fn wait_for_receipts(proxy: &Proxy) -> f64 {
    wait_for("all receipts", || {
        let accepted = proxy.forwarded().accepted;
        (accepted > 0.0 && proxy.metric(KEPT) >= accepted).then_some(accepted)
    })
}

/// The one folder of an upstream.
fn folder(data_dir: &Path) -> PathBuf {
    let mut paths = fs::read_dir(data_dir).unwrap().map(|entry| entry.unwrap().path());
    paths.find(|path| path.is_dir()).unwrap()
}

fn journal(folder: &Path) -> Vec<Line> {
    let text = fs::read_to_string(folder.join("shares.jsonl")).unwrap();
    text.lines().filter_map(Line::parse).collect()
}

#[test]
fn receipts_come_by_themselves_also_after_a_crash_and_the_log_has_every_one() {
    let node = Node::regtest();
    let pool = PoolBuilder::new(&node).easiest().with_v2().start();
    let key = key(&pool);
    let url = format!("http://127.0.0.1:{}/log", pool.builder.http_port);
    let user = format!("{}.farm", address(1, node.network));
    let proxy = ProxyBuilder::new()
        .easiest()
        .upstream_for(pool.builder.v2(), pool.builder.authority(), &user)
        .with_receipts(&url, &key)
        .start();
    mine(&proxy, 5);
    let before = wait_for_receipts(&proxy);
    mine(&proxy, 1);
    let builder = proxy.kill();
    let data_dir = builder.data_dir();
    let proxy = builder.start();
    mine(&proxy, 5);
    let after = wait_for_receipts(&proxy);
    assert_eq!(proxy.metric(MISSING), 0.0);
    let health: Value = serde_json::from_str(&proxy.http("/health").unwrap()).unwrap();
    assert_eq!(health["reasons"], json!([]), "{health}");

    let folder = folder(&data_dir);
    let lines = journal(&folder);
    let accepted = lines.iter().filter(|line| line.fate == Fate::Accepted).count();
    assert!(accepted as f64 >= before + after, "{accepted} of {before} and {after}");
    assert!(lines.iter().all(|line| line.user == user));
    let copy = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary("sluice-verify"));
    command.arg("published").arg(copy.path()).args(["--url", &url, "--key", &key, "--json"]);
    command.arg("--receipts").arg(folder.join("receipts")).arg("--journal").arg(&folder);
    let output = command.output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{answer:#}");
    assert!(answer["receipts_included"].as_f64().unwrap() >= before + after, "{answer:#}");
    assert!(answer["journal_included"].as_f64().unwrap() >= before, "{answer:#}");
    let receipts = folder.join("receipts");
    let with = ["--receipts", receipts.to_str().unwrap(), "--journal", folder.to_str().unwrap()];
    assert_same_from_a_file_of_a_copy(copy.path(), &key, &with);

    // A share that was acknowledged long ago, says the journal.
    let lost = Line { at: 1, hash: BlockHash::from_byte_array([7; 32]), ..lines[0].clone() };
    let mut file = fs::OpenOptions::new().append(true).open(folder.join("shares.jsonl")).unwrap();
    file.write_all(Line { fate: Fate::Accepted, ..lost.clone() }.text().as_bytes()).unwrap();
    let output = command.output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &answer["lies_total"]), (Some(1), &json!(1)), "{answer:#}");
    assert!(answer["lies"].to_string().contains(&lost.hash.to_string()), "{answer:#}");
}

/// Serves the log of a pool without one share: the first that is asked for. Its index is told then.
fn serve_without_a_share(pool: &Pool) -> (SocketAddr, Arc<OnceLock<u64>>) {
    let (port, lost) = (pool.builder.http_port, Arc::new(OnceLock::new()));
    let told = lost.clone();
    let page = move |path: &str| {
        let page = fetch::get(&format!("http://127.0.0.1:{port}/{path}"), 8 << 20).ok()?;
        let Ok(mut kept) = serde_json::from_slice::<Receipts>(&page) else { return Some(page) };
        kept.receipts.retain(|receipt| match Entry::decode(&receipt.entry) {
            Ok((Entry::Share(_), _)) => *lost.get_or_init(|| receipt.index) != receipt.index,
            _ => true,
        });
        Some(serde_json::to_vec(&kept).unwrap())
    };
    (serve(page), told)
}

/// Sets the times in a proxy's books back, as though it had stood still since.
fn age(folder: &Path, by: Duration) {
    let by = u64::try_from(by.as_millis()).unwrap();
    let older = |line: Line| Line { at: line.at - by, ..line }.text();
    let lines: String = journal(folder).into_iter().map(older).collect();
    fs::write(folder.join("shares.jsonl"), lines).unwrap();
    for file in files(&folder.join("receipts")).iter().filter(|name| name.ends_with(".begin")) {
        // The first entry that was looked at, and since when.
        let path = folder.join("receipts").join(file);
        let text = fs::read_to_string(&path).unwrap();
        let (next, since) = text.trim().split_once(' ').unwrap();
        fs::write(path, format!("{next} {}\n", since.parse::<u64>().unwrap() - by)).unwrap();
    }
}

#[test]
fn an_acknowledged_share_that_the_log_does_not_show_is_told_once_it_is_late() {
    let node = Node::signet();
    let pool = PoolBuilder::new(&node).easiest().with_v2().start();
    let (liar, lost) = serve_without_a_share(&pool);
    let proxy = ProxyBuilder::new()
        .easiest()
        .upstream_for(pool.builder.v2(), pool.builder.authority(), &address(1, node.network))
        .with_receipts(&format!("http://{liar}/log"), &key(&pool))
        .start();
    mine(&proxy, 4);
    wait_for("all receipts but one", || (proxy.metric(KEPT) == 7.0).then_some(()));
    assert_eq!((proxy.forwarded().accepted, proxy.metric(MISSING)), (8.0, 0.0), "it may yet come");
    assert_eq!(proxy.health().unwrap()["reasons"], json!([]));

    let builder = proxy.kill();
    age(&folder(&builder.data_dir()), MISSING_AFTER + Duration::from_secs(30));
    let proxy = builder.start();
    wait_for("the share to be missing", || (proxy.metric(MISSING) == 1.0).then_some(()));
    let reasons = wait_for("/health to say so", || {
        let reasons = proxy.health()?["reasons"].clone();
        reasons.to_string().contains("acknowledged").then_some(reasons)
    });
    let said = reasons[0].as_str().unwrap();
    assert!(said.contains("1 shares that were acknowledged are not among the"), "{said}");
    // It is the very one, says the pool, which has it.
    let hash = said.split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() == 64).expect(said);
    let there = pool.http(&format!("/log/share/{hash}")).unwrap();
    let there: Receipts = serde_json::from_str(&there).unwrap_or_else(|_| panic!("{there}"));
    assert_eq!(there.receipts[0].index, *lost.get().unwrap());
    // Nobody takes that back, and the others are there.
    mine(&proxy, 2);
    wait_for_receipts(&proxy);
    assert_eq!((proxy.metric(MISSING), &proxy.health().unwrap()["reasons"]), (1.0, &reasons));
}

#[test]
fn what_witnesses_of_the_owners_trust_have_not_cosigned_is_told() {
    const UNCOSIGNED: &str = "sluice_proxy_log_uncosigned_seconds";
    let node = Node::regtest();
    let pool = PoolBuilder::new(&node).easiest().with_v2().start();
    let key = key(&pool);
    let witness = Witness::start("one.example", &key);
    let (_, builder) = pool.stop();
    let pool = builder.set("publish.witnesses", &format!("[{}]", witness.setting())).start();
    let url = format!("http://127.0.0.1:{}/log", pool.builder.http_port);
    let proxy = ProxyBuilder::new()
        .easiest()
        .upstream_for(pool.builder.v2(), pool.builder.authority(), &address(1, node.network))
        .with_receipts(&url, &key)
        .witnessed_by(&[&witness.key])
        .start();
    mine(&proxy, 3);
    let accepted = wait_for_receipts(&proxy);
    // Heads are cosigned every ten seconds.
    wait_for("what was mined to be cosigned", || {
        let cosigned = pool.http("/log/cosigned")?.lines().nth(1)?.parse::<f64>().ok()?;
        (cosigned >= accepted && proxy.metric(UNCOSIGNED) == 0.0).then_some(())
    });
    witness.kill();
    mine(&proxy, 3);
    wait_for("what nobody cosigns any more", || (proxy.metric(UNCOSIGNED) > 12.0).then_some(()));
}
