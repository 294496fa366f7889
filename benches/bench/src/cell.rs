//! One measurement: a server, a protocol, an honest load.

use crate::stage::{Node, Served, Stage};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Until everybody has gone back to sleep.
const SETTLE: Duration = Duration::from_millis(500);

/// A protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Lines.
    V1,
    /// Sealed frames.
    V2,
}

/// What to send.
#[derive(Debug, Clone, Copy, Default)]
pub struct Load {
    /// Connections.
    pub connections: u32,
    /// Opened over that many milliseconds.
    pub within_ms: u32,
    /// New tips.
    pub tips: u32,
    /// Seconds of shares.
    pub seconds: u32,
    /// Shares on their way on each connection.
    pub depth: u32,
    /// Shares a second of all.
    pub rate: Option<u32>,
}

/// A new tip on its way, in microseconds after it was made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spread {
    /// At the first connection.
    pub first: f64,
    /// At half of them, after the first.
    pub p50: f64,
    /// At all but a hundredth, after the first.
    pub p99: f64,
    /// At the last, after the first.
    pub last: f64,
}

/// What the load has printed.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Of connecting.
    pub connect: Value,
    /// Of each tip.
    pub tips: Vec<Spread>,
    /// Of shares.
    pub shares: Value,
}

/// Puts a server under load that it must take: all connections get work. Whose tips are blocks has a node.
///
/// # Errors
/// The load fails, or the node, or connections.
pub fn measure(
    stage: &Stage,
    node: Option<&Node>,
    server: &mut Served,
    protocol: Protocol,
    load: Load,
) -> anyhow::Result<Outcome> {
    let outcome = try_load(stage, node, server, protocol, load)?;
    ensure!(outcome.connects_failed() == 0.0, "connections failed: {}", outcome.connect);
    Ok(outcome)
}

/// Puts a server under load, of whose connections some may get no work.
///
/// # Errors
/// The load fails, or the node.
pub fn try_load(
    stage: &Stage,
    node: Option<&Node>,
    server: &mut Served,
    protocol: Protocol,
    load: Load,
) -> anyhow::Result<Outcome> {
    let mut command = stage.program("fleet")?;
    let number = |value: u32| value.to_string();
    command
        .args(["load", "--url", server.url(protocol)?, "--user", &format!("{}.load", stage.address(2)?)])
        .args(["--connections", &number(load.connections), "--within-ms", &number(load.within_ms)])
        .args(["--tips", &number(load.tips), "--for", &number(load.seconds)])
        .args(["--depth", &number(load.depth.max(1)), "--watch", &number(server.pid())])
        .stdout(Stdio::piped());
    if let Some(rate) = load.rate {
        command.args(["--rate", &number(rate)]);
    }
    let mut child = command.spawn()?;
    let lines = BufReader::new(child.stdout.take().context("the load's output")?).lines();
    let heard = listen(node, server, lines.map_while(Result::ok));
    if heard.is_err() {
        // It would wait for a tip that nobody makes.
        let _ = child.kill();
    }
    let status = child.wait()?;
    let heard = heard?;
    ensure!(status.success(), "the load on {protocol:?} failed: {status}");
    Ok(heard)
}

fn listen(
    node: Option<&Node>,
    server: &mut Served,
    lines: impl Iterator<Item = String>,
) -> anyhow::Result<Outcome> {
    let (mut outcome, mut made_us) = (Outcome::default(), 0.0);
    for line in lines {
        eprintln!("  {line}");
        let said: Value = serde_json::from_str(&line)?;
        if said["begin"] == "tip" {
            made_us = new_tip(node, server)?;
        } else if said["connect"].is_object() {
            outcome.connect = said;
        } else if said["shares"].is_object() {
            outcome.shares = said;
        } else if let Some(tip) = said["tip"].as_object() {
            let at = |field: &str| tip.get(field).and_then(Value::as_f64).unwrap_or(f64::NAN);
            let first = at("first_unix_us") - made_us;
            outcome.tips.push(Spread { first, p50: at("p50_us"), p99: at("p99_us"), last: at("last_us") });
        }
    }
    Ok(outcome)
}

/// Makes one; gives the time at which it was handed over.
fn new_tip(node: Option<&Node>, server: &mut Served) -> anyhow::Result<f64> {
    let now_us = || -> anyhow::Result<f64> {
        Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as f64) // far below 2^53
    };
    if let Some(input) = &mut server.input {
        std::thread::sleep(SETTLE);
        let made = now_us()?;
        input.write_all(b"\n")?;
        return Ok(made);
    }
    let node = node.context("it makes no tips of its own")?;
    let block = node.solve()?;
    std::thread::sleep(SETTLE);
    let made = now_us()?;
    node.submit(&block)?;
    Ok(made)
}

impl Outcome {
    /// Connections that were wanted and got no work.
    pub fn connects_failed(&self) -> f64 {
        number(&self.connect, "/connect/wanted") - number(&self.connect, "/connect/ready")
    }

    /// A figure of connecting.
    pub fn connect(&self, pointer: &str) -> f64 {
        number(&self.connect, pointer)
    }

    /// A figure of what the server used while connections came, for each of them.
    pub fn per_connection(&self, field: &str) -> f64 {
        number(&self.connect, &format!("/server/{field}")) / number(&self.connect, "/connect/ready")
    }

    /// A figure of the shares.
    pub fn shares(&self, pointer: &str) -> f64 {
        number(&self.shares, &format!("/shares/{pointer}"))
    }

    /// A figure of what the server used, for each share that was acknowledged.
    pub fn per_share(&self, field: &str) -> f64 {
        number(&self.shares, &format!("/server/{field}")) / self.shares("accepted")
    }

    /// Shares that were refused.
    pub fn refused(&self) -> f64 {
        self.refused_for(|_| true)
    }

    /// Shares that were refused for some of the reasons.
    pub fn refused_for(&self, counts: impl Fn(&str) -> bool) -> f64 {
        let reasons = self.shares.pointer("/shares/refused").and_then(Value::as_object);
        reasons.map_or(f64::NAN, |reasons| {
            let counted = reasons.iter().filter(|(reason, _)| counts(reason));
            counted.filter_map(|(_, count)| count.as_f64()).fold(0.0, |sum, count| sum + count)
        })
    }

    /// Shares whose answers never came.
    pub fn lost(&self) -> f64 {
        number(&self.shares, "/lost")
    }

    /// Connections that were closed since they had work. Some may have got theirs since the last was waited for.
    pub fn closed(&self) -> f64 {
        (number(&self.connect, "/connect/ready") - number(&self.shares, "/ready")).max(0.0)
    }

    /// A figure of what the server used while shares came.
    pub fn server(&self, field: &str) -> f64 {
        number(&self.shares, &format!("/server/{field}"))
    }

    /// The tip of which the last connection heard neither first nor last among the tips.
    pub fn tip(&self) -> Spread {
        let mut tips = self.tips.clone();
        tips.sort_by(|one, other| one.last.total_cmp(&other.last));
        tips.get(tips.len() / 2).copied().unwrap_or_default()
    }
}

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN)
}
