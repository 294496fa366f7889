//! A V2 upstream that does as a test likes: Noise and messages by hand, and it judges nothing.

use bitcoin::hashes::{Hash, sha256d};
use std::collections::HashSet;
use std::io::{Read, Write};

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use stratum::v2::codec::{Bytes32, Bytes64K, Seq255, Str255, U256};
use stratum::v2::frame::{HEADER_BYTES, Header};
use stratum::v2::keys::{AuthorityKey, AuthoritySecret, Certificate, StaticKey};
use stratum::v2::message::{
    Message, NewExtendedMiningJob, OpenExtendedMiningChannelSuccess, OpenMiningChannelError,
    SetExtranoncePrefix, SetNewPrevHash, SetTarget, SetupConnectionSuccess, SubmitSharesExtended,
    SubmitSharesSuccess,
};
use stratum::v2::noise::{ACT1_BYTES, SEALED_HEADER_BYTES, Sealer, Transport, respond, sealed_payload_bytes};
use stratum_net::clock::unix_s;

/// The only channel of a connection, and its group.
const CHANNEL: u32 = 2;
const GROUP: u32 = 1;
const JOB: u32 = 7;
const SHARES_BEFORE_CHANGE: u32 = 40;
/// Nobody finds a block.
const NBITS: u32 = 0x1702_1369;

/// What an upstream is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Works, and grants so many bytes of extranonce.
    Grants(u16),
    /// Random bytes once the handshake is done.
    Noise,
    /// A share target that nobody can meet, after the first job.
    AbsurdTarget,
    /// A job for a group that there is none of, and no other.
    UnknownGroup,
    /// New blocks without an end.
    EndlessTips,
    /// Works, and gives another extranonce prefix with a new job after some shares.
    ChangesPrefix,
}

/// A running upstream; closed when dropped.
pub struct StandIn {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    key: StaticKey,
    certificate: Certificate,
    authority: AuthorityKey,
    manner: Manner,
    /// Sets the work of this one apart from that of others.
    prefix: [u8; 4],
    up: AtomicBool,
    connections: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
    /// Hashes of the shares it was sent, computed with its own prefix.
    hashes: Mutex<HashSet<[u8; 32]>>,
}

impl StandIn {
    /// An upstream with this mark in its work.
    pub fn start(mark: u8, manner: Manner) -> Self {
        let now = unix_s();
        Self::certified(mark, manner, now - 60..now + 3_600)
    }

    /// The same with a certificate for this time, in Unix seconds.
    pub fn certified(mark: u8, manner: Manner, valid: Range<u32>) -> Self {
        let key = StaticKey::new([mark; 32], [3; 32]);
        let secret = AuthoritySecret::from_bytes([7; 32]).unwrap();
        let certificate = Certificate::sign(&secret, &key.public_x_only(), valid.start, valid.end);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            key,
            certificate,
            authority: secret.public(),
            manner,
            prefix: [mark; 4],
            up: AtomicBool::new(true),
            connections: AtomicU64::new(0),
            open: Mutex::default(),
            hashes: Mutex::default(),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                if shared.up.load(Ordering::SeqCst) {
                    lock(&shared.open).push(stream.try_clone().unwrap());
                    let shared = shared.clone();
                    std::thread::spawn(move || shared.serve(stream));
                }
            }
        });
        Self { address, state }
    }

    /// Who vouches for it.
    pub fn authority(&self) -> AuthorityKey {
        self.state.authority
    }

    /// Its own key, in hex.
    pub fn server_key(&self) -> String {
        self.state.key.public_x_only().to_string()
    }

    /// Ends all connections, and each new one at once.
    pub fn down(&self) {
        self.state.up.store(false, Ordering::SeqCst);
        lock(&self.state.open).drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }

    /// Works again.
    pub fn up(&self) {
        self.state.up.store(true, Ordering::SeqCst);
    }

    /// Connections taken so far.
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Hashes of the shares that it was sent, in internal order, computed from what it gave out itself.
    pub fn hashes(&self) -> HashSet<[u8; 32]> {
        lock(&self.state.hashes).clone()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.down();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection: sealing, and the socket.
struct Line {
    stream: TcpStream,
    seal: Sealer,
}

impl Line {
    /// `None`: the client is gone.
    fn say(&mut self, message: impl Into<Message>) -> Option<()> {
        let (mut frame, mut sealed) = (Vec::new(), Vec::new());
        message.into().write_frame(&mut frame);
        let (header, payload) = frame.split_first_chunk::<HEADER_BYTES>().unwrap();
        self.seal.seal(header, payload, &mut sealed).unwrap();
        self.stream.write_all(&sealed).ok()
    }
}

impl State {
    /// `None` is its end.
    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut act1 = [0; ACT1_BYTES];
        stream.read_exact(&mut act1).ok()?;
        let mut ephemeral = [0; 64];
        std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut ephemeral).unwrap();
        let (act2, transport) = respond(&self.key, &self.certificate, ephemeral, &act1).unwrap();
        let Transport { seal, mut open } = transport;
        stream.write_all(&act2).ok()?;
        let mut line = Line { stream: stream.try_clone().ok()?, seal };
        if self.manner == Manner::Noise {
            let mut noise = [0; 1_000];
            std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
            line.stream.write_all(&noise).ok()?;
        }
        let ntime = unix_s();
        loop {
            let mut sealed = [0; SEALED_HEADER_BYTES];
            stream.read_exact(&mut sealed).ok()?;
            let header = Header::from_bytes(open.header(&sealed).ok()?);
            let mut payload = vec![0; sealed_payload_bytes(header.payload_bytes)];
            stream.read_exact(&mut payload).ok()?;
            let payload = open.payload(&mut payload).ok()?;
            self.message(Message::decode(header.msg_type, payload).ok()?, ntime, &mut line)?;
        }
    }

    fn message(&self, message: Message, ntime: u32, line: &mut Line) -> Option<()> {
        match message {
            Message::SetupConnection(_) => line.say(SetupConnectionSuccess { used_version: 2, flags: 0 }),
            Message::OpenExtendedMiningChannel(open) => {
                let granted = match self.manner {
                    Manner::Grants(bytes) => bytes,
                    _ => 8,
                };
                if open.min_extranonce_size > granted {
                    return line.say(OpenMiningChannelError {
                        request_id: open.request_id,
                        error_code: Str255::from_static("min-extranonce-size-too-large"),
                    });
                }
                line.say(OpenExtendedMiningChannelSuccess {
                    request_id: open.request_id,
                    channel_id: CHANNEL,
                    target: U256([0xff; 32]),
                    extranonce_size: granted,
                    extranonce_prefix: Bytes32::new(&self.prefix).unwrap(),
                    group_channel_id: GROUP,
                })?;
                self.work(ntime, line)
            }
            Message::SubmitSharesExtended(share) => {
                let hash = self.hash(&share);
                lock(&self.hashes).insert(hash);
                if self.manner == Manner::ChangesPrefix && share.sequence_number == SHARES_BEFORE_CHANGE {
                    let extranonce_prefix = Bytes32::new(&self.prefix_of(JOB + 1)).unwrap();
                    line.say(SetExtranoncePrefix { channel_id: CHANNEL, extranonce_prefix })?;
                    line.say(NewExtendedMiningJob { min_ntime: Some(ntime), ..job(CHANNEL, JOB + 1) })?;
                }
                line.say(SubmitSharesSuccess {
                    channel_id: CHANNEL,
                    last_sequence_number: share.sequence_number,
                    new_submits_accepted_count: 1,
                    new_shares_sum: 1,
                })
            }
            _ => Some(()),
        }
    }

    fn work(&self, ntime: u32, line: &mut Line) -> Option<()> {
        let channel_id = if self.manner == Manner::UnknownGroup { 99 } else { CHANNEL };
        line.say(job(channel_id, JOB))?;
        line.say(tip(channel_id, JOB, self.prefix[0], ntime))?;
        match self.manner {
            Manner::AbsurdTarget => line.say(SetTarget { channel_id, maximum_target: U256([0; 32]) }),
            Manner::EndlessTips => (0..).try_for_each(|turn: u32| {
                line.say(job(channel_id, JOB + turn))?;
                line.say(tip(channel_id, JOB + turn, turn as u8, ntime))
            }),
            _ => Some(()),
        }
    }

    /// The extranonce prefix of a job: the first has another than those that follow it.
    fn prefix_of(&self, job_id: u32) -> [u8; 4] {
        if job_id == JOB || self.manner != Manner::ChangesPrefix {
            self.prefix
        } else {
            self.prefix.map(|byte| !byte)
        }
    }

    /// Hash of a share's header in internal order, from what was given out here.
    fn hash(&self, share: &SubmitSharesExtended) -> [u8; 32] {
        let prefix = self.prefix_of(share.job_id);
        let coinbase = [&[1; 60][..], &prefix, share.extranonce.as_bytes(), &[2; 60]].concat();
        let root = sha256d::Hash::hash(&coinbase).to_byte_array();
        let header = [
            &share.version.to_le_bytes()[..],
            &[self.prefix[0]; 32],
            &root,
            &share.ntime.to_le_bytes(),
            &NBITS.to_le_bytes(),
            &share.nonce.to_le_bytes(),
        ];
        sha256d::Hash::hash(&header.concat()).to_byte_array()
    }
}

fn job(channel_id: u32, job_id: u32) -> NewExtendedMiningJob {
    NewExtendedMiningJob {
        channel_id,
        job_id,
        min_ntime: None,
        version: 0x2000_0000,
        version_rolling_allowed: true,
        merkle_path: Seq255::new(Vec::new()).unwrap(),
        coinbase_tx_prefix: Bytes64K::new(vec![1; 60]).unwrap(),
        coinbase_tx_suffix: Bytes64K::new(vec![2; 60]).unwrap(),
    }
}

fn tip(channel_id: u32, job_id: u32, parent: u8, min_ntime: u32) -> SetNewPrevHash {
    SetNewPrevHash { channel_id, job_id, prev_hash: U256([parent; 32]), min_ntime, nbits: NBITS }
}
