//! Whole frames through `codec_sv2`, which their roles read and write the wire with, and through our session and our
//! client: what one side sends the other takes as the same, at any length, and ours however the bytes are cut.

use std::sync::Arc;
use std::time::Instant;

use bitcoin::Network;
use bitcoin::hashes::Hash;
use codec_sv2::{
    Decrypted, Handshake, NoiseDecoder, NoiseEncoder, Transport, TransportDecryptState, TransportEncryptState,
};
use framing_sv2::framing::SerializedFrame;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use stratum::session::Action;
use stratum::v2::client::{self, Client, Event, Request, Work};
use stratum::v2::codec::{Bytes32, Bytes64K, Seq255, Str255, U256};
use stratum::v2::frame::{HEADER_BYTES, Header, write_frame};
use stratum::v2::keys::{AuthoritySecret, Certificate, StaticKey};
use stratum::v2::message::{
    Message, NewExtendedMiningJob, OpenExtendedMiningChannelSuccess, OpenStandardMiningChannel,
    SetNewPrevHash, SetupConnection, SetupConnectionSuccess, SubmitSharesError, SubmitSharesExtended,
    SubmitSharesSuccess, Wire,
};
use stratum::v2::noise::{self, Authority, BLOCK_BYTES_MAX, Initiator, Sealer};
use stratum::v2::server::{Session, Settings};
use stratum::v2::{error_code, flag};
use stratum_net::clock::unix_s;

const ADDRESS: &str = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";
const CHANNEL: u32 = 9;
/// Bytes of the longest coinbase that our client takes.
const COINBASE_BYTES_MAX: usize = 64 * 1024;
/// A frame of an extension that nobody knows, with nothing behind its header.
const EMPTY: Header = Header { extension_type: 0x4000, channel: false, msg_type: 0, payload_bytes: 0 };

/// Their end of a connection.
struct Theirs {
    encoder: NoiseEncoder,
    decoder: NoiseDecoder,
    encrypt: TransportEncryptState,
    /// `None` only while a frame is read.
    decrypt: Option<TransportDecryptState>,
}

impl Theirs {
    fn new(transport: Transport) -> Self {
        let (encrypt, decrypt) = transport.split();
        let (encoder, decoder) = (NoiseEncoder::new(), NoiseDecoder::new());
        Self { encoder, decoder, encrypt, decrypt: Some(decrypt) }
    }

    /// A plain frame as they put it on the wire.
    fn sealed(&mut self, frame: &[u8]) -> Vec<u8> {
        let frame = SerializedFrame::from_bytes(frame.to_vec()).expect("a whole frame");
        let sealed = self.encoder.encode_transport(frame, &mut self.encrypt).expect("a fresh key");
        <[u8]>::to_vec(sealed.as_ref())
    }

    /// The plain frames of some bytes; each time they say how many bytes they want.
    fn opened(&mut self, mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let room = self.decoder.writable();
            let (read, rest) = bytes.split_at(room.len());
            room.copy_from_slice(read);
            bytes = rest;
            let decrypt = self.decrypt.take().expect("no frame was broken");
            match self.decoder.next_transport_frame(decrypt).expect("our frame opens") {
                Decrypted::Frame(frame, decrypt) => {
                    frames.push(frame.as_bytes().to_vec());
                    self.decrypt = Some(decrypt);
                }
                Decrypted::Incomplete(_, decrypt) => self.decrypt = Some(decrypt),
            }
        }
        frames
    }
}

/// Their client and our server after a handshake.
fn their_client() -> (Theirs, noise::Transport) {
    let authority = AuthoritySecret::from_bytes([1; 32]).expect("1 is a scalar");
    let key = StaticKey::new([2; 32], [3; 32]);
    let certificate = Certificate::sign(&authority, &key.public_x_only(), 0, u32::MAX);
    let initiator = noise_sv2::Initiator::without_pk().expect("no key to be wrong");
    let (act1, initiator) = Handshake::initiator(initiator).step_0().expect("act 1");
    let act1 = act1.payload().try_into().expect("64 bytes");
    let (act2, ours) = noise::respond(&key, &certificate, [5; 64], &act1).expect("every act 1 is answered");
    (Theirs::new(initiator.step_2(act2).expect("they take our act 2")), ours)
}

/// Their server and our client after a handshake.
fn their_server() -> (Theirs, noise::Transport) {
    let authority = AuthoritySecret::from_bytes([1; 32]).expect("1 is a scalar");
    let text = bitcoin::base58::decode_check(&authority.public().to_string()).expect("our own text");
    let public = text[2..].try_into().expect("a prefix of two bytes and a key of 32");
    let validity = std::time::Duration::from_secs(60);
    let responder = noise_sv2::Responder::from_authority_kp(&public, &[1; 32], validity).expect("a pair");
    let (initiator, act1) = Initiator::new([4; 64], Authority::Pinned(authority.public()));
    let (act2, theirs) = Handshake::responder(responder).step_1(act1).expect("they answer our act 1");
    let act2 = act2.payload().try_into().expect("234 bytes");
    (Theirs::new(theirs), initiator.finish(&act2, unix_s()).expect("we take their act 2"))
}

/// What the outbox puts on the wire for a plain frame.
fn seal(sealer: &mut Sealer, frame: &[u8]) -> Vec<u8> {
    let (header, payload) = frame.split_first_chunk::<HEADER_BYTES>().expect("a header");
    let mut sealed = Vec::new();
    sealer.seal(header, payload, &mut sealed).expect("a fresh key");
    sealed
}

fn frame<M: Wire>(message: &M) -> Vec<u8> {
    let mut frame = Vec::new();
    write_frame(message, &mut frame);
    frame
}

fn read(frame: &[u8]) -> Message {
    Message::decode(frame[2], &frame[HEADER_BYTES..]).expect("a message of the table")
}

/// The bytes in pieces, mostly short ones.
fn pieces<'a>(mut bytes: &'a [u8], rng: &mut StdRng) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let most = if rng.random() { 50 } else { BLOCK_BYTES_MAX };
        let (piece, rest) = bytes.split_at(rng.random_range(1..=most).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

fn random(rng: &mut StdRng, bytes: usize) -> Vec<u8> {
    let mut random = vec![0; bytes];
    rng.fill_bytes(&mut random);
    random
}

/// A job on a parent to come, whose payload has so many bytes.
fn job(payload_bytes: usize, rng: &mut StdRng) -> NewExtendedMiningJob {
    let coinbase_bytes = payload_bytes - NewExtendedMiningJob::PAYLOAD_BYTES_MIN;
    let siblings = (coinbase_bytes.saturating_sub(COINBASE_BYTES_MAX)).div_ceil(32);
    let coinbase_bytes = coinbase_bytes - 32 * siblings;
    let split = rng.random_range(0..=coinbase_bytes).max(coinbase_bytes.saturating_sub(0xffff)).min(0xffff);
    let job = NewExtendedMiningJob {
        channel_id: CHANNEL,
        job_id: rng.random(),
        min_ntime: None,
        version: 0x2000_0000,
        version_rolling_allowed: true,
        merkle_path: Seq255::new((0..siblings).map(|_| U256(rng.random())).collect()).expect("32 at most"),
        coinbase_tx_prefix: Bytes64K::new(random(rng, split)).expect("64 KiB at most"),
        coinbase_tx_suffix: Bytes64K::new(random(rng, coinbase_bytes - split)).expect("64 KiB at most"),
    };
    assert_eq!(frame(&job).len(), HEADER_BYTES + payload_bytes);
    job
}

/// Payloads of one block, of two, and around the border.
fn payload_bytes() -> impl Strategy<Value = usize> {
    let most = NewExtendedMiningJob::PAYLOAD_BYTES_MIN + COINBASE_BYTES_MAX + 32 * 32;
    prop_oneof![100..2_000_usize, BLOCK_BYTES_MAX - 2..=BLOCK_BYTES_MAX + 2, BLOCK_BYTES_MAX + 1..=most]
}

/// Gives our client what they say, in pieces.
fn hear(client: &mut Client, sealed: &[u8], rng: &mut StdRng) -> Vec<Event> {
    let mut events = Vec::new();
    for piece in pieces(sealed, rng) {
        client.receive(piece, Instant::now(), &mut events).expect("nothing to close for");
    }
    events
}

/// Gives them what our client says; the messages.
fn say(events: Vec<Event>, sealer: &mut Sealer, theirs: &mut Theirs) -> Vec<Message> {
    let plain = events.into_iter().map(|event| match event {
        Event::Send(frame) => frame,
        other => panic!("{other:?}"),
    });
    let plain: Vec<_> = plain.collect();
    let stream: Vec<u8> = plain.iter().flat_map(|frame| seal(sealer, frame)).collect();
    let opened = theirs.opened(&stream);
    assert_eq!(opened, plain);
    opened.iter().map(|frame| read(frame)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn fr_01_ns_06_our_frames_of_any_length_are_read_by_their_decoder(
        seed: u64,
        lengths in proptest::collection::vec(payload_bytes(), 1..4),
        their_role: bool,
    ) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let (mut theirs, mut ours) = if their_role { their_client() } else { their_server() };
        let mut plain = vec![EMPTY.to_bytes().to_vec()];
        for length in lengths {
            plain.push(frame(&job(length, rng)));
            plain.push(EMPTY.to_bytes().to_vec());
            plain.push(frame(&SubmitSharesSuccess {
                channel_id: rng.random(),
                last_sequence_number: rng.random(),
                new_submits_accepted_count: rng.random(),
                new_shares_sum: rng.random(),
            }));
        }
        let stream: Vec<u8> = plain.iter().flat_map(|frame| seal(&mut ours.seal, frame)).collect();
        prop_assert!(theirs.opened(&stream) == plain);
    }

    #[test]
    fn fr_01_ns_06_their_client_and_our_session_understand_each_other(seed: u64) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let (mut theirs, mut ours) = their_client();
        let settings = Arc::new(Settings::new(Network::Signet));
        let mut session = Session::new(settings, ours.open, Instant::now());
        let rate: f32 = rng.random_range(0.0..1e15);
        let mut said = vec![
            frame(&SetupConnection {
                protocol: flag::PROTOCOL_MINING,
                min_version: 2,
                max_version: 2,
                flags: 0,
                endpoint_host: Str255::from_static("pool.example"),
                endpoint_port: 34_254,
                vendor: Str255::new(random(rng, 255)).expect("255 bytes at most"),
                hardware_version: Str255::default(),
                firmware: Str255::default(),
                device_id: Str255::default(),
            }),
            EMPTY.to_bytes().to_vec(),
            frame(&OpenStandardMiningChannel {
                request_id: 1,
                user_identity: Str255::from_static(ADDRESS),
                nominal_hash_rate: rate,
                max_target: U256([0xff; 32]),
            }),
        ];
        let mut answers = Vec::new();
        for _ in 0..8 {
            let (channel_id, sequence_number) = (rng.random(), rng.random());
            said.push(frame(&SubmitSharesExtended {
                channel_id,
                sequence_number,
                job_id: rng.random(),
                nonce: rng.random(),
                ntime: rng.random(),
                version: rng.random(),
                extranonce: Bytes32::new(&[7; 32]).expect("32 bytes at most"),
            }));
            let error_code = error_code::INVALID_CHANNEL_ID.into();
            answers.push(frame(&SubmitSharesError { channel_id, sequence_number, error_code }));
        }
        answers.insert(0, frame(&SetupConnectionSuccess { used_version: 2, flags: 0 }));
        let stream: Vec<u8> = said.iter().flat_map(|frame| theirs.sealed(frame)).collect();
        let mut actions = Vec::new();
        for mut piece in pieces(&stream, rng) {
            while !piece.is_empty() {
                session.receive(&mut piece, Instant::now(), &mut actions).expect("nothing to close for");
            }
        }
        let mut heard = Vec::new();
        for action in actions {
            match action {
                Action::Send(frame) => heard.extend(theirs.opened(&seal(&mut ours.seal, &frame))),
                Action::Open(opening) => {
                    prop_assert_eq!(opening.hashes_per_s(), f64::from(rate));
                    prop_assert_eq!(opening.payee.script.clone(), script());
                }
                other => panic!("{other:?}"),
            }
        }
        prop_assert_eq!(heard, answers);
    }

    #[test]
    fn fr_01_ns_06_our_client_takes_jobs_of_any_length_from_their_server(seed: u64, length in payload_bytes()) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let (mut theirs, mut ours) = their_server();
        let settings = client::Settings::new(Str255::from_static("pool.example"), 34_254);
        let mut events = Vec::new();
        let mut client = Client::new(Arc::new(settings), ours.open, Instant::now(), &mut events);
        let said = say(events, &mut ours.seal, &mut theirs);
        prop_assert!(matches!(said[..], [Message::SetupConnection(_)]));
        let answer = theirs.sealed(&frame(&SetupConnectionSuccess { used_version: 2, flags: 0 }));
        prop_assert_eq!(hear(&mut client, &answer, rng), vec![Event::Ready { flags: 0 }]);

        let request = Request {
            kind: client::Kind::Extended { min_extranonce_size: 8 },
            user_identity: Str255::from_static(ADDRESS),
            hashes_per_s: 1e12,
            max_target: U256([0xff; 32]),
        };
        let mut events = Vec::new();
        client.open(request, Instant::now(), &mut events).expect("ready");
        let said = say(events, &mut ours.seal, &mut theirs);
        let [Message::OpenExtendedMiningChannel(open)] = &said[..] else { panic!("{said:?}") };
        let job = job(length, rng);
        let parent = SetNewPrevHash {
            channel_id: CHANNEL,
            job_id: job.job_id,
            prev_hash: U256(rng.random()),
            min_ntime: rng.random(),
            nbits: 0x1702_1369,
        };
        let frames = [
            frame(&OpenExtendedMiningChannelSuccess {
                request_id: open.request_id,
                channel_id: CHANNEL,
                target: U256([0xff; 32]),
                extranonce_size: 8,
                extranonce_prefix: Bytes32::new(&[1, 2, 3, 4]).expect("32 bytes at most"),
                group_channel_id: 1,
            }),
            EMPTY.to_bytes().to_vec(),
            frame(&job),
            frame(&parent),
        ];
        let stream: Vec<u8> = frames.iter().flat_map(|frame| theirs.sealed(frame)).collect();
        let heard = hear(&mut client, &stream, rng);
        let [Event::Opened { channel: CHANNEL, .. }, Event::Work { job: work, clean: true }] = &heard[..] else {
            panic!("{heard:?}")
        };
        let Work::Coinbase(coinbase) = &work.work else { panic!("{work:?}") };
        prop_assert!(coinbase.prefix == job.coinbase_tx_prefix.as_bytes());
        prop_assert!(coinbase.suffix == job.coinbase_tx_suffix.as_bytes());
        prop_assert!(coinbase.branch.iter().eq(job.merkle_path.as_slice().iter().map(|sibling| &sibling.0)));
        prop_assert_eq!((work.id, work.min_ntime), (job.job_id, parent.min_ntime));
        prop_assert_eq!(work.prev_hash.to_byte_array(), parent.prev_hash.0);
    }
}

/// What pays to [`ADDRESS`].
fn script() -> bitcoin::ScriptBuf {
    let address: bitcoin::Address<bitcoin::address::NetworkUnchecked> = ADDRESS.parse().expect("an address");
    address.assume_checked().script_pubkey()
}
