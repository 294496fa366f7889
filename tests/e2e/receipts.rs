//! A proxy keeps the books of what it has forwarded, and the pool's receipts for it, without anybody asking.

use super::export::assert_same_from_a_file_of_a_copy;
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use serde_json::Value;
use share_accounting::publish::journal::{Fate, Line};
use sluice_tests::support::binary;
use sluice_tests::support::miner::Miner;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{PoolBuilder, address};
use sluice_tests::support::proxy::{Proxy, ProxyBuilder};
use sluice_tests::support::wait_for;
use sluice_tests::support::witness::Witness;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

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
    let key = pool.http("/log/key").unwrap().trim().to_owned();
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
    assert_eq!(health["reasons"], serde_json::json!([]), "{health}");

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
    assert_eq!((output.status.code(), &answer["lies_total"]), (Some(1), &serde_json::json!(1)), "{answer:#}");
    assert!(answer["lies"].to_string().contains(&lost.hash.to_string()), "{answer:#}");
}

#[test]
fn what_witnesses_of_the_owners_trust_have_not_cosigned_is_told() {
    const UNCOSIGNED: &str = "sluice_proxy_log_uncosigned_seconds";
    let node = Node::regtest();
    let pool = PoolBuilder::new(&node).easiest().with_v2().start();
    let key = pool.http("/log/key").unwrap().trim().to_owned();
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
