//! A real bitcoind of the test's own, killed when the test ends.
#![allow(dead_code, reason = "each test file uses a part of it")]

use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use template::bitcoind::rpc::{Node, Purpose, Rpc, RpcError, Timeouts};

pub struct Bitcoind {
    child: Child,
    pub dir: tempfile::TempDir,
    args: Vec<String>,
    chain: &'static str,
    port: u16,
}

/// An address of nobody's, for regtest and signet each.
pub const SINK_REGTEST: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

fn binary() -> PathBuf {
    let in_path = || {
        std::env::split_paths(&std::env::var_os("PATH")?)
            .map(|dir| dir.join("bitcoind"))
            .find(|p| p.is_file())
    };
    let fetched = || {
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bitcoind/bin/bitcoind"));
        path.is_file().then_some(path)
    };
    std::env::var_os("BITCOIND").map(PathBuf::from).or_else(in_path).or_else(fetched).expect(
        "these tests need bitcoind: set BITCOIND to its path, put it into PATH, or into target/bitcoind/bin",
    )
}

/// A free port; the listener that found it is closed when this returns.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Bitcoind {
    pub fn regtest(args: &[&str]) -> Self {
        Self::start("regtest", "-regtest", args)
    }

    pub fn signet() -> Self {
        Self::start("signet", "-signet", &["-signetchallenge=51"])
    }

    fn start(chain: &'static str, network: &str, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut all: Vec<String> = [
            network,
            "-server",
            "-listen=0",
            "-connect=0",
            "-dnsseed=0",
            "-printtoconsole=0",
            "-fallbackfee=0.0001",
            "-blockmaxweight=4000000",
            "-dbcache=16",
        ]
        .iter()
        .chain(args)
        .map(|arg| (*arg).to_owned())
        .collect();
        all.push(format!("-datadir={}", dir.path().display()));
        all.push(format!("-rpcport={port}"));
        let child = spawn(&all);
        let node = Self { child, dir, args: all, chain, port };
        node.wait_ready();
        node
    }

    fn wait_ready(&self) {
        for _ in 0..600 {
            if self.rpc(Purpose::Other).ask::<Value>("getblockcount", &json!([])).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("bitcoind does not start; see its debug.log");
    }

    pub fn node(&self) -> Node {
        Node {
            address: format!("127.0.0.1:{}", self.port),
            credentials: self.dir.path().join(self.chain).join(".cookie"),
            timeouts: Timeouts::default(),
        }
    }

    pub fn rpc(&self, purpose: Purpose) -> Rpc {
        Rpc::new(&self.node(), purpose)
    }

    pub fn ask(&self, method: &str, params: Value) -> Value {
        self.try_ask(method, params).unwrap()
    }

    pub fn try_ask(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        self.rpc(Purpose::Submit).ask(method, &params)
    }

    /// Ends the process at once, as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same data and port; its cookie is another then.
    pub fn restart(&mut self) {
        self.child = spawn(&self.args);
        self.wait_ready();
    }
}

fn spawn(args: &[String]) -> Child {
    Command::new(binary()).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

impl Drop for Bitcoind {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
