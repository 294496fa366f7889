//! One connection: a socket, a session, and the miners behind it.

use crate::acks::Acks;
use crate::cli::{Machine, Server, Url};
use crate::protocol::{Learnt, Protocol};
use crate::tally::Tally;
use crate::work::{Assignment, Share};
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

/// Shares on their way from a hashing thread to its connection.
pub const FOUND_QUEUE_LEN: usize = 64;
const CONNECT_MAX: Duration = Duration::from_secs(10);
const WRITE_MAX: Duration = Duration::from_secs(10);
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A server that names a longer pause before a reconnection is not obeyed.
const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(60);
const READ_BYTES: usize = 16 * 1024;

/// What all connections share; they live on one thread.
#[derive(Debug)]
pub struct Shared {
    /// Where to connect.
    pub url: Url,
    /// What is spoken there.
    pub server: Server,
    /// Whether to ask for version rolling.
    pub version_rolling: bool,
    /// Whether to send acknowledged shares again.
    pub replay_accepted: bool,
    /// Counters.
    pub tally: RefCell<Tally>,
    /// The file of acknowledged shares.
    pub acks: Option<RefCell<Acks>>,
    /// One read buffer for all: a connection holds it only while it parses.
    pub buffer: RefCell<Vec<u8>>,
}

impl Shared {
    /// Nothing counted yet.
    pub fn new(
        url: Url,
        server: Server,
        version_rolling: bool,
        replay_accepted: bool,
        acks: Option<Acks>,
    ) -> Self {
        let buffer = RefCell::new(vec![0; READ_BYTES]);
        let (tally, acks) = (RefCell::default(), acks.map(RefCell::new));
        Self { url, server, version_rolling, replay_accepted, tally, acks, buffer }
    }
}

/// The ends of its miners' queues that a connection holds.
#[derive(Debug)]
pub struct Pickaxe {
    /// What to hash, by slot; `None` rests.
    pub work: Vec<watch::Sender<Option<Assignment>>>,
    /// What was found.
    pub found: mpsc::Receiver<Share>,
}

/// Keeps a machine connected until `stop` turns true.
pub async fn run(
    machine: Machine,
    index: usize,
    shared: Rc<Shared>,
    mut pickaxe: Option<Pickaxe>,
    mut stop: watch::Receiver<bool>,
) {
    let mut backoff = BACKOFF_MIN;
    let mut port = shared.url.port;
    while !*stop.borrow() {
        let (end, authorized) = connect(&machine, &shared, pickaxe.as_mut(), port, &mut stop).await;
        let wait = match end {
            End::Stopped => return,
            End::Reconnect { port: other, wait } => {
                port = other.unwrap_or(port);
                shared.tally.borrow_mut().disconnects.count("the server asked us to reconnect");
                wait.min(RECONNECT_WAIT_MAX)
            }
            End::Lost(reason) => {
                port = shared.url.port;
                shared.tally.borrow_mut().disconnects.count(reason);
                backoff = if authorized { BACKOFF_MIN } else { (backoff * 2).min(BACKOFF_MAX) };
                // Spread by machine, so that they do not all come back at once.
                backoff + backoff * u32::try_from(index % 16).unwrap_or(0) / 32
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

enum End {
    Stopped,
    Reconnect { port: Option<u16>, wait: Duration },
    Lost(String),
}

/// One connection from beginning to end; and whether it ever was of use.
async fn connect(
    machine: &Machine,
    shared: &Shared,
    pickaxe: Option<&mut Pickaxe>,
    port: u16,
    stop: &mut watch::Receiver<bool>,
) -> (End, bool) {
    let started = Instant::now();
    let begun = tokio::select! {
        begun = tokio::time::timeout(CONNECT_MAX, begin(machine, shared, port)) => begun,
        _ = stop.wait_for(|stop| *stop) => return (End::Stopped, false),
    };
    let (mut stream, protocol) = match begun {
        Ok(Ok(begun)) => begun,
        Ok(Err(reason)) => return (End::Lost(reason), false),
        Err(_) => return (End::Lost("cannot connect: timed out".to_owned()), false),
    };
    let mut session = Session::new(machine, shared, pickaxe, protocol, started);
    let end = session.talk(&mut stream, stop).await;
    let authorized = session.since_authorized.is_some();
    session.close();
    (end, authorized)
}

async fn begin(machine: &Machine, shared: &Shared, port: u16) -> Result<(TcpStream, Protocol), String> {
    let address = (shared.url.host.as_str(), port);
    let connected = TcpStream::connect(address).await;
    let mut stream = connected.map_err(|error| format!("cannot connect: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let protocol = Protocol::begin(&mut stream, machine, shared).await?;
    Ok((stream, protocol))
}

struct Session<'a> {
    machine: &'a Machine,
    shared: &'a Shared,
    pickaxe: Option<&'a mut Pickaxe>,
    protocol: Protocol,
    started: Instant,
    since_authorized: Option<Instant>,
    /// By slot.
    prev_hashes: Vec<BlockHash>,
    /// Shares that wait for their answer, by tag.
    sent: HashMap<u64, Sent>,
    next_tag: u64,
    out: Vec<u8>,
}

struct Sent {
    share: Share,
    at: Instant,
    replay: bool,
}

impl<'a> Session<'a> {
    fn new(
        machine: &'a Machine,
        shared: &'a Shared,
        pickaxe: Option<&'a mut Pickaxe>,
        protocol: Protocol,
        started: Instant,
    ) -> Self {
        Self {
            machine,
            shared,
            pickaxe,
            protocol,
            started,
            since_authorized: None,
            prev_hashes: vec![BlockHash::all_zeros(); shared.server.slots()],
            sent: HashMap::new(),
            next_tag: 0,
            out: Vec::new(),
        }
    }

    async fn talk(&mut self, stream: &mut TcpStream, stop: &mut watch::Receiver<bool>) -> End {
        loop {
            let end = self.perform();
            if !self.out.is_empty() {
                match tokio::time::timeout(WRITE_MAX, stream.write_all(&self.out)).await {
                    Ok(Ok(())) => self.out.clear(),
                    Ok(Err(error)) => return End::Lost(error.to_string()),
                    Err(_) => return End::Lost("the server does not read".to_owned()),
                }
                // An idle connection keeps no buffer.
                self.out.shrink_to(4_096);
            }
            if let Some(end) = end {
                return end;
            }
            let stopping = *stop.borrow();
            if stopping {
                self.rest();
                if self.sent.is_empty() {
                    return End::Stopped;
                }
            }
            let deadline = tokio::time::Instant::from_std(self.protocol.deadline());
            let found = async {
                match &mut self.pickaxe {
                    Some(pickaxe) if !stopping => pickaxe.found.recv().await,
                    _ => std::future::pending().await,
                }
            };
            let result = tokio::select! {
                ready = stream.readable() => match ready {
                    Ok(()) => self.read(stream),
                    Err(error) => Err(error.to_string()),
                },
                Some(share) = found => {
                    self.submit(share, false);
                    Ok(())
                }
                () = tokio::time::sleep_until(deadline) => {
                    self.protocol.tick(Instant::now())
                }
                _ = stop.wait_for(|stop| *stop), if !stopping => Ok(()),
            };
            if let Err(reason) = result {
                // What was learnt before the fault still counts.
                return self.perform().unwrap_or(End::Lost(reason));
            }
        }
    }

    fn read(&mut self, stream: &TcpStream) -> Result<(), String> {
        let mut buffer = self.shared.buffer.borrow_mut();
        match stream.try_read(&mut buffer) {
            Ok(0) => Err("the server closed the connection".to_owned()),
            Ok(bytes) => self.protocol.receive(&buffer[..bytes], Instant::now()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Acts upon what the session has learnt; bytes to send collect in `out`.
    fn perform(&mut self) -> Option<End> {
        let mut end = None;
        loop {
            // An acknowledged share may be sent again, which is something new to send.
            let learnt = self.protocol.learn(Instant::now(), &mut self.out);
            if learnt.is_empty() {
                return end;
            }
            for learnt in learnt {
                match learnt {
                    Learnt::Ready => self.authorized(),
                    Learnt::Work { slot, assignment } => self.work(slot, assignment),
                    Learnt::VersionMask(version_mask) => {
                        for work in self.pickaxe.iter().flat_map(|pickaxe| &pickaxe.work) {
                            let job = work.borrow().as_ref().map(|assignment| assignment.job.clone());
                            work.send_replace(job.map(|job| Assignment { job, version_mask }));
                        }
                    }
                    Learnt::Answer { tag, result } => self.answered(tag, result),
                    Learnt::Reconnect { port, wait } => end = Some(End::Reconnect { port, wait }),
                    Learnt::Say(message) => eprintln!("fleet: {message}"),
                    Learnt::Lost(reason) => end = Some(End::Lost(reason)),
                }
            }
        }
    }

    fn work(&mut self, slot: usize, assignment: Assignment) {
        let mut tally = self.shared.tally.borrow_mut();
        tally.jobs += 1;
        let prev_hash = assignment.job.prev_hash();
        if std::mem::replace(&mut self.prev_hashes[slot], prev_hash) != prev_hash {
            tally.tip(prev_hash, Instant::now());
        }
        if let Some(pickaxe) = &self.pickaxe {
            pickaxe.work[slot].send_replace(Some(assignment));
        }
    }

    fn authorized(&mut self) {
        let now = Instant::now();
        self.since_authorized = Some(now);
        let mut tally = self.shared.tally.borrow_mut();
        tally.handshakes += 1;
        tally.handshake.record(micros(now - self.started));
        tally.authorized += 1;
        tally.authorized_max = tally.authorized_max.max(tally.authorized);
    }

    fn submit(&mut self, share: Share, replay: bool) {
        if !replay && !self.protocol.is_live(&share.job) {
            self.shared.tally.borrow_mut().outdated += 1;
            return;
        }
        let (tag, at) = (self.next_tag, Instant::now());
        match self.protocol.submit(&share, tag, at) {
            Ok(()) => {
                self.next_tag += 1;
                if !replay {
                    self.shared.tally.borrow_mut().submitted += 1;
                }
                self.sent.insert(tag, Sent { share, at, replay });
            }
            // A job that came before the authorization, or a mask that has just changed.
            Err(error) => self.shared.tally.borrow_mut().refused.count(format!("not sent: {error}")),
        }
    }

    fn answered(&mut self, tag: u64, result: Result<(), String>) {
        let Some(Sent { share, at, replay }) = self.sent.remove(&tag) else { return };
        let mut tally = self.shared.tally.borrow_mut();
        tally.latency.record(micros(at.elapsed()));
        match (result, replay) {
            (Ok(()), false) => {
                tally.acknowledged += 1;
                let digest = sha256d::sha256d(&share.header());
                tally.blocks += u64::from(share.job.network_target().is_met_by(&digest));
                drop(tally);
                if let Some(acks) = &self.shared.acks
                    && let Err(error) = acks.borrow_mut().append(&self.machine.user, &share)
                {
                    eprintln!("fleet: cannot write to the file of acknowledged shares: {error}");
                }
                if self.shared.replay_accepted {
                    self.submit(share, true);
                }
            }
            (Ok(()), true) => tally.replays_acknowledged += 1,
            (Err(reason), false) => tally.refused.count(reason),
            (Err(reason), true) => tally.replays_refused.count(reason),
        }
    }

    /// The miner rests, and what it has found meanwhile is void.
    fn rest(&mut self) {
        if let Some(pickaxe) = &mut self.pickaxe {
            for work in &pickaxe.work {
                work.send_replace(None);
            }
            while pickaxe.found.try_recv().is_ok() {
                self.shared.tally.borrow_mut().outdated += 1;
            }
        }
    }

    fn close(&mut self) {
        self.rest();
        let mut tally = self.shared.tally.borrow_mut();
        tally.authorized -= u64::from(self.since_authorized.is_some());
        tally.unanswered += self.sent.values().filter(|sent| !sent.replay).count() as u64; // widens
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
