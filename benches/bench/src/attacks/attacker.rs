//! The hostile peer: a process beside the honest load.

use super::Attack;
use crate::stage::{Process, Served, Stage};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::io::{BufRead, BufReader, Lines};
use std::net::{IpAddr, UdpSocket};
use std::process::{ChildStdout, Stdio};

/// An attack that is under way.
#[derive(Debug)]
pub struct Attacker {
    process: Process,
    lines: Lines<BufReader<ChildStdout>>,
    begun: Value,
}

impl Attacker {
    /// Begins, and waits until the attack stands.
    ///
    /// # Errors
    /// The program fails.
    pub fn start(stage: &Stage, server: &Served, attack: &Attack) -> anyhow::Result<Self> {
        let mut command = stage.lowest("fleet")?;
        command
            .args(["attack", "--kind", attack.kind, "--url", server.url(attack.protocol)?])
            .args(["--user", &format!("{}.attack", stage.address(4)?)])
            .args(["--connections", &attack.connections.to_string()])
            .stdout(Stdio::piped());
        if let Some(rate) = attack.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        if attack.stranger {
            command.args(["--from", &own_address()?.to_string()]);
        }
        let mut process = Process::spawn(&mut command)?;
        let mut lines = BufReader::new(process.output().context("the attacker's output")?).lines();
        let begun = lines.next().context("the attacker has ended")??;
        Ok(Self { process, lines, begun: serde_json::from_str(&begun)? })
    }

    /// Ends it; gives what it did in a second.
    ///
    /// # Errors
    /// It has ended before.
    pub fn stop(mut self) -> anyhow::Result<Pace> {
        ensure!(self.process.runs()?, "the attacker has ended too early");
        drop(self.process);
        let last = self.lines.map_while(Result::ok).last().context("the attacker was silent")?;
        eprintln!("  attacker: {last}");
        Ok(Pace::between(&self.begun, &serde_json::from_str(&last)?))
    }
}

/// What an attacker did in a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Connections, also those for which the server's kernel had no room.
    pub tried: f64,
    /// Connections on which something was said.
    pub begun: f64,
    /// Bytes that the server took.
    pub bytes: f64,
    /// Shares that it refused.
    pub refused: f64,
}

impl Pace {
    fn between(first: &Value, last: &Value) -> Self {
        let grown = |field: &str| {
            let [first, last] = [first, last].map(|said| said[field].as_f64().unwrap_or(f64::NAN));
            last - first
        };
        let each = |field: &str| grown(field) / grown("seconds");
        Self {
            tried: each("begun") + each("failed"),
            begun: each("begun"),
            bytes: each("bytes"),
            refused: each("refused"),
        }
    }
}

/// An address of this machine that is not loopback: what comes from there is bounded as strangers are.
fn own_address() -> anyhow::Result<IpAddr> {
    // Nothing is sent: the system only chooses where it would come from.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect("192.0.2.1:9").context("this machine has no address but loopback")?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_done_is_divided_by_the_time_between() {
        let said = |seconds: f64, count: u64| json!({ "seconds": seconds, "begun": count, "failed": count, "bytes": 10 * count, "refused": 0 });
        let pace = Pace::between(&said(1.5, 100), &said(3.5, 500));
        assert_eq!(pace, Pace { tried: 400.0, begun: 200.0, bytes: 2_000.0, refused: 0.0 });
    }
}
