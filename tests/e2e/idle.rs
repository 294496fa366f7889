//! Thousands of miners that only hold their connection: none is closed, and all hear of a new tip.

use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process};
use serde_json::Value;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{PoolBuilder, address};
use sluice_tests::support::{binary, rounds, wait_for};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// Open files that a process needs for other things than its connections.
const OTHER_FILES: u64 = 100;
/// Progress that must be made within one wait.
const STEP: usize = 1_000;

/// `fleet` as a process; killed when dropped.
struct Fleet {
    process: Child,
    /// The newest of the lines that it writes every few seconds.
    line: Arc<Mutex<String>>,
}

impl Fleet {
    fn idle(url: &str, user: &str, connections: usize) -> Self {
        let mut process = Command::new(binary("fleet"))
            .args(["--url", url, "--user", user, "--idle", "--json"])
            .args(["--connections", &connections.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let line = Arc::new(Mutex::new(String::new()));
        let (lines, newest) = (BufReader::new(process.stderr.take().unwrap()).lines(), line.clone());
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| *newest.lock().unwrap() = line)
        });
        Self { process, line }
    }

    fn wait_for_line(&self, part: &str) {
        wait_for(&format!("fleet to say \"{part}\""), || {
            self.line.lock().unwrap().contains(part).then_some(())
        });
    }

    /// Ends it as Ctrl-C would; gives its summary.
    fn stop(mut self) -> Value {
        kill_process(Pid::from_child(&self.process), Signal::INT).unwrap();
        let mut summary = String::new();
        self.process.stdout.take().unwrap().read_to_string(&mut summary).unwrap();
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}: {summary}");
        serde_json::from_str(&summary).unwrap()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- last line of fleet ---\n{}", self.line.lock().unwrap());
        }
    }
}

/// How many connections: 2,000, or 10,000 in the long run; fewer where the machine does not allow as many files.
fn connections() -> usize {
    let files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX).saturating_sub(OTHER_FILES);
    rounds(2_000, 10_000).min(usize::try_from(files).unwrap())
}

/// They come a thousand a second, all are taken, none is closed, and each has its job of a new tip.
fn thousands_stay(protocol: &str) {
    let node = Node::regtest();
    let pool = PoolBuilder::new(&node).with_v2().start();
    let url = match protocol {
        "v1" => format!("stratum+tcp://{}", pool.v1()),
        _ => format!("stratum2+tcp://{}/{}", pool.builder.v2(), pool.builder.authority()),
    };
    let count = connections();
    let (empty_kib, used) = (pool.resident_kib(), pool.processor_time());
    let user = format!("{}.idle", address(1, node.network));
    let fleet = Fleet::idle(&url, &user, count);
    let open = || pool.metric(&format!("sluice_pool_connections{{protocol=\"{protocol}\"}}"));
    for step in (STEP..count).step_by(STEP).chain([count]) {
        wait_for(&format!("{step} connections"), || (open() >= step as f64).then_some(()));
    }
    fleet.wait_for_line(&format!("fleet: {count} connections, "));
    let bytes_each = (pool.resident_kib() - empty_kib) * 1_024 / count as u64;
    let used_each = (pool.processor_time() - used) / u32::try_from(count).unwrap();
    let tip = node.generate(1, &address(2, node.network)).remove(0);
    fleet.wait_for_line(&format!("tip …{} on {count}", &tip[tip.len() - 8..]));

    assert_eq!(open(), count as f64);
    let metrics = pool.metrics();
    for family in ["sluice_pool_closes_total{", "sluice_pool_refusals_total{"] {
        let mut counters = metrics.lines().filter(|line| line.starts_with(family));
        assert!(counters.all(|line| line.ends_with(" 0")), "none was closed or refused:\n{metrics}");
    }
    let summary = fleet.stop();
    println!("{count} over {protocol}, {bytes_each} bytes and {used_each:?} of processor each: {summary}");
    assert_eq!((&summary["handshakes"], &summary["disconnects"]), (&count.into(), &serde_json::json!({})));
    let newest = summary["tips"].as_array().unwrap().last().unwrap();
    assert_eq!((&newest["prev_hash"], &newest["connections"]), (&tip.into(), &count.into()));
}

#[test]
fn n05_thousands_of_v1_connections_are_taken_stay_and_all_hear_of_a_new_tip() {
    thousands_stay("v1");
}

#[test]
fn n05_n06_thousands_of_v2_connections_are_taken_stay_and_all_hear_of_a_new_tip() {
    thousands_stay("v2");
}
