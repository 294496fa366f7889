//! `sluice-pool` as a process.

use super::node::Node;
use super::served::Served;
use super::{binary, free_ports};
use bitcoin::Network;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use stratum::v2::keys::AuthorityKey;
use tempfile::TempDir;

/// Settings of a test pool; [`PoolBuilder::start`] makes a process of them.
pub struct PoolBuilder {
    toml: String,
    dir: Arc<TempDir>,
    /// Port for V1 miners.
    pub v1_port: u16,
    /// Port for /health and /metrics.
    pub http_port: u16,
    /// Port for V2 miners, and who vouches for the server.
    v2: Option<(u16, AuthorityKey)>,
}

/// A running pool; killed when dropped.
pub struct Pool {
    /// What it was started from.
    pub builder: PoolBuilder,
    served: Served,
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
        let mut builder = Self { toml: String::new(), dir, v1_port, http_port, v2: None };
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
            network = node.network,
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

    /// Every hash is a share, however many there are.
    pub fn easiest(self) -> Self {
        self.set("difficulty.pot_start", "-32").set("difficulty.pot_max", "-32")
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
        let served = Served::spawn("pool", &mut self.command("run"), self.http_port);
        Pool { builder: self, served }
    }

    /// Serves V2 too, with a certificate for 30 days by an authority of its own.
    pub fn with_v2(mut self) -> Self {
        let [port] = free_ports();
        self = self.set("v2.listen", &format!("[\"127.0.0.1:{port}\"]"));
        let authority = self.authority_file();
        self.v2 = Some((port, new_authority(&authority)));
        self.sign(&authority, 30);
        self
    }

    /// The file with the authority's secret.
    pub fn authority_file(&self) -> PathBuf {
        self.dir.path().join("authority.key")
    }

    /// Gives the server a certificate by an authority, over the one it has.
    pub fn sign(&self, authority: &Path, days: u32) {
        let days = days.to_string();
        let args = ["sign", "--authority", authority.to_str().unwrap(), "--days", &days, &self.server_key()];
        self.certify(&keys(&args.map(OsStr::new)));
    }

    /// The server's V2 key in hex; it is made at the first call.
    pub fn server_key(&self) -> String {
        let settings = self.settings_file();
        let shown = keys(&["show".as_ref(), "--config".as_ref(), settings.as_os_str()]);
        let line = shown.lines().find_map(|line| line.strip_prefix("server key"));
        line.unwrap_or_else(|| panic!("no key in {shown}")).split_whitespace().next().unwrap().to_owned()
    }

    /// Writes the file of the certificate.
    pub fn certify(&self, text: &str) {
        // As an operator should: the pool sees the old file or the new one.
        let file = self.certificate_file();
        let fresh = file.with_extension("new");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, file).unwrap();
    }

    /// The file of the certificate.
    pub fn certificate_file(&self) -> PathBuf {
        self.data_dir().join("v2.certificate")
    }

    /// Where V2 miners connect.
    pub fn v2(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.v2.expect("a pool with V2").0))
    }

    /// The key that V2 miners are given.
    pub fn authority(&self) -> AuthorityKey {
        self.v2.expect("a pool with V2").1
    }
}

/// Makes an authority, whose secret is to be in this file.
pub fn new_authority(file: &Path) -> AuthorityKey {
    keys(&["new".as_ref(), file.as_os_str()]).trim().parse().unwrap()
}

/// What `sluice-pool keys …` prints.
fn keys(args: &[&OsStr]) -> String {
    let output = Command::new(binary("sluice-pool")).arg("keys").args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Pool {
    /// Where V1 miners connect.
    pub fn v1(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.builder.v1_port))
    }

    /// Kills the process as a power cut would, and gives its settings back.
    pub fn kill(mut self) -> PoolBuilder {
        self.served.kill_now();
        self.builder
    }

    /// Sends SIGTERM and waits for the end; gives the exit status and the settings.
    pub fn stop(mut self) -> (ExitStatus, PoolBuilder) {
        let status = self.served.terminate();
        (status, self.builder)
    }

    /// The folder with log, ledger and blocks.
    pub fn data_dir(&self) -> PathBuf {
        self.builder.data_dir()
    }
}

impl Deref for Pool {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.served
    }
}

impl DerefMut for Pool {
    fn deref_mut(&mut self) -> &mut Served {
        &mut self.served
    }
}

/// Names of the files in a folder, sorted; empty if it is not there.
pub fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
