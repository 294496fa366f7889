//! `sluice-verify witness` as a process.

use super::{binary, free_ports};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A running witness; killed when dropped.
pub struct Witness {
    process: Child,
    /// What its cosignatures are checked with.
    pub key: String,
    port: u16,
    dir: TempDir,
}

impl Witness {
    /// A new one for this log.
    pub fn start(name: &str, log_key: &str) -> Self {
        let [port] = free_ports();
        Self::at(name, log_key, port, TempDir::new().unwrap())
    }

    /// One that goes on where another has ended.
    pub fn at(name: &str, log_key: &str, port: u16, dir: TempDir) -> Self {
        let mut command = Command::new(binary("sluice-verify"));
        command.arg("witness").arg(dir.path()).args(["--name", name, "--log", log_key]);
        command.args(["--listen", &format!("127.0.0.1:{port}")]).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let key = line.trim().strip_prefix("witness ").unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { process, key, port, dir }
    }

    /// As a pool's settings name it.
    pub fn setting(&self) -> String {
        format!("\"http://127.0.0.1:{} {}\"", self.port, self.key)
    }

    /// Where it can go on.
    pub fn kill(mut self) -> (u16, TempDir) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        (self.port, std::mem::replace(&mut self.dir, TempDir::new().unwrap()))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
