//! One connection: a socket, a session, and the miner behind it.

use crate::acks::Acks;
use crate::cli::{Machine, Url, Work};
use crate::roll::Assignment;
use crate::tally::Tally;
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::{Duration, Instant};
use stratum::v1::client::{Client, Event, Refusal, Settings, Share};
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
    pub fn new(url: Url, version_rolling: bool, replay_accepted: bool, acks: Option<Acks>) -> Self {
        let buffer = RefCell::new(vec![0; READ_BYTES]);
        let (tally, acks) = (RefCell::default(), acks.map(RefCell::new));
        Self { url, version_rolling, replay_accepted, tally, acks, buffer }
    }
}

/// The ends of a miner's queues that its connection holds.
#[derive(Debug)]
pub struct Pickaxe {
    /// What to hash; `None` rests.
    pub work: watch::Sender<Option<Assignment>>,
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
        let mut session = Session::new(&machine, &shared, pickaxe.as_mut());
        let end = session.run(port, &mut stop).await;
        let authorized = session.since_authorized.is_some();
        session.close();
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

struct Session<'a> {
    machine: &'a Machine,
    shared: &'a Shared,
    pickaxe: Option<&'a mut Pickaxe>,
    client: Client,
    started: Instant,
    since_authorized: Option<Instant>,
    prev_hash: BlockHash,
    /// Shares that wait for their answer, by tag.
    sent: HashMap<u64, Sent>,
    next_tag: u64,
    events: Vec<Event>,
    out: Vec<u8>,
}

struct Sent {
    share: Share,
    at: Instant,
    replay: bool,
}

impl<'a> Session<'a> {
    fn new(machine: &'a Machine, shared: &'a Shared, pickaxe: Option<&'a mut Pickaxe>) -> Self {
        let now = Instant::now();
        let defaults = Settings::new(machine.user.clone(), shared.url.host.clone());
        let settings = Settings {
            password: machine.password.clone(),
            agent: machine.agent.clone(),
            version_mask: defaults.version_mask.filter(|_| shared.version_rolling),
            // Thousands of idle connections must not keep 32 jobs each.
            jobs_max: if machine.work == Work::Idle { 1 } else { defaults.jobs_max },
            ..defaults
        };
        Self {
            machine,
            shared,
            pickaxe,
            client: Client::new(settings, now),
            started: now,
            since_authorized: None,
            prev_hash: BlockHash::all_zeros(),
            sent: HashMap::new(),
            next_tag: 0,
            events: Vec::new(),
            out: Vec::new(),
        }
    }

    async fn run(&mut self, port: u16, stop: &mut watch::Receiver<bool>) -> End {
        let address = (self.shared.url.host.as_str(), port);
        let connected = tokio::select! {
            connected = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(address)) => connected,
            _ = stop.wait_for(|stop| *stop) => return End::Stopped,
        };
        let mut stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return End::Lost(format!("cannot connect: {error}")),
            Err(_) => return End::Lost("cannot connect: timed out".to_owned()),
        };
        if let Err(error) = stream.set_nodelay(true) {
            return End::Lost(error.to_string());
        }
        self.client.start(Instant::now(), &mut self.events);
        self.talk(&mut stream, stop).await
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
            let deadline = tokio::time::Instant::from_std(self.client.deadline());
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
                    self.client.tick(Instant::now()).map_err(|fault| fault.to_string())
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
            Ok(bytes) => self
                .client
                .receive(&buffer[..bytes], Instant::now(), &mut self.events)
                .map_err(|fault| fault.to_string()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Acts upon what the session has learnt; bytes to send collect in `out`.
    fn perform(&mut self) -> Option<End> {
        let mut end = None;
        // An acknowledged share may be sent again, which makes new events.
        while !self.events.is_empty() {
            for event in std::mem::take(&mut self.events) {
                match event {
                    Event::Send(bytes) => self.out.extend_from_slice(&bytes),
                    Event::Subscribed { .. } => {}
                    Event::Authorized => self.authorized(),
                    Event::Job(job) => {
                        let mut tally = self.shared.tally.borrow_mut();
                        tally.jobs += 1;
                        if job.prev_hash != self.prev_hash {
                            self.prev_hash = job.prev_hash;
                            tally.tip(job.prev_hash, Instant::now());
                        }
                        if let Some(pickaxe) = &self.pickaxe {
                            let version_mask = self.client.version_mask();
                            pickaxe.work.send_replace(Some(Assignment { job, version_mask }));
                        }
                    }
                    Event::VersionMask(version_mask) => {
                        if let Some(pickaxe) = &self.pickaxe {
                            let job = pickaxe.work.borrow().as_ref().map(|assignment| assignment.job.clone());
                            let assignment = job.map(|job| Assignment { job, version_mask });
                            pickaxe.work.send_replace(assignment);
                        }
                    }
                    Event::Answer { tag, result } => self.answered(tag, result),
                    Event::Reconnect { port, wait } => end = Some(End::Reconnect { port, wait }),
                    Event::ReconnectRefused { host } => {
                        eprintln!("fleet: not going to foreign host {host}, which the server names");
                    }
                    Event::ShowMessage(message) => eprintln!("fleet: the server says: {message}"),
                }
            }
        }
        end
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
        if !replay && !self.client.is_live(&share.job) {
            self.shared.tally.borrow_mut().outdated += 1;
            return;
        }
        let (tag, at) = (self.next_tag, Instant::now());
        match self.client.submit(&share, tag, at, &mut self.events) {
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

    fn answered(&mut self, tag: u64, result: Result<(), Refusal>) {
        let Some(Sent { share, at, replay }) = self.sent.remove(&tag) else { return };
        let mut tally = self.shared.tally.borrow_mut();
        tally.latency.record(micros(at.elapsed()));
        match (result, replay) {
            (Ok(()), false) => {
                tally.acknowledged += 1;
                let digest = sha256d::sha256d(&share.header());
                tally.blocks += u64::from(share.job.network_target.is_met_by(&digest));
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
            (Err(refusal), false) => tally.refused.count_refusal(&refusal),
            (Err(refusal), true) => tally.replays_refused.count_refusal(&refusal),
        }
    }

    /// The miner rests, and what it has found meanwhile is void.
    fn rest(&mut self) {
        if let Some(pickaxe) = &mut self.pickaxe {
            pickaxe.work.send_replace(None);
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
