//! The processes of a run; each ends when its value is dropped, and with this program however that ends.

use crate::bound::bound;
use crate::cell::Protocol;
use anyhow::{Context, bail, ensure};
use bitcoincore_rpc::{Auth, Client, RpcApi};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// For anything that takes a healthy machine a second or two.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The programs, and where their files go.
#[derive(Debug)]
pub struct Stage {
    programs: PathBuf,
    dir: PathBuf,
}

/// A process; killed when dropped.
#[derive(Debug)]
pub struct Process(Child);

/// A block that was found.
#[derive(Debug)]
pub struct Block {
    /// Its name.
    pub hash: String,
    /// All of it.
    hex: Value,
}

/// A private signet.
#[derive(Debug)]
pub struct Node {
    rpc_port: u16,
    zmq_port: u16,
    dir: PathBuf,
    address: String,
    _process: Process,
}

/// A server under load.
#[derive(Debug)]
pub struct Served {
    /// Where V1 machines connect.
    pub v1: String,
    /// Where V2 machines connect, if it serves them.
    pub v2: Option<String>,
    /// The floor's: a line of it is a new tip.
    pub input: Option<ChildStdin>,
    process: Process,
    /// What it needs.
    _behind: Option<Box<Served>>,
}

impl Stage {
    /// Programs beside this one, files below `dir`.
    ///
    /// # Errors
    /// One of those that are needed is missing.
    pub fn new(dir: &Path, needed: &[&str]) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let programs = own.parent().context("this program is in a folder")?.to_owned();
        for name in needed {
            ensure!(
                programs.join(name).is_file(),
                "{name} is missing beside this program: cargo build --release -p pool -p proxy -p fleet -p floor -p verify"
            );
        }
        Ok(Self { programs, dir: dir.to_owned() })
    }

    /// A program to run.
    ///
    /// # Errors
    /// This program does not know where it is itself.
    pub fn program(&self, name: &str) -> anyhow::Result<Command> {
        let mut command = bound(&self.programs.join(name))?;
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// A program that gets what all others leave of the processor.
    ///
    /// # Errors
    /// This program does not know where it is itself.
    pub fn lowest(&self, name: &str) -> anyhow::Result<Command> {
        let mut command = bound(Path::new("nice"))?;
        command.args(["-n", "19"]).arg(self.programs.join(name)).stdin(Stdio::null());
        Ok(command)
    }

    /// A new folder: servers of one kind may run beside each other.
    fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let mut names = (1..).map(|number| self.dir.join(format!("{name}-{number}")));
        let dir = names.find(|dir| !dir.exists()).context("numbers have no end")?;
        std::fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// Starts a server that logs to its folder.
    fn spawn(command: &mut Command, dir: &Path) -> anyhow::Result<Process> {
        Process::spawn(command.stderr(File::create(dir.join("log"))?))
    }

    fn print(&self, name: &str, args: &[&str]) -> anyhow::Result<String> {
        let output = self.program(name)?.args(args).output()?;
        ensure!(output.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// An address that nobody can spend from.
    pub fn address(&self, seed: u32) -> anyhow::Result<String> {
        self.print("fleet", &["address", "--network", "signet", "--seed", &seed.to_string()])
    }

    /// A node without peers, on a chain of its own.
    pub fn node(&self) -> anyhow::Result<Node> {
        let dir = self.folder("node")?;
        let [rpc_port, zmq_port] = free_ports()?;
        let program =
            std::env::var_os("BITCOIND").map_or_else(get_bitcoind, |path| Ok(PathBuf::from(path)))?;
        let mut command = bound(&program)?;
        command
            .args(["-signet", "-signetchallenge=51", "-server", "-connect=0", "-dnsseed=0", "-listen=0"])
            .args(["-printtoconsole=0".to_owned(), format!("-datadir={}", dir.display())])
            .args([format!("-rpcport={rpc_port}"), format!("-zmqpubhashblock=tcp://127.0.0.1:{zmq_port}")])
            .env("HOME", &dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let process = Self::spawn(&mut command, &dir)?;
        let node = Node { rpc_port, zmq_port, dir, address: self.address(1)?, _process: process };
        wait_for("the node to answer", || node.call("getblockcount", &[]).ok())?;
        Ok(node)
    }

    /// A pool on the node at which every share has this pot, both protocols served.
    pub fn pool(&self, node: &Node, pot: i8) -> anyhow::Result<Served> {
        let dir = self.folder("pool")?;
        let [v1, v2, http] = free_ports()?;
        let settings = dir.join("pool.toml");
        let text = format!(
            "network = \"signet\"\ndata_dir = \"{data}\"\nshards = 2\n\
             v1.listen = [\"127.0.0.1:{v1}\"]\nv2.listen = [\"127.0.0.1:{v2}\"]\nhttp.listen = \"127.0.0.1:{http}\"\n\
             payout.reserve_address = \"{reserve}\"\n\
             difficulty.pot_min = {pot}\ndifficulty.pot_start = {pot}\ndifficulty.pot_max = {pot}\n\
             [[node]]\nrpc = \"127.0.0.1:{rpc}\"\ncookie_file = \"{cookie}\"\nzmq_hashblock = \"tcp://127.0.0.1:{zmq}\"\n",
            data = dir.join("data").display(),
            reserve = self.address(0)?,
            rpc = node.rpc_port,
            cookie = node.cookie().display(),
            zmq = node.zmq_port,
        );
        std::fs::write(&settings, text)?;
        let authority = self.certify(&dir, &settings)?;
        let mut command = self.program("sluice-pool")?;
        command.args(["run", "--config"]).arg(&settings).stdout(Stdio::null());
        let process = Self::spawn(&mut command, &dir)?;
        wait_until_healthy("the pool", http)?;
        Ok(Served {
            v1: format!("stratum+tcp://127.0.0.1:{v1}"),
            v2: Some(format!("stratum2+tcp://127.0.0.1:{v2}/{authority}")),
            input: None,
            process,
            _behind: None,
        })
    }

    /// Makes the pool's keys; gives the one that clients pin.
    fn certify(&self, dir: &Path, settings: &Path) -> anyhow::Result<String> {
        let secret = dir.join("authority.key");
        let [secret, settings] = [secret.as_path(), settings].map(|path| path.display().to_string());
        let authority = self.print("sluice-pool", &["keys", "new", &secret])?;
        let shown = self.print("sluice-pool", &["keys", "show", "--config", &settings])?;
        let key = shown.lines().find_map(|line| line.strip_prefix("server key"));
        let key = key.and_then(|rest| rest.split_whitespace().next()).context("the pool shows no key")?;
        let certificate = self.print("sluice-pool", &["keys", "sign", "--authority", &secret, key])?;
        std::fs::write(dir.join("data/v2.certificate"), certificate)?;
        Ok(authority)
    }

    /// A proxy at which every hash is a share, before a pool that pays for few of them.
    pub fn proxy(&self, node: &Node, upstream_pot: i8) -> anyhow::Result<Served> {
        let pool = self.pool(node, upstream_pot)?;
        let dir = self.folder("proxy")?;
        let [v1, http] = free_ports()?;
        let settings = dir.join("proxy.toml");
        let text = format!(
            "shards = 2\nv1.listen = [\"127.0.0.1:{v1}\"]\nhttp.listen = \"127.0.0.1:{http}\"\n\
             difficulty.pot_min = -32\ndifficulty.pot_start = -32\ndifficulty.pot_max = -32\n\
             [[upstream]]\nurl = \"{url}\"\nuser = \"{user}.proxy\"\n",
            url = pool.v2.as_deref().unwrap_or_default(),
            user = self.address(3)?,
        );
        std::fs::write(&settings, text)?;
        let mut command = self.program("sluice-proxy")?;
        command.args(["run", "--config"]).arg(&settings).stdout(Stdio::null());
        let process = Self::spawn(&mut command, &dir)?;
        wait_until_healthy("the proxy", http)?;
        let v1 = format!("stratum+tcp://127.0.0.1:{v1}");
        Ok(Served { v1, v2: None, input: None, process, _behind: Some(Box::new(pool)) })
    }

    /// The server that judges nothing; with options.
    pub fn floor(&self, options: &[&str]) -> anyhow::Result<Served> {
        let mut command = self.program("floor")?;
        command.args(options).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Self::spawn(&mut command, &self.folder("floor")?)?;
        let input = process.0.stdin.take();
        let mut urls = BufReader::new(process.output().context("the floor's output")?).lines();
        let mut url = || urls.next().context("the floor ended at once")?.map_err(anyhow::Error::from);
        Ok(Served { v1: url()?, v2: Some(url()?), input, process, _behind: None })
    }
}

impl Served {
    /// Where it speaks a protocol.
    ///
    /// # Errors
    /// Nowhere.
    pub fn url(&self, protocol: Protocol) -> anyhow::Result<&str> {
        match protocol {
            Protocol::V1 => Ok(&self.v1),
            Protocol::V2 => self.v2.as_deref().context("it speaks no V2"),
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

impl Node {
    fn cookie(&self) -> PathBuf {
        self.dir.join("signet/.cookie")
    }

    fn call(&self, method: &str, params: &[Value]) -> anyhow::Result<Value> {
        let url = format!("http://127.0.0.1:{}", self.rpc_port);
        let client = Client::new(&url, Auth::CookieFile(self.cookie()))?;
        client.call(method, params).with_context(|| format!("{method} at the node"))
    }

    /// Solves a block on the present tip and keeps it from the chain.
    ///
    /// # Errors
    /// The node fails for another reason than bad luck.
    pub fn solve(&self) -> anyhow::Result<Block> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            // It gives up after a million hashes, a fifth of what a block takes on average.
            match self.call("generateblock", &[json!(self.address), json!([]), json!(false)]) {
                Ok(block) => {
                    let hash = block["hash"].as_str().context("a block has a hash")?.to_owned();
                    return Ok(Block { hash, hex: block["hex"].clone() });
                }
                Err(error) if format!("{error:#}").contains("Failed to make block") => {}
                Err(error) => return Err(error),
            }
        }
        bail!("no block within {PATIENCE:?}")
    }

    /// Gives a block to the chain. One beside the tip is kept.
    ///
    /// # Errors
    /// It does not fit there.
    pub fn submit(&self, block: &Block) -> anyhow::Result<()> {
        let verdict = self.call("submitblock", std::slice::from_ref(&block.hex))?;
        ensure!(verdict.is_null() || verdict == "inconclusive", "the node refuses a block: {verdict}");
        Ok(())
    }

    /// Makes a block the tip instead of another of the same height.
    ///
    /// # Errors
    /// The node does not know it.
    pub fn prefer(&self, block: &Block) -> anyhow::Result<()> {
        self.call("preciousblock", &[json!(block.hash)]).map(drop)
    }
}

impl Process {
    /// Starts one.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        Ok(Self(command.spawn().with_context(|| format!("{command:?} does not start"))?))
    }

    /// What it prints, if that is a pipe and nobody has it yet.
    pub fn output(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }

    /// Whether it has not ended.
    ///
    /// # Errors
    /// The system does not know it.
    pub fn runs(&mut self) -> io::Result<bool> {
        Ok(self.0.try_wait()?.is_none())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get_bitcoind() -> anyhow::Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/get-bitcoind");
    let output = Command::new(script).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "no bitcoind: set BITCOIND to one");
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// None of those that the system gives to outgoing connections: the load makes thousands of these.
fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let first = 10_000 + u16::try_from(std::process::id() % 200)? * 100;
    let mut free = (first..32_000).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let mut ports = [0; N];
    for port in &mut ports {
        *port = free.next().context("no port is free")?;
    }
    Ok(ports)
}

fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(value) = ready() {
            return Ok(value);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    bail!("waited {PATIENCE:?} in vain for {what}")
}

fn wait_until_healthy(what: &str, port: u16) -> anyhow::Result<()> {
    let healthy = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(stream, "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(())
    };
    wait_for(&format!("{what} to be healthy"), healthy)
}
