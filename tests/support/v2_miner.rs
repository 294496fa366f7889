//! A V2 miner: our client's protocol over a real socket, with one channel, and rust-bitcoin for the hashing.

use super::PATIENCE;
use bitcoin::hashes::{Hash, sha256d};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stratum::v2::client::{Client, Event, Job, Kind, Request, Settings, Share};
use stratum::v2::codec::{Bytes32, Str255, U256};
use stratum::v2::keys::AuthorityKey;
use stratum::v2::noise::{ACT2_BYTES, Authority, HEADER_BYTES, Initiator, Sealer};

/// A connection of one miner.
pub struct V2Miner {
    stream: TcpStream,
    client: Client,
    seal: Sealer,
    events: VecDeque<Event>,
    channel: u32,
    /// The newest job.
    pub job: Arc<Job>,
    /// The last share that was accepted.
    pub mined: Option<Share>,
    rolled: u64,
}

impl V2Miner {
    /// Shakes hands, opens a channel, waits for the first job.
    pub fn connect(server: SocketAddr, authority: AuthorityKey, user: &str, kind: Kind) -> Self {
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut ephemeral = [0; 64];
        std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut ephemeral).unwrap();
        let (initiator, act1) = Initiator::new(ephemeral, Authority::Pinned(authority));
        stream.write_all(&act1).unwrap();
        let mut act2 = [0; ACT2_BYTES];
        stream.read_exact(&mut act2).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let transport = initiator.finish(&act2, u32::try_from(now).unwrap()).unwrap();
        let settings = Settings::new(Str255::from_static("127.0.0.1"), server.port());
        let mut out = Vec::new();
        let client = Client::new(Arc::new(settings), transport.open, Instant::now(), &mut out);
        let mut events = VecDeque::new();
        let mut seal = transport.seal;
        send(&mut stream, &mut seal, out, &mut events);
        let mut opening = Opening { stream, client, seal, events };
        opening.wait(|event| matches!(event, Event::Ready { .. }).then_some(()));
        let user_identity = Str255::new(user.as_bytes().to_vec()).unwrap();
        let request = Request { kind, user_identity, hashes_per_s: 0.0, max_target: U256([0xff; 32]) };
        let mut out = Vec::new();
        opening.client.open(request, Instant::now(), &mut out).unwrap();
        send(&mut opening.stream, &mut opening.seal, out, &mut opening.events);
        let channel = opening.wait(|event| match event {
            Event::Opened { channel, .. } => Some(*channel),
            Event::OpenRefused { code, .. } => panic!("no channel: {code}"),
            _ => None,
        });
        let job = opening.wait(|event| match event {
            Event::Work { job, .. } => Some(job.clone()),
            _ => None,
        });
        let Opening { stream, client, seal, events } = opening;
        Self { stream, client, seal, events, channel, job, mined: None, rolled: 0 }
    }

    /// Takes in whatever has arrived, without waiting for more.
    pub fn catch_up(&mut self) {
        self.stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        receive(&mut self.stream, &mut self.client, &mut self.seal, &mut self.events);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        while let Some(event) = self.events.pop_front() {
            if let Event::Work { job, .. } = event {
                self.job = job;
            }
        }
    }

    /// Finds a share of the newest job and submits it; gives its hash in internal order, or why it was refused.
    pub fn mine_share(&mut self) -> Result<[u8; 32], String> {
        self.catch_up();
        let (share, hash) = self.find_share();
        self.submit(&share)?;
        self.mined = Some(share);
        Ok(hash)
    }

    /// Submits a share; why it was refused, if it was.
    pub fn submit(&mut self, share: &Share) -> Result<(), String> {
        let mut out = Vec::new();
        let sequence = self.client.submit(share, &mut out).map_err(|error| error.to_string())?;
        send(&mut self.stream, &mut self.seal, out, &mut self.events);
        let started = Instant::now();
        loop {
            match self.events.pop_front() {
                Some(Event::Accepted { last_sequence_number, .. }) if last_sequence_number == sequence => {
                    return Ok(());
                }
                Some(Event::Rejected { sequence_number, code, .. }) if sequence_number == sequence => {
                    return Err(code.to_string());
                }
                Some(Event::Work { job, .. }) => self.job = job,
                Some(_) => {}
                None => receive(&mut self.stream, &mut self.client, &mut self.seal, &mut self.events),
            }
            assert!(started.elapsed() < PATIENCE, "no verdict on channel {} in time", self.channel);
        }
    }

    fn find_share(&mut self) -> (Share, [u8; 32]) {
        let job = self.job.clone();
        loop {
            self.rolled += 1;
            let bytes = [[0; 24].as_slice(), &self.rolled.to_be_bytes()].concat();
            // A standard channel rolls nothing but version and nonce: these bits are free to all.
            let version = job.version | (self.rolled as u32 & 0xffff) << 13 & job.version_mask;
            let extranonce = Bytes32::new(&bytes[32 - job.extranonce_size..]).unwrap();
            let mut share = Share { job: job.clone(), extranonce, ntime: job.min_ntime, nonce: 0, version };
            let mut header = share.header();
            for nonce in 0..1_u32 << 20 {
                header[76..80].copy_from_slice(&nonce.to_le_bytes());
                let hash = sha256d::Hash::hash(&header).to_byte_array();
                if job.target.is_met_by(&hash) {
                    share.nonce = nonce;
                    return (share, hash);
                }
            }
        }
    }
}

struct Opening {
    stream: TcpStream,
    client: Client,
    seal: Sealer,
    events: VecDeque<Event>,
}

impl Opening {
    fn wait<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            match self.events.pop_front() {
                Some(event) => {
                    if let Some(found) = wanted(&event) {
                        return found;
                    }
                }
                None => receive(&mut self.stream, &mut self.client, &mut self.seal, &mut self.events),
            }
            assert!(started.elapsed() < PATIENCE, "no answer in time");
        }
    }
}

/// Sends what is to be sent, keeps the rest.
fn send(stream: &mut TcpStream, seal: &mut Sealer, out: Vec<Event>, events: &mut VecDeque<Event>) {
    let mut sealed = Vec::new();
    for event in out {
        match event {
            Event::Send(frame) => {
                let (header, payload) = frame.split_first_chunk::<HEADER_BYTES>().unwrap();
                seal.seal(header, payload, &mut sealed).unwrap();
            }
            event => events.push_back(event),
        }
    }
    stream.write_all(&sealed).unwrap();
}

/// Reads once.
fn receive(stream: &mut TcpStream, client: &mut Client, seal: &mut Sealer, events: &mut VecDeque<Event>) {
    let mut buffer = [0; 16 * 1024];
    let read = match stream.read(&mut buffer) {
        Ok(0) => panic!("the server has closed the connection"),
        Ok(read) => read,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
        Err(error) => panic!("reading from the server: {error}"),
    };
    let mut out = Vec::new();
    client.receive(&buffer[..read], Instant::now(), &mut out).unwrap();
    send(stream, seal, out, events);
}
