//! `sluice-pool` as a process.

use super::node::Node;
use super::{PATIENCE, binary, free_ports, wait_for};
use bitcoin::Network;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tempfile::TempDir;

/// Settings of a test pool; [`PoolBuilder::start`] makes a process of them.
pub struct PoolBuilder {
    toml: String,
    dir: Arc<TempDir>,
    /// Port for V1 miners.
    pub v1_port: u16,
    /// Port for /health and /metrics.
    pub http_port: u16,
}

/// A running pool; killed when dropped.
pub struct Pool {
    /// What it was started from.
    pub builder: PoolBuilder,
    process: Child,
    log: Arc<Mutex<String>>,
    log_reader: Option<JoinHandle<()>>,
}

/// Addresses of the tests: witness version 0, one per number.
pub fn address(number: u8, network: Network) -> String {
    let program = bitcoin::WitnessProgram::new(bitcoin::WitnessVersion::V0, &[number; 20]).unwrap();
    bitcoin::Address::from_witness_program(program, bitcoin::KnownHrp::from(network)).to_string()
}

/// Number of the address that holds the reserve.
pub const RESERVE: u8 = 200;

impl PoolBuilder {
    /// A pool on a node, everything else as the settings' defaults, shares at any difficulty.
    pub fn new(node: &Node) -> Self {
        let dir = Arc::new(TempDir::new().unwrap());
        let [v1_port, http_port] = free_ports();
        let mut builder = Self { toml: String::new(), dir, v1_port, http_port };
        builder.toml = format!(
            r#"network = "{network}"
data_dir = "{data}"
shutdown_grace_s = 10
v1.listen = ["127.0.0.1:{v1_port}"]
http.listen = "127.0.0.1:{http_port}"
payout.reserve_address = "{reserve}"
difficulty.pot_min = -32
difficulty.pot_start = -13
"#,
            network = if node.network == Network::Signet { "signet" } else { "regtest" },
            data = builder.data_dir().display(),
            reserve = address(RESERVE, node.network),
        );
        builder.node(node)
    }

    /// Names a (further) node.
    pub fn node(mut self, node: &Node) -> Self {
        self.toml.push_str(&format!(
            "[[node]]\nrpc = \"127.0.0.1:{}\"\ncookie_file = \"{}\"\nzmq_hashblock = \"tcp://127.0.0.1:{}\"\n",
            node.rpc_port,
            node.cookie_file().display(),
            node.zmq_port
        ));
        self
    }

    /// Puts a line before the tables; a line for the same key is replaced.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        let start = format!("{key} = ");
        let kept: Vec<&str> = self.toml.lines().filter(|line| !line.starts_with(&start)).collect();
        self.toml = format!("{key} = {value}\n{}\n", kept.join("\n"));
        self
    }

    /// Replaces a piece of text wherever it stands.
    pub fn replace(mut self, old: &str, new: &str) -> Self {
        self.toml = self.toml.replace(old, new);
        self
    }

    /// The folder with log, ledger and blocks.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn settings_file(&self) -> PathBuf {
        let path = self.dir.path().join("pool.toml");
        std::fs::write(&path, &self.toml).unwrap();
        path
    }

    fn command(&self, word: &str) -> Command {
        let mut command = Command::new(binary("sluice-pool"));
        command.arg(word).arg("--config").arg(self.settings_file()).stdin(Stdio::null());
        command
    }

    /// Runs `sluice-pool WORD` to its end.
    pub fn output(&self, word: &str) -> Output {
        self.command(word).output().unwrap()
    }

    /// Starts the pool and waits until it serves.
    pub fn start(self) -> Pool {
        let pool = self.launch();
        pool.wait_until_healthy();
        pool
    }

    /// Starts the pool without waiting for anything.
    pub fn launch(self) -> Pool {
        let mut process = self.command("run").stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let sink = log.clone();
        let log_reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = sink.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        Pool { builder: self, process, log, log_reader: Some(log_reader) }
    }
}

impl Pool {
    /// Waits until /health says that miners have work.
    pub fn wait_until_healthy(&self) {
        wait_for("the pool to be healthy", || self.health().filter(|report| report["ok"] == true));
    }

    /// Where V1 miners connect.
    pub fn v1(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.builder.v1_port))
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does something while nobody reads the log: soon there is no room for another line.
    pub fn with_log_unread<T>(&self, run: impl FnOnce() -> T) -> T {
        let _unread = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        run()
    }

    /// All that it has logged, once it has ended.
    pub fn whole_log(&mut self) -> String {
        if let Some(reader) = self.log_reader.take() {
            reader.join().unwrap();
        }
        self.log()
    }

    /// Waits for a piece of text in the log.
    pub fn wait_for_log(&self, text: &str) {
        wait_for(&format!("\"{text}\" in the pool's log"), || self.log().contains(text).then_some(()));
    }

    /// The report of /health, whatever its status.
    pub fn health(&self) -> Option<Value> {
        serde_json::from_str(&self.http("/health")?).ok()
    }

    /// The value of a metric, its labels included in the name as Prometheus writes them; 0 if absent.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in:\n{text}")).parse().unwrap()
    }

    /// Everything at /metrics.
    pub fn metrics(&self) -> String {
        self.http("/metrics").expect("the pool answers /metrics")
    }

    fn http(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.builder.http_port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
    }

    /// Kills the process as a power cut would, and gives its settings back.
    pub fn kill(mut self) -> PoolBuilder {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.take_builder()
    }

    /// Sends SIGTERM and waits for the end; gives the exit status and the settings.
    pub fn stop(mut self) -> (std::process::ExitStatus, PoolBuilder) {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let status = self.wait_for_exit();
        (status, self.take_builder())
    }

    /// Waits for the process to end by itself.
    pub fn wait_for_exit(&mut self) -> std::process::ExitStatus {
        wait_for("the pool to end", || self.process.try_wait().unwrap())
    }

    /// The id of the process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    fn take_builder(&self) -> PoolBuilder {
        PoolBuilder {
            toml: self.builder.toml.clone(),
            dir: self.builder.dir.clone(),
            v1_port: self.builder.v1_port,
            http_port: self.builder.http_port,
        }
    }

    /// The folder with log, ledger and blocks.
    pub fn data_dir(&self) -> PathBuf {
        self.builder.data_dir()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the pool ---\n{}", self.log.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// Names of the files in a folder, sorted; empty if it is not there.
pub fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
