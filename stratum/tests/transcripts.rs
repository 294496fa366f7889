//! Conversations of real firmware, written down in `tests/vectors/v1`, held with a session.
//!
//! Each line of a file is one of: `miner` says, `server` must say next, the owner must `do`, `note`.
//! Placeholders: `$address` of the payee, `$ntime` of the job, `$job` (bound by a notify, used by a
//! submit), `$any`.

#![allow(clippy::unwrap_used, reason = "a test, but not inside of a test function")]

use serde_json::Value;
use std::collections::VecDeque;
use std::path::Path;
use std::time::Instant;
use stratum::session::{Action, JobMessage, Ticket};
use stratum::share::Reject;
use stratum::v1::server::Session;

#[path = "../src/sample.rs"]
mod sample;

struct Stage {
    session: Session,
    now: Instant,
    said: VecDeque<Value>,
    shares: VecDeque<Ticket>,
    job: String,
    parent: u8,
    wants_work: bool,
}

impl Stage {
    fn new() -> Self {
        let now = Instant::now();
        let session = sample::session(sample::settings(), now);
        let (said, shares) = (VecDeque::new(), VecDeque::new());
        Self { session, now, said, shares, job: String::new(), parent: 1, wants_work: false }
    }

    fn take(&mut self, actions: Vec<Action>) {
        let mut pieces = Vec::new();
        for action in actions {
            match action {
                Action::Send(bytes) => pieces.push(bytes),
                Action::Job(JobMessage::V1(message)) => message.write_to(&mut pieces),
                Action::Share { ticket, share } => {
                    assert!(share.allowed.is_ok(), "{:?}", share.allowed);
                    self.shares.push_back(ticket);
                }
                Action::Unanswered(_) => panic!("no transcript is that fast"),
                Action::Refused(_) => {}
                Action::NeedWork => self.wants_work = true,
                Action::Job(JobMessage::V2(_)) | Action::Open(_) | Action::Closed(_) => panic!("this is V1"),
            }
        }
        let text = String::from_utf8(pieces.concat()).unwrap();
        self.said.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }

    fn miner(&mut self, message: &Value) {
        let ntime = format!("{:08x}", sample::UNIX_S);
        let line = message.to_string().replace("$address", sample::ADDRESS).replace("$ntime", &ntime);
        let line = line.replace("$job", &self.job) + "\n";
        let mut actions = Vec::new();
        self.session.receive(line.as_bytes(), self.now, &mut actions).unwrap();
        self.take(actions);
    }

    fn server(&mut self, expected: &Value) {
        let said = self.said.pop_front().unwrap_or_else(|| panic!("silent instead of {expected}"));
        self.compare(expected, &said);
    }

    fn compare(&mut self, expected: &Value, said: &Value) {
        match (expected, said) {
            (Value::String(any), _) if any == "$any" => {}
            (Value::String(job), Value::String(id)) if job == "$job" => self.job = id.clone(),
            (Value::Array(expected), Value::Array(said)) if expected.len() == said.len() => {
                expected.iter().zip(said).for_each(|(expected, said)| self.compare(expected, said));
            }
            (Value::Object(expected), Value::Object(said)) if expected.len() == said.len() => {
                for (key, value) in expected {
                    self.compare(value, &said[key]);
                }
            }
            _ => assert_eq!(said, expected),
        }
    }

    fn act(&mut self, what: &str) {
        let mut actions = Vec::new();
        match what {
            "work" => assert!(self.wants_work, "not ready"),
            "new parent" => self.parent += 1,
            "accept" | "refuse" => {
                let answer = if what == "accept" { Ok(()) } else { Err(Reject::LowDifficulty) };
                let ticket = self.shares.pop_front().expect("a share waits");
                self.session.answer(ticket, answer);
                self.session.flush(&mut actions);
            }
            other => panic!("nobody can {other}"),
        }
        if matches!(what, "work" | "new parent") {
            let mut body = sample::body(sample::HARD_NBITS);
            body.prev_hash = sample::prev_hash(self.parent);
            self.session.work(&sample::encoded(body), self.now, &mut actions);
        }
        self.take(actions);
    }
}

#[test]
fn v1_08_conversations_of_real_firmware_go_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/v1");
    let mut files = 0;
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        let mut stage = Stage::new();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            println!("{line}");
            let line: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
            let (kind, value) = line.iter().next().unwrap();
            match kind.as_str() {
                "miner" => stage.miner(value),
                "server" => stage.server(value),
                "do" => stage.act(value.as_str().unwrap()),
                "note" => {}
                other => panic!("unknown line {other}"),
            }
        }
        assert!(stage.said.is_empty(), "unexpected: {:?}", stage.said);
        assert!(stage.shares.is_empty());
        files += 1;
    }
    assert_eq!(files, 5);
}
