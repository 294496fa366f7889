//! Conversations of real firmware, played over a socket to a real pool.
//!
//! The files are those of `tests/vectors/v1`, which also say what a bare session answers; here the pool is
//! a process with a node behind it, so what depends on its work and settings may be anything: jobs,
//! difficulties, extranonces. Order, ids, kinds and refusals of all messages must be as written.

use serde_json::{Value, json};
use sluice_tests::support::miner::Miner;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{Pool, PoolBuilder, address};
use std::collections::VecDeque;
use std::path::Path;

struct Stage {
    miner: Miner,
    address: String,
    job: String,
    ntime: String,
    /// Read while something else was awaited.
    notifications: VecDeque<Value>,
    answers: VecDeque<Value>,
    /// There is a new parent: jobs on the one before may still be on their way, and are not clean.
    wants_clean: bool,
}

impl Stage {
    fn say(&mut self, message: &Value) {
        let line = message.to_string().replace("$address", &self.address);
        let line = line.replace("$ntime", &self.ntime).replace("$job", &self.job);
        self.miner.send_line(&line).unwrap();
    }

    /// The next message of the kind that is expected. The pool sends jobs when it has them, so only the
    /// order among answers and the order among notifications are the conversation's.
    fn next(&mut self, notification: bool) -> Value {
        loop {
            let queue = if notification { &mut self.notifications } else { &mut self.answers };
            if let Some(line) = queue.pop_front() {
                return line;
            }
            let line = self.miner.read_line().expect("the pool keeps the connection");
            let queue =
                if line.get("method").is_some() { &mut self.notifications } else { &mut self.answers };
            queue.push_back(line);
        }
    }

    fn hear(&mut self, expected: &Value) {
        let Some(method) = expected["method"].as_str() else {
            let said = self.next(false);
            return assert_answer(expected, &said);
        };
        // Jobs may come more often than written, each with its difficulty if that has changed.
        let said = loop {
            let said = self.next(true);
            let outdated = method == "mining.notify" && self.wants_clean && said["params"][8] != true;
            if said["method"] == method && !outdated {
                break said;
            }
            let spontaneous = ["mining.notify", "mining.set_difficulty"];
            assert!(spontaneous.iter().any(|name| said["method"] == *name), "{said} instead of {expected}");
        };
        assert_eq!(said["id"], Value::Null);
        if method == "mining.notify" {
            self.wants_clean = false;
            self.job = said["params"][0].as_str().unwrap().to_owned();
            self.ntime = said["params"][7].as_str().unwrap().to_owned();
        }
    }
}

fn assert_answer(expected: &Value, said: &Value) {
    assert_eq!(said["id"], expected["id"], "{said} instead of {expected}");
    match (&expected["result"], &said["result"]) {
        // A share that a script made up is hardly ever one: it is refused for its hash and nothing else.
        (Value::Bool(true), Value::Null) => assert_eq!(said["error"][0], 23, "{said}"),
        (Value::Null, _) => assert_eq!(said["error"][0], expected["error"][0], "{said}"),
        (Value::Array(expected), Value::Array(said)) => {
            assert_eq!(said[0][0][0], expected[0][0][0]);
            assert_eq!((said.len(), &said[2]), (expected.len(), &expected[2]));
        }
        (expected, actual) => assert_eq!(actual, expected, "{said}"),
    }
    assert_eq!(said["result"].is_null(), !said["error"].is_null());
}

fn play(pool: &Pool, node: &Node, path: &Path) {
    let mut stage = Stage {
        miner: Miner::open(pool.v1()),
        address: address(1, node.network),
        job: String::new(),
        ntime: String::new(),
        notifications: VecDeque::new(),
        answers: VecDeque::new(),
        wants_clean: false,
    };
    for line in std::fs::read_to_string(path).unwrap().lines() {
        println!("{}: {line}", path.display());
        let line: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
        match line.iter().next().unwrap() {
            (kind, value) if kind == "miner" => stage.say(value),
            (kind, value) if kind == "server" => stage.hear(value),
            // A new block; everything else the pool does by itself.
            (kind, value) if kind == "do" && value == "new parent" => {
                let tries = 1_000_000_000;
                node.call("generatetoaddress", &[json!(1), json!(address(7, node.network)), json!(tries)]);
                stage.wants_clean = true;
            }
            _ => {}
        }
    }
}

#[test]
fn v1_08_conversations_of_real_firmware_go_as_written_with_a_real_pool() {
    // On regtest every difficulty is the network's, and no wish for another one would be heard.
    let node = Node::signet();
    let pool = PoolBuilder::new(&node).start();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/v1");
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 5);
    files.iter().for_each(|path| play(&pool, &node, path));
}
