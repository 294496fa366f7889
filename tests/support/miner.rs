//! A V1 miner written against the protocol alone: JSON over TCP, rust-bitcoin for the hashing.
//!
//! Nothing here uses our protocol code, so a mistake in it cannot hide itself.

use super::PATIENCE;
use bitcoin::hashes::{Hash, sha256d};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A connection of one miner.
pub struct Miner {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    /// Notifications that arrived while an answer was awaited.
    pending: VecDeque<Value>,
    next_id: u64,
    user: String,
    /// As `mining.subscribe` gave it.
    pub extranonce1: Vec<u8>,
    /// As `mining.subscribe` gave it.
    pub extranonce2_size: usize,
    difficulty: f64,
    /// The newest job.
    pub job: Option<Job>,
    extranonce2: u64,
}

/// A job as `mining.notify` gave it, with the difficulty in force.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its id.
    pub id: String,
    prev_hash: [u8; 32],
    coinb1: Vec<u8>,
    coinb2: Vec<u8>,
    /// Sibling hashes up to the root; empty without further transactions.
    pub branch: Vec<[u8; 32]>,
    version: u32,
    nbits: u32,
    /// Header time as sent.
    pub ntime: u32,
    /// Whether older jobs are dead.
    pub clean: bool,
    /// Share difficulty.
    pub difficulty: f64,
}

/// A share that was found, ready to submit.
#[derive(Debug, Clone)]
pub struct Share {
    /// Parameters of `mining.submit`.
    pub params: Value,
    /// Header hash in internal order.
    pub hash: [u8; 32],
    /// Whether it meets the network target.
    pub is_block: bool,
}

impl Miner {
    /// Connects, subscribes and authorizes; waits for the first job.
    pub fn connect(pool: SocketAddr, user: &str, agent: &str) -> Self {
        let mut miner = Self::open(pool);
        miner.user = user.to_owned();
        let answer = miner.request("mining.subscribe", json!([agent]));
        miner.extranonce1 = hex(answer["result"][1].as_str().unwrap());
        miner.extranonce2_size = usize::try_from(answer["result"][2].as_u64().unwrap()).unwrap();
        let answer = miner.request("mining.authorize", json!([user, "x"]));
        assert_eq!(answer["result"], true, "{answer}");
        miner.wait_for_job(|_| true);
        miner
    }

    /// Only connects.
    pub fn open(pool: SocketAddr) -> Self {
        let stream = TcpStream::connect(pool).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            reader: BufReader::new(stream.try_clone().unwrap()),
            stream,
            pending: VecDeque::new(),
            next_id: 1,
            user: String::new(),
            extranonce1: Vec::new(),
            extranonce2_size: 0,
            difficulty: 1.0,
            job: None,
            extranonce2: 0,
        }
    }

    /// Sends a line as it is.
    pub fn send_line(&mut self, line: &str) -> std::io::Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes())
    }

    /// The next line from the pool; `None` when it has closed the connection.
    pub fn read_line(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap_or_else(|e| panic!("pool sent {line:?}: {e}"))),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("reading from the pool: {error}"),
        }
    }

    /// Sends a request and waits for its answer; notifications are kept.
    pub fn request(&mut self, method: &str, params: Value) -> Value {
        self.try_request(method, params).expect("the pool keeps the connection")
    }

    /// Like [`Miner::request`]; `None` if the connection ends before the answer.
    pub fn try_request(&mut self, method: &str, params: Value) -> Option<Value> {
        let id = self.next_id;
        self.next_id += 1;
        self.send_line(&json!({"id": id, "method": method, "params": params}).to_string()).ok()?;
        loop {
            let line = self.read_line()?;
            if line["id"] == id {
                return Some(line);
            }
            self.pending.push_back(line);
        }
    }

    fn take_in(&mut self, line: &Value) {
        let params = &line["params"];
        match line["method"].as_str() {
            Some("mining.set_difficulty") => self.difficulty = params[0].as_f64().unwrap(),
            Some("mining.notify") => self.job = Some(Job::parse(params, self.difficulty)),
            _ => {}
        }
    }

    /// Reads until a job is the one that is wanted.
    pub fn wait_for_job(&mut self, wanted: impl Fn(&Job) -> bool) -> Job {
        let started = Instant::now();
        loop {
            while let Some(line) = self.pending.pop_front() {
                self.take_in(&line);
            }
            if let Some(job) = self.job.clone().filter(&wanted) {
                return job;
            }
            assert!(started.elapsed() < PATIENCE, "no such job in time");
            let line = self.read_line().expect("the pool keeps the connection");
            self.pending.push_back(line);
        }
    }

    /// Takes in whatever has arrived, without waiting for more.
    pub fn catch_up(&mut self) {
        self.try_catch_up().expect("the pool keeps the connection");
    }

    /// Like [`Miner::catch_up`]; `None` if the connection has ended.
    pub fn try_catch_up(&mut self) -> Option<()> {
        loop {
            self.stream.set_read_timeout(Some(Duration::from_millis(1))).ok()?;
            let arrived = match self.reader.fill_buf() {
                Ok([]) => return None,
                Ok(_) => true,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
                Err(_) => return None,
            };
            // A line that has arrived in part is completed by waiting for the rest.
            self.stream.set_read_timeout(Some(PATIENCE)).ok()?;
            if !arrived {
                break;
            }
            let line = self.read_line()?;
            self.pending.push_back(line);
        }
        while let Some(line) = self.pending.pop_front() {
            self.take_in(&line);
        }
        Some(())
    }

    /// Hashes until a share of the newest job is found.
    pub fn find_share(&mut self) -> Share {
        self.find(|_, share| share)
    }

    /// Hashes until a block of the newest job is found.
    pub fn find_block(&mut self) -> Share {
        self.find(|block, _| block)
    }

    fn find(&mut self, wanted: impl Fn(bool, bool) -> bool) -> Share {
        let job = self.job.clone().expect("a job");
        let (network, own) = (target_of_nbits(job.nbits), target_of_difficulty(job.difficulty));
        loop {
            self.extranonce2 += 1;
            let extranonce2 = self.extranonce2.to_be_bytes();
            let extranonce2 = &extranonce2[8 - self.extranonce2_size..];
            let mut header = job.header(&self.extranonce1, extranonce2);
            for nonce in 0..1_u32 << 24 {
                header[76..80].copy_from_slice(&nonce.to_le_bytes());
                let hash = sha256d::Hash::hash(&header).to_byte_array();
                let mut big_endian = hash;
                big_endian.reverse();
                let is_block = big_endian <= network;
                if wanted(is_block, big_endian <= own) {
                    let words = [to_hex(extranonce2), format!("{:08x}", job.ntime), format!("{nonce:08x}")];
                    let params = json!([self.user, job.id, words[0], words[1], words[2]]);
                    return Share { params, hash, is_block };
                }
            }
        }
    }

    /// The numbers of a share rolled on the newest job.
    pub fn on_newest_job(&self, share: &Share) -> Share {
        let job = self.job.as_ref().expect("a job");
        let text = |at: usize| share.params[at].as_str().unwrap();
        let number = |at: usize| u32::from_str_radix(text(at), 16).unwrap().to_le_bytes();
        let mut header = job.header(&self.extranonce1, &hex(text(2)));
        header[68..72].copy_from_slice(&number(3));
        header[76..80].copy_from_slice(&number(4));
        let hash = sha256d::Hash::hash(&header).to_byte_array();
        let big_endian = {
            let mut hash = hash;
            hash.reverse();
            hash
        };
        let mut params = share.params.clone();
        params[1] = json!(job.id);
        Share { params, hash, is_block: big_endian <= target_of_nbits(job.nbits) }
    }

    /// The block of the newest job, without further transactions and without work.
    pub fn unsolved_block(&self) -> Vec<u8> {
        let job = self.job.as_ref().expect("a job");
        assert!(job.branch.is_empty(), "the job has transactions");
        let extranonce2 = vec![0; self.extranonce2_size];
        let transactions = [1];
        let coinbase = job.coinbase(&self.extranonce1, &extranonce2);
        [&job.header(&self.extranonce1, &extranonce2)[..], &transactions, &coinbase].concat()
    }

    /// Finds a share and submits it.
    pub fn mine_share(&mut self) -> (Share, Value) {
        let share = self.find_share();
        let answer = self.request("mining.submit", share.params.clone());
        (share, answer)
    }

    /// Mines until a share is acknowledged; only a new tip may make one late.
    pub fn mine_accepted_share(&mut self) -> Share {
        loop {
            self.catch_up();
            let (share, answer) = self.mine_share();
            if answer["result"] == true {
                return share;
            }
            assert_eq!(answer["error"][0], 21, "{answer}");
        }
    }

    /// Finds a block and submits it.
    pub fn mine_block(&mut self) -> (Share, Value) {
        let share = self.find_block();
        let answer = self.request("mining.submit", share.params.clone());
        (share, answer)
    }
}

impl Job {
    pub(super) fn parse(params: &Value, difficulty: f64) -> Self {
        let text = |index: usize| params[index].as_str().unwrap();
        let number = |index: usize| u32::from_str_radix(text(index), 16).unwrap();
        let mut prev_hash: [u8; 32] = hex(text(1)).try_into().unwrap();
        prev_hash.chunks_exact_mut(4).for_each(<[u8]>::reverse);
        let branch = params[4].as_array().unwrap();
        Self {
            id: text(0).to_owned(),
            prev_hash,
            coinb1: hex(text(2)),
            coinb2: hex(text(3)),
            branch: branch.iter().map(|node| hex(node.as_str().unwrap()).try_into().unwrap()).collect(),
            version: number(5),
            nbits: number(6),
            ntime: number(7),
            clean: params[8].as_bool().unwrap(),
            difficulty,
        }
    }

    /// Parent block as people write it.
    pub fn prev_hash(&self) -> String {
        bitcoin::BlockHash::from_byte_array(self.prev_hash).to_string()
    }

    /// The coinbase for an extranonce.
    pub fn coinbase(&self, extranonce1: &[u8], extranonce2: &[u8]) -> Vec<u8> {
        [&self.coinb1, extranonce1, extranonce2, &self.coinb2].concat()
    }

    pub(super) fn header(&self, extranonce1: &[u8], extranonce2: &[u8]) -> [u8; 80] {
        let coinbase = sha256d::Hash::hash(&self.coinbase(extranonce1, extranonce2));
        let root = self.branch.iter().fold(coinbase.to_byte_array(), |node, next| {
            sha256d::Hash::hash(&[node, *next].concat()).to_byte_array()
        });
        let mut header = [0; 80];
        header[..4].copy_from_slice(&self.version.to_le_bytes());
        header[4..36].copy_from_slice(&self.prev_hash);
        header[36..68].copy_from_slice(&root);
        header[68..72].copy_from_slice(&self.ntime.to_le_bytes());
        header[72..76].copy_from_slice(&self.nbits.to_le_bytes());
        header
    }
}

/// Big-endian network target.
fn target_of_nbits(nbits: u32) -> [u8; 32] {
    bitcoin::Target::from_compact(bitcoin::CompactTarget::from_consensus(nbits)).to_be_bytes()
}

/// Big-endian target of a difficulty that is a power of two.
fn target_of_difficulty(difficulty: f64) -> [u8; 32] {
    let pot = difficulty.log2();
    assert_eq!(pot.fract(), 0.0, "difficulty {difficulty} is no power of two");
    // 0xffff · 2^(208 − pot), bit by bit.
    let lowest = 208 - pot as i32;
    let mut target = [0_u8; 32];
    for bit in (lowest..lowest + 16).filter(|bit| (0..256).contains(bit)) {
        target[31 - (bit / 8) as usize] |= 1 << (bit % 8);
    }
    target
}

/// Bytes of hex digits.
pub fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// Hex digits of bytes.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
