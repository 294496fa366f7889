//! Witnesses cosign the heads of a pool's log, and who trusts one sees whether it sees the same log.

use super::export::assert_same_from_a_file_of_a_copy;
use serde_json::{Value, json};
use sluice_tests::support::miner::Miner;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{Pool, PoolBuilder, address};
use sluice_tests::support::witness::Witness;
use sluice_tests::support::{binary, wait_for};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

fn mine(pool: &Pool, node: &Node) {
    let mut miner = Miner::connect(pool.v1(), &address(1, node.network), "xminer-1.0");
    (0..5).for_each(|_| drop(miner.mine_accepted_share()));
}

/// Entries under the head that enough witnesses have cosigned.
fn cosigned(pool: &Pool) -> Option<u64> {
    pool.http("/log/cosigned")?.lines().nth(1)?.parse().ok()
}

fn verify(pool: &Pool, copy: &Path, log_key: &str, witnesses: &[&str]) -> (Option<i32>, Value) {
    verify_with(&[], pool, copy, log_key, witnesses)
}

fn verify_with(
    more: &[&str],
    pool: &Pool,
    copy: &Path,
    log_key: &str,
    witnesses: &[&str],
) -> (Option<i32>, Value) {
    let url = format!("http://127.0.0.1:{}/log", pool.builder.http_port);
    let mut command = Command::new(binary("sluice-verify"));
    command.arg("published").arg(copy).args(["--json", "--url", &url, "--key", log_key]).args(more);
    for key in witnesses {
        command.args(["--witness", key]);
    }
    let output = command.output().unwrap();
    let answer = serde_json::from_slice(&output.stdout);
    (output.status.code(), answer.unwrap_or_else(|_| panic!("{}", output.stderr.escape_ascii())))
}

#[test]
fn heads_are_cosigned_by_as_many_witnesses_as_the_rules_want_and_again_after_restarts() {
    let node = Node::regtest();
    let pool = PoolBuilder::new(&node).easiest().start();
    let log_key = pool.http("/log/key").unwrap().trim().to_owned();
    let [one, two, three] =
        ["one.example", "two.example", "three.example"].map(|name| Witness::start(name, &log_key));
    let all = format!("[{}, {}, {}]", one.setting(), two.setting(), three.setting());
    let third = three.key.clone();
    three.kill();
    let (_, builder) = pool.stop();
    let pool = builder.set("publish.witnesses", &all).set("publish.witnesses_needed", "2").start();
    mine(&pool, &node);
    let size = wait_for("a cosigned head", || cosigned(&pool));
    let copy = TempDir::new().unwrap();
    let (code, answer) = verify(&pool, copy.path(), &log_key, &[&one.key, &two.key]);
    assert_eq!(
        (code, &answer["cosigned"]["needed"], &answer["cosigned"]["of"]),
        (Some(0), &json!(2), &json!(3)),
        "{answer:#}"
    );
    assert_eq!(answer["cosigned"]["by"].as_array().unwrap().len(), 2, "{answer:#}");
    assert_same_from_a_file_of_a_copy(copy.path(), &log_key, &["--witness", &one.key]);
    let (code, answer) = verify(&pool, copy.path(), &log_key, &[&third]);
    assert!(code == Some(2) && answer["not_proven"].to_string().contains("three.example"), "{answer:#}");

    // By samples, too; the rules are not read then.
    let fresh = TempDir::new().unwrap();
    let light = |witnesses: &[&str]| verify_with(&["--light"], &pool, fresh.path(), &log_key, witnesses);
    let (code, answer) = light(&[&one.key]);
    assert_eq!((code, &answer["cosigned"]["needed"]), (Some(0), &Value::Null), "{answer:#}");
    assert_eq!(answer["cosigned"]["by"][0]["witness"], "one.example", "{answer:#}");
    assert!(answer["not_proven"].to_string().contains("as its rules want"), "{answer:#}");
    let (code, answer) = light(&[&third]);
    assert!(code == Some(2) && answer["not_proven"].to_string().contains("three.example"), "{answer:#}");

    // What is no cosigned head counts for nothing, and does not stay.
    std::fs::write(copy.path().join("cosigned"), "<html>log in first</html>").unwrap();
    let (code, answer) = verify(&pool, copy.path(), &log_key, &[&one.key]);
    assert_eq!((code, &answer["cosigned"]["entries"]), (Some(0), &json!(cosigned(&pool))), "{answer:#}");
    let mut offline = Command::new(binary("sluice-verify"));
    offline.arg("published").arg(copy.path()).args(["--key", &log_key]);
    assert_eq!(offline.output().unwrap().status.code(), Some(0));
    std::fs::write(copy.path().join("cosigned"), "<html>log in first</html>").unwrap();
    assert_eq!(offline.output().unwrap().status.code(), Some(2));

    // A witness that comes back knows what it has cosigned, and a pool that does asks it.
    let (port, dir) = one.kill();
    let one = Witness::at("one.example", &log_key, port, dir);
    let pool = pool.kill().start();
    mine(&pool, &node);
    let later = wait_for("another cosigned head", || cosigned(&pool).filter(|later| *later > size));
    assert_eq!(pool.metric("sluice_pool_witnesses"), 2.0, "of {later} entries");
    // One is too few.
    two.kill();
    mine(&pool, &node);
    wait_for("the pool to miss a witness", || (pool.metric("sluice_pool_witnesses") == 1.0).then_some(()));
    let fresh = TempDir::new().unwrap();
    let (code, answer) = verify(&pool, fresh.path(), &log_key, &[&one.key]);
    assert_eq!(code, Some(0), "the last head that two have cosigned is shown: {answer:#}");
    assert_eq!(answer["cosigned"]["entries"], json!(cosigned(&pool)), "{answer:#}");
}
