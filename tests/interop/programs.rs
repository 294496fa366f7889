//! The reference implementation's programs on our pool; started by `tests/interop/run-programs`, which installs them.
//!
//! Each has a chain of its own, on which nobody else mines: every block there is theirs.
#![forbid(unsafe_code)]

use bitcoin::ScriptBuf;
use sluice_tests::support::log::Log;
use sluice_tests::support::node::Node;
use sluice_tests::support::paid::check_chain;
use sluice_tests::support::pool::{Pool, PoolBuilder, address};
use sluice_tests::support::{binary, free_ports, wait_for};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What has to be seen of each program.
const SHARES: f64 = 20.0;
const BLOCKS: u64 = 2;
/// Their programs measure themselves first, and take their time.
const PATIENCE: Duration = Duration::from_secs(240);
/// Hashes of a block on a private signet, times the window of the pools here.
const WINDOW: u128 = 2 * 4_838_420;

/// A program that ends with this value; what it says goes to a file.
struct Running(Child);

impl Running {
    fn start(command: &mut Command, log: &Path) -> Self {
        let log = File::create(log).expect("a log can be made");
        let command =
            command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let programs = PathBuf::from(std::env::args().nth(1).expect("the folder of the reference programs"));
    let logs = programs.parent().expect("target/interop").join("logs");
    std::fs::create_dir_all(&logs).expect("a folder for logs");
    let translated = behind_the_translator(&programs, &logs);
    let device = mining_device(&programs, &logs);
    println!("interop: {translated}; {device}");
}

fn pool(node: &Node) -> Pool {
    PoolBuilder::new(node)
        .set("payout.window", "\"2\"")
        .set("difficulty.pot_start", "-13")
        .set("difficulty.pot_min", "-13")
        .set("difficulty.shares_per_minute", "120")
        .with_v2()
        .start()
}

/// A V1 miner behind their translator.
fn behind_the_translator(programs: &Path, logs: &Path) -> String {
    let node = Node::signet();
    let pool = pool(&node);
    let payee = address(1, node.network);
    let ([listen], upstream) = (free_ports(), pool.builder.v2());
    let config = logs.join("translator.toml");
    let text = format!(
        "downstream_address = \"127.0.0.1\"\ndownstream_port = {listen}\n\
         max_supported_version = 2\nmin_supported_version = 2\ndownstream_extranonce2_size = 4\n\
         verify_payout = false\naggregate_channels = true\nsupported_extensions = []\n\
         [downstream_difficulty_config]\nmin_individual_miner_hashrate = 500_000.0\nshares_per_minute = 60.0\n\
         enable_vardiff = true\njob_keepalive_interval_secs = 60\n\
         [[upstreams]]\naddress = \"{}\"\nport = {}\nauthority_pubkey = \"{}\"\nuser_identity = \"{payee}\"\n",
        upstream.ip(),
        upstream.port(),
        pool.builder.authority(),
    );
    std::fs::write(&config, text).expect("a settings file can be written");
    let translator = programs.join("translator_sv2");
    let _translator =
        Running::start(Command::new(translator).arg("-c").arg(&config), &logs.join("translator.log"));
    wait_for("the translator", || std::net::TcpStream::connect(("127.0.0.1", listen)).ok());
    let url = format!("stratum+tcp://127.0.0.1:{listen}");
    let miner = ["--url", &url, "--user", "any.name", "--hashrate", "1M"];
    let _miner =
        Running::start(Command::new(binary("fleet")).args(miner), &logs.join("translated-miner.log"));
    seen("translator_sv2", &node, pool, &payee)
}

/// Their mining device, which opens a standard channel.
fn mining_device(programs: &Path, logs: &Path) -> String {
    let node = Node::signet();
    let pool = pool(&node);
    let payee = address(2, node.network);
    let device = programs.join("mining_device");
    let (place, key) = (pool.builder.v2().to_string(), pool.builder.authority().to_string());
    let arguments = [
        "--address-pool",
        &place,
        "--pubkey-pool",
        &key,
        "--id-user",
        &payee,
        "--cores",
        "1",
        "--handicap",
        "10",
    ];
    let _device = Running::start(Command::new(device).args(arguments), &logs.join("mining_device.log"));
    seen("mining_device", &node, pool, &payee)
}

/// Waits until enough was seen, then reads it back from the node and the log.
fn seen(name: &str, node: &Node, pool: Pool, payee: &str) -> String {
    let accepted = || pool.metric("sluice_pool_shares_total{protocol=\"v2\",result=\"accepted\"}");
    let started = Instant::now();
    while accepted() < SHARES || node.height() < BLOCKS {
        assert!(started.elapsed() < PATIENCE, "{name}: {} shares, {} blocks", accepted(), node.height());
        std::thread::sleep(Duration::from_millis(200));
    }
    let shares = accepted();
    let (status, settings) = pool.stop();
    assert!(status.success(), "a pool that is told to stop ends in order");
    let blocks = check_chain(node, &Log::read(&settings.data_dir()), WINDOW);
    let payee: bitcoin::Address<bitcoin::address::NetworkUnchecked> =
        payee.parse().expect("an address of ours");
    let script: ScriptBuf = payee.assume_checked().script_pubkey();
    assert!(
        blocks.iter().all(|paid| paid.as_slice() == std::slice::from_ref(&script)),
        "{name}: each block pays its payee alone"
    );
    format!("{name}: {shares} shares accepted, {} blocks accepted and paid", blocks.len())
}
