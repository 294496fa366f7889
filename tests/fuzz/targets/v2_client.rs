//! A hostile server on a V2 connection: the first byte picks what the client needs, the rest are plain frames.
//!
//! Each frame is sealed as the server would. The client opens a channel of each kind as soon as it may, and submits
//! the first share of whatever it gets to work on. Nothing panics, and nothing comes from a channel that was not asked
//! for.
#![no_main]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use stratum::v2::client::{Client, Event, JOBS_MAX, Job, Kind, Request, Settings, Share};
use stratum::v2::codec::{Bytes32, Str255, U256};
use stratum::v2::frame::{HEADER_BYTES, Header};
use stratum::v2::keys::{AuthoritySecret, Certificate, StaticKey};
use stratum::v2::message::Message;
use stratum::v2::noise::{Authority, Initiator, Sealer, Transport, respond};

fuzz_target!(|input: &[u8]| {
    let Some((&needs, mut frames)) = input.split_first() else { return };
    let mut peer = Peer::new(needs);
    while let Some((header, rest)) = frames.split_first_chunk() {
        let announced = Header::from_bytes(*header);
        let (payload, rest) = rest.split_at(rest.len().min(announced.payload_bytes));
        frames = rest;
        if !peer.hears(Header { payload_bytes: payload.len(), ..announced }, payload) {
            return;
        }
    }
});

struct Peer {
    client: Client,
    server: Sealer,
    now: Instant,
    channels: HashSet<u32>,
}

impl Peer {
    fn new(needs: u8) -> Self {
        let (ours, theirs) = transports();
        let settings = Settings {
            standard_jobs_only: needs & 1 != 0,
            version_rolling: needs & 2 != 0,
            ..Settings::new(Str255::from_static("localhost"), 1)
        };
        let (now, mut events) = (Instant::now(), Vec::new());
        let client = Client::new(Arc::new(settings), ours.open, now, &mut events);
        let mut peer = Self { client, server: theirs.seal, now, channels: HashSet::new() };
        peer.act(events);
        peer
    }

    /// Whether the client goes on.
    fn hears(&mut self, header: Header, payload: &[u8]) -> bool {
        self.now += Duration::from_millis(100);
        let (mut sealed, mut events) = (Vec::new(), Vec::new());
        self.server.seal(&header.to_bytes(), payload, &mut sealed).expect("a few frames");
        let mut heard = Ok(());
        for piece in sealed.chunks(1 + payload.len() % 61) {
            heard = heard.and_then(|()| self.client.receive(piece, self.now, &mut events));
        }
        self.act(events);
        heard.is_ok() && self.client.tick(self.now).is_ok()
    }

    fn act(&mut self, events: Vec<Event>) {
        let mut sent = Vec::new();
        for event in events {
            match event {
                Event::Send(frame) => check_frame(&frame),
                Event::Ready { .. } => {
                    for kind in [Kind::Extended { min_extranonce_size: 4 }, Kind::Standard] {
                        let request = Request {
                            kind,
                            user_identity: Str255::from_static("user"),
                            hashes_per_s: 1e6,
                            max_target: U256([0xff; 32]),
                        };
                        // Which kinds there are is for the server's flags and our settings to say.
                        let _ = self.client.open(request, self.now, &mut sent);
                    }
                }
                Event::Opened { channel, extranonce_prefix, extranonce_size, .. } => {
                    assert!(extranonce_prefix.as_bytes().len() + extranonce_size <= Bytes32::MAX);
                    assert!(self.channels.insert(channel), "channel {channel} is open already");
                    assert!(self.channels.len() <= 2, "two were asked for");
                }
                Event::Closed { channel, .. } => assert!(self.channels.remove(&channel)),
                Event::Work { job, .. } => self.mine(&job, &mut sent),
                Event::Accepted { channel, .. }
                | Event::Rejected { channel, .. }
                | Event::Target { channel, .. }
                | Event::Prefix { channel, .. }
                | Event::UpdateRefused { channel, .. } => assert!(self.channels.contains(&channel)),
                Event::SetupRefused { code, .. } | Event::OpenRefused { code, .. } => {
                    assert!(code.to_string().bytes().all(|byte| (b' '..=b'~').contains(&byte)));
                }
                Event::Reconnect { .. } => {}
            }
        }
        if !sent.is_empty() {
            self.act(sent);
        }
    }

    fn mine(&mut self, job: &Arc<Job>, sent: &mut Vec<Event>) {
        assert!(self.channels.contains(&job.channel));
        assert!(self.client.is_live(job), "{JOBS_MAX} jobs did not come in one frame");
        let extranonce = Bytes32::new(&[1; Bytes32::MAX][..job.extranonce_size]).expect("32 bytes at most");
        let share =
            Share { job: job.clone(), extranonce, ntime: job.min_ntime, nonce: 1, version: job.version };
        assert_eq!(share.header()[76..], [1, 0, 0, 0]);
        // Full of shares that were never answered, at most.
        let _ = self.client.submit(&share, sent);
    }
}

/// Whatever a server says, it gets whole frames of the table.
fn check_frame(frame: &[u8]) {
    let (header, payload) = frame.split_first_chunk::<HEADER_BYTES>().expect("a header");
    let header = Header::from_bytes(*header);
    assert_eq!(header.payload_bytes, payload.len());
    let message = Message::decode(header.msg_type, payload).expect("our own message");
    assert_eq!(header.channel, message.shape().channel);
}

fn transports() -> (Transport, Transport) {
    let authority = AuthoritySecret::from_bytes([1; 32]).expect("1 is below the curve's order");
    let key = StaticKey::new([2; 32], [3; 32]);
    let certificate = Certificate::sign(&authority, &key.public_x_only(), 0, 1);
    let (initiator, act1) = Initiator::new([4; 64], Authority::Unauthenticated);
    let (act2, server) = respond(&key, &certificate, [5; 64], &act1).expect("every act 1 is answered");
    (initiator.finish(&act2, 0).expect("an unchanged handshake"), server)
}
