//! Many V1 machines on one thread, each with its own connection, that submit at difficulties where every nonce is a share.

use super::miner::{Job, hex, to_hex};
use super::wait_for;
use bitcoin::hashes::{Hash, sha256d};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Pause between two looks at all machines.
const PASS_EVERY: Duration = Duration::from_millis(5);
/// Pause before a machine connects again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Running machines; they end when dropped.
pub struct Herd {
    flags: Arc<Flags>,
    tally: Arc<Mutex<Tally>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Flags {
    stop: AtomicBool,
    /// Nothing more is submitted.
    quiet: AtomicBool,
}

/// What has happened to all machines together.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Machines that have work now.
    pub with_work: usize,
    /// Connections that ended.
    pub disconnects: u64,
    /// Shares sent.
    pub submitted: u64,
    /// Header hashes of the shares that were acknowledged, in internal order.
    pub acknowledged: Vec<[u8; 32]>,
    /// Shares refused, by code.
    pub refused: BTreeMap<u64, u64>,
    /// Shares whose connection ended before the answer.
    pub unanswered: u64,
    /// Shares without an answer so far.
    pub waiting: u64,
    /// Answers that nobody had asked for.
    pub strays: u64,
    /// When the machine whose work is the oldest got it; `None` while one has none.
    pub oldest_work: Option<Instant>,
    /// Bytes of extranonce2, as each machine was told last: how many machines roll so many.
    pub extranonce2_bytes: BTreeMap<usize, usize>,
}

impl Tally {
    /// Whether every share has had one answer, or lost its connection before.
    pub fn adds_up(&self) -> bool {
        let answered = self.acknowledged.len() as u64 + self.refused.values().sum::<u64>();
        self.strays == 0 && self.submitted == answered + self.unanswered + self.waiting
    }

    fn all_have_newer_work(&self, than: Instant) -> bool {
        self.oldest_work.is_some_and(|at| at > than)
    }
}

struct Machine {
    user: String,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
    connect_at: Instant,
    submit_at: Instant,
    extranonce1: Vec<u8>,
    extranonce2_size: usize,
    difficulty: f64,
    job: Option<(Job, Instant)>,
    /// The answer that is waited for, and the share's hash.
    waiting: Option<(u64, [u8; 32])>,
    next_id: u64,
}

/// Ids of the first two requests; those of shares follow.
const SUBSCRIBE: u64 = 1;
const AUTHORIZE: u64 = 2;

impl Herd {
    /// Machines for these users, each of which submits a share every `every` once it has work.
    pub fn start(server: SocketAddr, users: Vec<String>, every: Duration) -> Self {
        stratum_net::limits::raise_file_limit();
        let (flags, tally) = (Arc::new(Flags::default()), Arc::new(Mutex::new(Tally::default())));
        let (now, count) = (Instant::now(), users.len() as u32);
        let machines = users.into_iter().enumerate();
        // Spread over the time between two shares.
        let mut machines: Vec<_> =
            machines.map(|(at, user)| Machine::new(user, now + every * at as u32 / count)).collect();
        let (shared, shown) = (flags.clone(), tally.clone());
        let thread = std::thread::spawn(move || {
            let mut tally = Tally::default();
            while !shared.stop.load(Ordering::SeqCst) {
                let quiet = shared.quiet.load(Ordering::SeqCst);
                for machine in &mut machines {
                    machine.pass(server, every, quiet, &mut tally);
                }
                tally.look(&machines);
                *shown.lock().unwrap_or_else(PoisonError::into_inner) = tally.clone();
                std::thread::sleep(PASS_EVERY);
            }
        });
        Self { flags, tally, thread: Some(thread) }
    }

    /// What has happened so far.
    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until that many machines have work.
    pub fn wait_for_work(&self, machines: usize) {
        for step in (100..machines).step_by(100).chain([machines]) {
            wait_for(&format!("{step} machines with work"), || {
                (self.tally().with_work >= step).then_some(())
            });
        }
    }

    /// Waits until every machine has work that is newer; gives how long after that moment the last one got it.
    pub fn wait_for_newer_work(&self, than: Instant) -> Duration {
        wait_for("newer work for every machine", || self.tally().all_have_newer_work(than).then_some(()));
        than.elapsed()
    }

    /// Waits until that many shares more were acknowledged.
    pub fn wait_for_acknowledged(&self, more: usize) {
        let before = self.tally().acknowledged.len();
        wait_for("acknowledged shares", || (self.tally().acknowledged.len() >= before + more).then_some(()));
    }

    /// Lets nobody submit any more and waits for the last answer.
    pub fn quiet(&self) -> Tally {
        self.flags.quiet.store(true, Ordering::SeqCst);
        // One pass more, in which a share may have left already.
        let (mut before, mut settled) = (self.tally().submitted, 0);
        wait_for("the last answer", || {
            let tally = self.tally();
            settled = if tally.waiting == 0 && tally.submitted == before { settled + 1 } else { 0 };
            before = tally.submitted;
            (settled >= 5).then_some(tally)
        })
    }

    /// Lets everybody submit again.
    pub fn go_on(&self) {
        self.flags.quiet.store(false, Ordering::SeqCst);
    }
}

impl Drop for Herd {
    fn drop(&mut self) {
        self.flags.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the machines' thread");
            }
        }
    }
}

impl Tally {
    fn look(&mut self, machines: &[Machine]) {
        self.with_work = machines.iter().filter(|machine| machine.job.is_some()).count();
        self.waiting = machines.iter().filter(|machine| machine.waiting.is_some()).count() as u64;
        let since = |machine: &Machine| machine.job.as_ref().map(|(_, since)| *since);
        let all: Option<Vec<_>> = machines.iter().map(since).collect();
        self.oldest_work = all.and_then(|all| all.into_iter().min());
        self.extranonce2_bytes.clear();
        for machine in machines.iter().filter(|machine| machine.stream.is_some()) {
            *self.extranonce2_bytes.entry(machine.extranonce2_size).or_default() += 1;
        }
    }
}

impl Machine {
    fn new(user: String, submit_at: Instant) -> Self {
        Self {
            user,
            stream: None,
            buffer: Vec::new(),
            connect_at: submit_at,
            submit_at,
            extranonce1: Vec::new(),
            extranonce2_size: 0,
            difficulty: 1.0,
            job: None,
            waiting: None,
            next_id: AUTHORIZE + 1,
        }
    }

    fn pass(&mut self, server: SocketAddr, every: Duration, quiet: bool, tally: &mut Tally) {
        let now = Instant::now();
        if self.stream.is_none() && now >= self.connect_at {
            self.connect(server);
        }
        if self.stream.is_none() {
            return;
        }
        let alive = self.read(tally).and_then(|()| {
            let submits = !quiet && now >= self.submit_at && self.waiting.is_none() && self.job.is_some();
            if submits {
                self.submit_at = now + every;
                self.submit(tally)?;
            }
            Some(())
        });
        if alive.is_none() {
            self.stream = None;
            self.job = None;
            self.connect_at = now + AGAIN_AFTER;
            tally.disconnects += 1;
            tally.unanswered += u64::from(self.waiting.take().is_some());
        }
    }

    fn connect(&mut self, server: SocketAddr) {
        self.connect_at = Instant::now() + AGAIN_AFTER;
        let Ok(stream) = TcpStream::connect(server) else { return };
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        self.stream = Some(stream);
        self.buffer.clear();
        let subscribe =
            json!({"id": SUBSCRIBE, "method": "mining.subscribe", "params": ["sluice-fleet/herd"]});
        let authorize = json!({"id": AUTHORIZE, "method": "mining.authorize", "params": [self.user, "x"]});
        // If it fails, reading will find out.
        let _ = self.send(&format!("{subscribe}\n{authorize}\n"));
    }

    fn send(&mut self, text: &str) -> Option<()> {
        self.stream.as_mut()?.write_all(text.as_bytes()).ok()
    }

    /// `None`: the connection has ended.
    fn read(&mut self, tally: &mut Tally) -> Option<()> {
        let mut ended = false;
        let mut piece = [0; 4_096];
        loop {
            match self.stream.as_mut()?.read(&mut piece) {
                Ok(0) => ended = true,
                Ok(read) => {
                    self.buffer.extend_from_slice(&piece[..read]);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => ended = true,
            }
            break;
        }
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            self.line(&serde_json::from_slice(&line).unwrap(), tally);
        }
        (!ended).then_some(())
    }

    fn line(&mut self, line: &Value, tally: &mut Tally) {
        let params = &line["params"];
        match (line["method"].as_str(), line["id"].as_u64()) {
            (Some("mining.set_difficulty"), _) => self.difficulty = params[0].as_f64().unwrap(),
            (Some("mining.notify"), _) => {
                self.job = Some((Job::parse(params, self.difficulty), Instant::now()));
            }
            (Some(_), _) => {}
            (None, Some(SUBSCRIBE)) => {
                self.extranonce1 = hex(line["result"][1].as_str().unwrap());
                self.extranonce2_size = usize::try_from(line["result"][2].as_u64().unwrap()).unwrap();
            }
            (None, Some(AUTHORIZE)) => assert_eq!(line["result"], true, "{line}"),
            (None, id) => match self.waiting.take_if(|(waiting, _)| Some(*waiting) == id) {
                Some((_, hash)) if line["result"] == true => tally.acknowledged.push(hash),
                Some(_) => *tally.refused.entry(line["error"][0].as_u64().unwrap()).or_default() += 1,
                None => tally.strays += 1,
            },
        }
    }

    fn submit(&mut self, tally: &mut Tally) -> Option<()> {
        let (job, _) = self.job.as_ref().expect("asked before");
        let id = self.next_id;
        self.next_id += 1;
        let extranonce2 = vec![0; self.extranonce2_size];
        let nonce = u32::try_from(id).unwrap();
        let mut header = job.header(&self.extranonce1, &extranonce2);
        header[76..80].copy_from_slice(&nonce.to_le_bytes());
        let hash = sha256d::Hash::hash(&header).to_byte_array();
        let words = [to_hex(&extranonce2), format!("{:08x}", job.ntime), format!("{nonce:08x}")];
        let params = json!([self.user, job.id, words[0], words[1], words[2]]);
        let line = json!({"id": id, "method": "mining.submit", "params": params});
        self.waiting = Some((id, hash));
        tally.submitted += 1;
        self.send(&format!("{line}\n"))
    }
}
