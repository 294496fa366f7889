//! `sluice-proxy` as a process.

use super::served::Served;
use super::{binary, free_ports};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use stratum::v2::keys::AuthorityKey;
use tempfile::TempDir;

/// Settings of a test proxy; [`ProxyBuilder::start`] makes a process of them.
#[derive(Clone)]
pub struct ProxyBuilder {
    toml: String,
    dir: Arc<TempDir>,
    /// Port for V1 machines.
    pub v1_port: u16,
    /// Port for /health and /metrics.
    pub http_port: u16,
}

/// A running proxy; killed when dropped.
pub struct Proxy {
    /// What it was started from.
    pub builder: ProxyBuilder,
    served: Served,
}

impl ProxyBuilder {
    /// A proxy whose machines say who is paid, with shares at any difficulty and no upstream yet.
    pub fn passing_users() -> Self {
        Self::new().set("pass_users", "true")
    }

    /// The same for one account, which [`ProxyBuilder::upstream_for`] names.
    pub fn new() -> Self {
        let [v1_port, http_port] = free_ports();
        let toml = format!(
            r#"shards = 2
v1.listen = ["127.0.0.1:{v1_port}"]
http.listen = "127.0.0.1:{http_port}"
difficulty.pot_min = -32
difficulty.pot_start = -32
"#
        );
        Self { toml, dir: Arc::new(TempDir::new().unwrap()), v1_port, http_port }
    }

    /// Puts a line before the tables; a line for the same key is replaced.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        let start = format!("{key} = ");
        let kept: Vec<&str> = self.toml.lines().filter(|line| !line.starts_with(&start)).collect();
        self.toml = format!("{key} = {value}\n{}\n", kept.join("\n"));
        self
    }

    /// Every hash of a machine is a share, however many there are.
    pub fn easiest(self) -> Self {
        self.set("difficulty.pot_max", "-32")
    }

    /// Names a (further) upstream, for whoever machines say.
    pub fn upstream(mut self, place: SocketAddr, key: AuthorityKey) -> Self {
        self.toml.push_str(&format!("[[upstream]]\nurl = \"stratum2+tcp://{place}/{key}\"\n"));
        self
    }

    /// Names a (further) upstream, for one account.
    pub fn upstream_for(mut self, place: SocketAddr, key: AuthorityKey, user: &str) -> Self {
        self = self.upstream(place, key);
        self.toml.push_str(&format!("user = \"{user}\"\n"));
        self
    }

    /// Says where the last upstream publishes its log, and has receipts kept.
    pub fn with_receipts(mut self, url: &str, key: &str) -> Self {
        self.toml.push_str(&format!("log_url = \"{url}\"\nlog_key = \"{key}\"\n"));
        let dir = self.data_dir().display().to_string();
        self.set("data_dir", &format!("{dir:?}")).set("receipts_every_s", "1")
    }

    /// Has the last upstream's log held against what these witnesses cosign.
    pub fn witnessed_by(mut self, keys: &[&str]) -> Self {
        self.toml.push_str(&format!("log_witnesses = {keys:?}\n"));
        self
    }

    /// Its folder, if it keeps anything.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("proxy")
    }

    /// Starts the proxy and waits until machines have work.
    pub fn start(self) -> Proxy {
        let proxy = self.launch();
        proxy.wait_until_healthy();
        proxy
    }

    /// Starts the proxy without waiting for anything.
    pub fn launch(self) -> Proxy {
        let path = self.dir.path().join("proxy.toml");
        std::fs::write(&path, &self.toml).unwrap();
        let mut command = Command::new(binary("sluice-proxy"));
        let served = Served::spawn("proxy", command.arg("run").arg("--config").arg(path), self.http_port);
        Proxy { builder: self, served }
    }
}

impl Default for ProxyBuilder {
    fn default() -> Self {
        Self::new()
    }
}

/// What a proxy says of the shares that went upstream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forwarded {
    /// Went upstream, or should have.
    pub all: f64,
    /// Accepted there.
    pub accepted: f64,
    /// Rejected there.
    pub rejected: f64,
    /// Lost with a connection.
    pub lost: f64,
    /// Not judged yet.
    pub waiting: f64,
}

impl Forwarded {
    /// Whether all of them are accounted for.
    pub fn adds_up(&self) -> bool {
        self.all == self.accepted + self.rejected + self.lost + self.waiting
    }
}

impl Proxy {
    /// Where V1 machines connect.
    pub fn v1(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.builder.v1_port))
    }

    /// What became of the shares that went upstream, all from one page.
    pub fn forwarded(&self) -> Forwarded {
        let text = self.metrics();
        let value =
            |name: &str| super::served::value(&text, name).unwrap_or_else(|| panic!("{name}: {text}"));
        let became =
            |result: &str| value(&format!("sluice_proxy_upstream_shares_total{{result=\"{result}\"}}"));
        Forwarded {
            all: value("sluice_proxy_forwarded_total"),
            accepted: became("accepted"),
            rejected: became("rejected"),
            lost: became("lost"),
            waiting: value("sluice_proxy_upstream_waiting"),
        }
    }

    /// Kills the process as a power cut would, and gives its settings back.
    pub fn kill(mut self) -> ProxyBuilder {
        self.served.kill_now();
        self.builder
    }
}

impl Deref for Proxy {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.served
    }
}

impl DerefMut for Proxy {
    fn deref_mut(&mut self) -> &mut Served {
        &mut self.served
    }
}
