//! The session from outside: lines in, lines out.

use super::*;
use crate::sample::{self, ADDRESS, HARD_NBITS, MAINNET_ADDRESS, OTHER_ADDRESS, PREFIX};
use proptest::prelude::*;
use serde_json::json;
use std::time::Duration;

mod difficulty;
mod hello;
mod properties;
mod replay;
mod replies;
mod requests;
mod submit;
mod version;
mod work;

/// A connection and everything that came out of it.
struct Peer {
    session: Session,
    now: Instant,
    actions: Vec<Action>,
}

impl Peer {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self { session: sample::session(settings, now), now, actions: Vec::new() }
    }

    fn fresh() -> Self {
        Self::new(sample::settings())
    }

    /// Subscribed, authorized as `ADDRESS.rig1` and holding a job; its actions are read.
    fn mining() -> Self {
        let mut peer = Self::fresh();
        peer.start();
        peer
    }

    fn start(&mut self) {
        self.say(json!({"id": 1, "method": "mining.subscribe", "params": ["cpuminer/2.5.1"]}));
        self.say(json!({"id": 2, "method": "mining.authorize", "params": [format!("{ADDRESS}.rig1"), "x"]}));
        self.work(&sample::encoded(sample::body(HARD_NBITS)));
        self.actions.clear();
    }

    fn say(&mut self, line: Value) {
        self.raw(&format!("{line}\n")).unwrap();
    }

    fn raw(&mut self, bytes: &str) -> Result<(), Fault> {
        self.session.receive(bytes.as_bytes(), self.now, &mut self.actions)
    }

    fn work(&mut self, encoded: &Arc<EncodedJob>) {
        self.session.work(encoded, self.now, &mut self.actions);
    }

    /// Takes all actions; sends and jobs as the lines that the machine reads.
    fn heard(&mut self) -> Vec<Value> {
        lines(self.actions.drain(..).collect())
    }

    fn answers(&mut self) -> Vec<Value> {
        self.heard().into_iter().filter(|line| line.get("method").is_none()).collect()
    }

    /// Asks and takes the one answer.
    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.say(json!({"id": 5, "method": method, "params": params}));
        let mut answers = self.answers();
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0]["id"], 5);
        answers.remove(0)
    }

    /// Asks and takes the code of the error.
    fn refused(&mut self, method: &str, params: Value) -> (i64, String) {
        let answer = self.ask(method, params);
        assert_eq!(answer["result"], Value::Null);
        (answer["error"][0].as_i64().unwrap(), answer["error"][1].as_str().unwrap().to_owned())
    }

    fn answer(&mut self, ticket: Ticket, answer: Result<(), Reject>) {
        self.session.answer(ticket, answer);
        self.session.flush(&mut self.actions);
    }

    /// Submits and answers that it is accepted.
    fn accept(&mut self, params: Value) -> PendingShare {
        let (ticket, share) = self.submit(params);
        self.answer(ticket, Ok(()));
        self.actions.clear();
        share
    }

    fn configure(&mut self, codes: Value, wishes: Value) -> Value {
        self.ask("mining.configure", json!([codes, wishes]))["result"].take()
    }

    /// Submits and takes the share.
    fn submit(&mut self, params: Value) -> (Ticket, PendingShare) {
        self.say(json!({"id": 9, "method": "mining.submit", "params": params}));
        match self.actions.drain(..).find(|action| matches!(action, Action::Share { .. })) {
            Some(Action::Share { ticket, share }) => (ticket, share),
            _ => panic!("no share"),
        }
    }
}

fn lines(actions: Vec<Action>) -> Vec<Value> {
    let mut pieces = Vec::new();
    for action in actions {
        match action {
            Action::Send(bytes) => pieces.push(bytes),
            Action::Job(session::JobMessage::V1(message)) => message.write_to(&mut pieces),
            _ => {}
        }
    }
    let text = String::from_utf8(pieces.concat()).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn user() -> String {
    format!("{ADDRESS}.rig1")
}

/// Parameters of a share for the first job.
fn share() -> Value {
    json!([user(), "70", "00000000000000ff", "6ab13b80", "0000002a"])
}

fn with_bits(bits: &str) -> Value {
    json!([user(), "70", "00000000000000ff", "6ab13b80", "0000002a", bits])
}

fn methods(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["method"].as_str().unwrap_or("-")).collect()
}

fn pot(pot: i8) -> Pot {
    Pot::try_from(pot).unwrap()
}

fn body_on(parent: u8) -> Arc<EncodedJob> {
    let mut body = sample::body(HARD_NBITS);
    body.prev_hash = sample::prev_hash(parent);
    sample::encoded(body)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A connection that agreed on a mask and holds a job of this version.
fn rolling(version: u32, mask: &str, settings: Settings) -> Peer {
    let mut peer = Peer::new(settings);
    peer.configure(json!(["version-rolling"]), json!({"version-rolling.mask": mask}));
    peer.ask("mining.subscribe", json!([]));
    peer.ask("mining.authorize", json!([user()]));
    let mut body = sample::body(HARD_NBITS);
    body.version = version;
    peer.work(&sample::encoded(body));
    peer.actions.clear();
    peer
}
