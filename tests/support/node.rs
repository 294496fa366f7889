//! A real bitcoind in a folder of its own.

use super::{free_ports, wait_for};
use bitcoin::Network;
use bitcoincore_rpc::{Auth, Client, RpcApi};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Hashes that a block of the private signet takes on average.
pub const SIGNET_HASHES_PER_BLOCK: u64 = 4_838_420;

/// A running node; killed when dropped.
pub struct Node {
    /// The chain it follows.
    pub network: Network,
    /// Port of its RPC server.
    pub rpc_port: u16,
    /// Port of its ZMQ publisher of `hashblock`.
    pub zmq_port: u16,
    dir: TempDir,
    extra: Vec<String>,
    process: Child,
}

impl Node {
    /// Regtest: two hashes a block.
    pub fn regtest() -> Self {
        Self::start(Network::Regtest, &[])
    }

    /// A private signet whose blocks need no signature.
    pub fn signet() -> Self {
        Self::signet_with_challenge("51")
    }

    /// A signet whose blocks must satisfy a script, in hex.
    pub fn signet_with_challenge(challenge: &str) -> Self {
        Self::start(Network::Signet, &[&format!("-signetchallenge={challenge}")])
    }

    /// A node with further arguments.
    pub fn start(network: Network, extra: &[&str]) -> Self {
        let [rpc_port, zmq_port] = free_ports();
        let dir = TempDir::new().unwrap();
        let extra: Vec<String> = extra.iter().map(|&arg| arg.to_owned()).collect();
        let process = spawn(network, dir.path(), rpc_port, zmq_port, &extra);
        let node = Self { network, rpc_port, zmq_port, dir, extra, process };
        node.wait_until_ready();
        node
    }

    fn wait_until_ready(&self) {
        wait_for("bitcoind to answer", || {
            self.cookie_file().exists().then(|| self.try_call("getblockchaininfo", &[]).ok()).flatten()
        });
    }

    /// Stops the node in order: a killed one forgets its newest blocks, and here nobody gives them back.
    pub fn stop(&mut self) {
        self.call("stop", &[]);
        let _ = self.process.wait();
    }

    /// Freezes the node: it takes connections and answers nothing.
    pub fn freeze(&self) {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, rustix::process::Signal::STOP).unwrap();
    }

    /// Stops the node and starts it again in the same folder: the cookie changes.
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// Starts the node after [`Node::stop`].
    pub fn start_again(&mut self) {
        self.process = spawn(self.network, self.dir.path(), self.rpc_port, self.zmq_port, &self.extra);
        self.wait_until_ready();
    }

    /// The file with its RPC cookie.
    pub fn cookie_file(&self) -> PathBuf {
        self.folder().join(".cookie")
    }

    /// The folder with its block files.
    pub fn blocks_dir(&self) -> PathBuf {
        self.folder().join("blocks")
    }

    fn folder(&self) -> PathBuf {
        let below = match self.network {
            Network::Bitcoin => "",
            Network::Signet => "signet",
            _ => "regtest",
        };
        self.dir.path().join(below)
    }

    /// Calls the node; panics with its answer when it refuses.
    pub fn call(&self, method: &str, params: &[Value]) -> Value {
        self.try_call(method, params).unwrap_or_else(|error| panic!("{method} {params:?}: {error}"))
    }

    /// Calls the node.
    ///
    /// # Errors
    /// Whatever the node or the connection says.
    pub fn try_call(&self, method: &str, params: &[Value]) -> Result<Value, bitcoincore_rpc::Error> {
        let url = format!("http://127.0.0.1:{}", self.rpc_port);
        Client::new(&url, Auth::CookieFile(self.cookie_file()))?.call(method, params)
    }

    /// Height of its best chain.
    pub fn height(&self) -> u64 {
        self.call("getblockcount", &[]).as_u64().unwrap()
    }

    /// Mines blocks to an address, on regtest.
    pub fn generate(&self, blocks: u32, address: &str) -> Vec<String> {
        serde_json::from_value(self.call("generatetoaddress", &[json!(blocks), json!(address)])).unwrap()
    }

    /// A block of the best chain with its transactions decoded.
    pub fn block_at(&self, height: u64) -> Value {
        let hash = self.call("getblockhash", &[json!(height)]);
        self.call("getblock", &[hash, json!(2)])
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The node program: `$BITCOIND`, else from the PATH. Not finding one is an error, never a skip.
fn program() -> PathBuf {
    let named = std::env::var_os("BITCOIND").map(PathBuf::from);
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|dir| dir.join("bitcoind")).find(|file| file.is_file())
    };
    named
        .or_else(on_path)
        .expect("no bitcoind: run ./tests/run, or set BITCOIND to what ./deploy/get-bitcoind prints")
}

fn spawn(network: Network, dir: &Path, rpc_port: u16, zmq_port: u16, extra: &[String]) -> Child {
    let mut command = Command::new(program());
    match network {
        Network::Bitcoin => command.arg("-chain=main"),
        Network::Signet => command.arg("-signet"),
        _ => command.args(["-regtest", "-fallbackfee=0.0001"]),
    };
    command
        .arg(format!("-datadir={}", dir.display()))
        .arg(format!("-rpcport={rpc_port}"))
        .arg(format!("-zmqpubhashblock=tcp://127.0.0.1:{zmq_port}"))
        .args(["-connect=0", "-dnsseed=0", "-listen=0", "-server", "-printtoconsole=0"])
        .args(extra)
        .env("HOME", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().expect("bitcoind starts")
}
