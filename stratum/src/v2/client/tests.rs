use super::*;
use crate::target::Target;
use crate::v2::codec::{Bytes32, Bytes64K, Seq64K, Seq255};
use crate::v2::frame::{HEADER_BYTES, Header};
use crate::v2::keys::{AuthoritySecret, Certificate, StaticKey};
use crate::v2::noise::{Authority, Initiator, Sealer, Transport, respond};
use std::time::Duration;

mod hostile;
mod jobs;
mod real;
mod session;

const EASY: U256 = U256([0xff; 32]);
const GROUP: u32 = 1;

/// A connection's two ends: the client's and the server's.
fn transports() -> (Transport, Transport) {
    let key = StaticKey::new([2; 32], [3; 32]);
    let certificate =
        Certificate::sign(&AuthoritySecret::from_bytes([1; 32]).unwrap(), &key.public_x_only(), 0, 1);
    let (initiator, act1) = Initiator::new([4; 64], Authority::Unauthenticated);
    let (act2, server) = respond(&key, &certificate, [5; 64], &act1).unwrap();
    (initiator.finish(&act2, 0).unwrap(), server)
}

fn seal(sealer: &mut Sealer, frame: &[u8], out: &mut Vec<u8>) {
    let (header, payload) = frame.split_first_chunk::<HEADER_BYTES>().unwrap();
    sealer.seal(header, payload, out).unwrap();
}

fn text(text: &str) -> Str255 {
    Str255::new(text.as_bytes().to_vec()).unwrap()
}

fn settings() -> Settings {
    Settings::new(text("pool.example"), 3336)
}

fn request(kind: Kind) -> Request {
    Request { kind, user_identity: text("user.rig"), hashes_per_s: 1e6, max_target: EASY }
}

/// What was sent, read back.
fn sent(events: &[Event]) -> Vec<Message> {
    let frames = events.iter().filter_map(|event| match event {
        Event::Send(frame) => Some(frame),
        _ => None,
    });
    let read = |frame: &bytes::Bytes| {
        let (header, payload) = frame.split_first_chunk().unwrap();
        let header = Header::from_bytes(*header);
        assert_eq!(header.payload_bytes, payload.len());
        let message = Message::decode(header.msg_type, payload).unwrap();
        assert_eq!(header.channel, message.shape().channel);
        message
    };
    frames.map(read).collect()
}

fn works(events: &[Event]) -> Vec<(Arc<Job>, bool)> {
    let work = |event: &Event| match event {
        Event::Work { job, clean } => Some((job.clone(), *clean)),
        _ => None,
    };
    events.iter().filter_map(work).collect()
}

/// A client and the hand of a server that may write anything.
struct Talk {
    client: Client,
    server: Sealer,
    now: Instant,
    events: Vec<Event>,
}

impl Talk {
    fn new(settings: Settings) -> Self {
        let (ours, theirs) = transports();
        let (now, mut events) = (Instant::now(), Vec::new());
        let client = Client::new(Arc::new(settings), ours.open, now, &mut events);
        Self { client, server: theirs.seal, now, events }
    }

    /// Set up, without channels.
    fn ready() -> Self {
        let mut talk = Self::new(settings());
        talk.hear(SetupConnectionSuccess { used_version: 2, flags: 0 });
        talk.events.clear();
        talk
    }

    /// With an extended channel of this id in the group.
    fn extended(id: u32) -> Self {
        let mut talk = Self::ready();
        talk.open_extended(id);
        talk
    }

    fn open(&mut self, kind: Kind) -> u32 {
        self.client.open(request(kind), self.now, &mut self.events).unwrap().0
    }

    fn open_extended(&mut self, id: u32) {
        let request_id = self.open(Kind::Extended { min_extranonce_size: 4 });
        self.hear(extended_success(request_id, id));
        self.events.clear();
    }

    fn open_standard(&mut self, id: u32) {
        let request_id = self.open(Kind::Standard);
        self.hear(standard_success(request_id, id));
        self.events.clear();
    }

    fn try_hear(&mut self, message: impl Into<Message>) -> Result<(), Fault> {
        let (mut frame, mut sealed) = (Vec::new(), Vec::new());
        message.into().write_frame(&mut frame);
        seal(&mut self.server, &frame, &mut sealed);
        self.client.receive(&sealed, self.now, &mut self.events)
    }

    fn hear(&mut self, message: impl Into<Message>) {
        assert_eq!(self.try_hear(message), Ok(()));
    }

    fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// What a message brings to work on.
    fn work(&mut self, message: impl Into<Message>) -> Vec<(Arc<Job>, bool)> {
        self.events.clear();
        self.hear(message);
        works(&self.take())
    }

    /// A first job and its parent for a channel or group.
    fn begin(&mut self, id: u32) -> Vec<(Arc<Job>, bool)> {
        self.hear(job(id, 1, None));
        self.work(tip(id, 1, 1))
    }
}

fn standard_success(request_id: u32, channel_id: u32) -> OpenStandardMiningChannelSuccess {
    OpenStandardMiningChannelSuccess {
        request_id,
        channel_id,
        target: EASY,
        extranonce_prefix: [7; 12].into(),
        group_channel_id: GROUP,
    }
}

fn extended_success(request_id: u32, channel_id: u32) -> OpenExtendedMiningChannelSuccess {
    OpenExtendedMiningChannelSuccess {
        request_id,
        channel_id,
        target: EASY,
        extranonce_size: 8,
        extranonce_prefix: [1, 2, 3, 4].into(),
        group_channel_id: GROUP,
    }
}

fn job(channel_id: u32, job_id: u32, min_ntime: Option<u32>) -> NewExtendedMiningJob {
    NewExtendedMiningJob {
        channel_id,
        job_id,
        min_ntime,
        version: 0x2000_0000,
        version_rolling_allowed: true,
        merkle_path: Seq255::new(vec![U256([9; 32])]).unwrap(),
        coinbase_tx_prefix: Bytes64K::new(vec![1; 60]).unwrap(),
        coinbase_tx_suffix: Bytes64K::new(vec![2; 60]).unwrap(),
    }
}

fn standard_job(channel_id: u32, job_id: u32, min_ntime: Option<u32>) -> NewMiningJob {
    NewMiningJob { channel_id, job_id, min_ntime, version: 0x2000_0000, merkle_root: U256([8; 32]) }
}

fn tip(channel_id: u32, job_id: u32, parent: u8) -> SetNewPrevHash {
    SetNewPrevHash { channel_id, job_id, prev_hash: U256([parent; 32]), min_ntime: 100, nbits: 0x1702_1369 }
}

fn target(channel_id: u32, top: u8) -> SetTarget {
    let mut bytes = [0xff; 32];
    bytes[31] = top;
    SetTarget { channel_id, maximum_target: U256(bytes) }
}

fn share(job: &Arc<Job>, nonce: u32) -> Share {
    let extranonce = Bytes32::new(&vec![0xab; job.extranonce_size]).unwrap();
    Share { job: job.clone(), extranonce, ntime: job.min_ntime, nonce, version: job.version }
}
