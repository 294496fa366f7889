//! `sluice-verify export`, and the audit of what it has written: the same as that of the log.

use super::published::{key, mine, verify, words};
use super::verify::{forge, last_share};
use serde_json::Value;
use sluice_tests::support::binary;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::PoolBuilder;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use stratum::target::Work;
use tempfile::TempDir;

fn run(args: &[&dyn AsRef<OsStr>]) -> Output {
    Command::new(binary("sluice-verify")).args(args.iter().map(|arg| arg.as_ref())).output().unwrap()
}

fn answer(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", words(output)))
}

/// Exports a log, and has the file audited, and the log: the answers are the same.
pub fn assert_same_from_a_file(log: &Path) -> Value {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("log.parquet");
    let exported = run(&[&"export", &log, &file, &"--newest"]);
    assert!(exported.status.success(), "{}", words(&exported));
    let [of_log, of_file] = [log, &file].map(|at| run(&[&"log", &at, &"--json"]));
    assert_eq!(answer(&of_file), answer(&of_log), "{}", words(&of_file));
    assert_eq!(of_file.status.code(), of_log.status.code());
    answer(&of_file)
}

/// The same of a copy of what a pool has published, with whatever else is asked of it.
pub fn assert_same_from_a_file_of_a_copy(copy: &Path, key: &str, more: &[&str]) -> Value {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("log.parquet");
    let exported = run(&[&"export", &copy, &file, &"--key", &key]);
    assert!(exported.status.success(), "{}", words(&exported));
    let published = |at: &Path| {
        let mut args: Vec<&dyn AsRef<OsStr>> = vec![&"published", &at, &"--key", &key, &"--json"];
        args.extend(more.iter().map(|arg| arg as &dyn AsRef<OsStr>));
        run(&args)
    };
    let [of_copy, of_file] = [copy, &file].map(published);
    assert_eq!(answer(&of_file), answer(&of_copy), "{}", words(&of_file));
    assert_eq!(of_file.status.code(), of_copy.status.code());
    answer(&of_file)
}

#[test]
fn an_exported_log_is_audited_as_the_log_is_and_what_is_altered_is_found() {
    let node = Node::regtest();
    let pool = PoolBuilder::new(&node).set("difficulty.pot_start", "-32").start();
    mine(&pool, &node, 40);
    let (copy, key) = (TempDir::new().unwrap(), key(&pool));
    let output = verify(&pool, copy.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    let signed = assert_same_from_a_file_of_a_copy(copy.path(), &key, &[]);
    assert_eq!(signed["proven"], true, "{signed:#}");
    let not_signed = "that the pool stands by these entries";
    assert!(!signed["not_proven"].to_string().contains(not_signed), "{signed:#}");

    let log = pool.data_dir().join("log");
    let (status, builder) = pool.stop();
    assert!(status.success());
    let unsigned = assert_same_from_a_file(&log);
    assert_eq!(unsigned["proven"], true, "{unsigned:#}");
    assert!(unsigned["not_proven"].to_string().contains(not_signed), "{unsigned:#}");

    // A lie in the log is one in the file.
    let forged = builder.data_dir().join("forged");
    forge(&log, &forged, |entries| {
        let (_, share) = last_share(entries);
        share.total_work = Work(share.total_work.0 + 1);
    });
    let lie = assert_same_from_a_file(&forged);
    assert!(lie["lies"].to_string().contains("the log contradicts itself"), "{lie:#}");

    // Who alters the file is not the pool.
    let file = copy.path().join("log.parquet");
    assert!(run(&[&"export", &copy.path(), &file, &"--key", &key]).status.success());
    let good = fs::read(&file).unwrap();
    let refused = |bytes: &[u8], words_of_it: &str| {
        fs::write(&file, bytes).unwrap();
        let output = run(&[&"published", &file, &"--key", &key]);
        let text = words(&output);
        assert!(output.status.code() == Some(2) && text.contains(words_of_it), "{text}");
    };
    refused(&good[..good.len() / 2], "is no export of a log");
    refused(&good[..4], "is no export of a log");
    refused(b"", "is no export of a log");
    let mut altered = good;
    let at = altered.len() / 2;
    altered[at..at + 64].fill(b'0');
    refused(&altered, "could not check");
    let output = run(&[&"published", &file, &"--key", &key, &"--url", &"http://127.0.0.1:1/log"]);
    assert!(
        output.status.code() == Some(2) && words(&output).contains("only a folder can be brought up to date")
    );
}
