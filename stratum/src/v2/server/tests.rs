//! The session from outside: sealed frames in, plain frames out, with a shard's part played by a [`Peer`].

use super::*;
use crate::extranonce::{EXTRANONCE_BYTES, PrefixAllocator};
use crate::job::Solution;
use crate::pot::Pot;
use crate::sample::{self, ADDRESS, HARD_NBITS, MAINNET_ADDRESS, REGTEST_NBITS, UNIX_S};
use crate::share::{Judge, JudgedShare, Outcome, PendingShare};
use crate::target::Target;
use crate::v2::codec::{Bytes32, Str255};
use crate::v2::flag;
use crate::v2::frame::{CORE, HEADER_BYTES, Header, write_frame};
use crate::v2::keys::{AuthoritySecret, Certificate, StaticKey};
use crate::v2::message::*;
use crate::v2::noise::{Authority, Initiator, Sealer, Transport, respond};
use bitcoin::Network;
use machine::{Machine, Rolled as Roll};
use proptest::prelude::*;
use ruint::aliases::U256 as Number;
use std::ops::RangeInclusive;

mod answers;
mod bytes;
mod channels;
mod difficulty;
mod extensions;
mod jobs;
mod limits;
mod machine;
mod open;
mod properties;
mod replay;
mod setup;
mod shares;

/// The group of channels whose clients roll no more than usual.
const GROUP: u32 = 1;
/// What the first channel of a connection is called.
const FIRST: u32 = GROUPS + 1;
/// No channel that a test opens has this id.
const NOBODY: u32 = 0x7777_7777;
/// What an extended client may roll.
const WIDTHS: RangeInclusive<usize> = EXTRANONCE2_BYTES..=EXTRANONCE2_BYTES_MAX;

/// A connection, its client's end, and the shard that it is in.
struct Peer {
    session: Session,
    seal: Sealer,
    now: Instant,
    started: Instant,
    /// What new channels get, if anything.
    offer: Option<Arc<EncodedJob>>,
    prefixes: PrefixAllocator,
    judge: Judge,
    /// Whether shares wait in `held` instead of being judged at once.
    hold: bool,
    held: Vec<(Ticket, PendingShare)>,
    /// Frames that were sent and are not read yet: messages of the table, and what is none or has something behind it.
    heard: Vec<Message>,
    beyond: Vec<::bytes::Bytes>,
    /// Where the next accepted share is in the log.
    log_size: u64,
    credited: Vec<JudgedShare>,
    blocks: Vec<Solution>,
    refused: Vec<Reject>,
    closed: Vec<Extranonce1>,
}

impl Peer {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        let (client, server) = transports();
        let mut judge = Judge::new(Duration::ZERO);
        judge.new_tip(sample::prev_hash(1), now);
        Self {
            session: Session::new(Arc::new(settings), server.open, now),
            seal: client.seal,
            now,
            started: now,
            offer: Some(sample::encoded(sample::body(HARD_NBITS))),
            prefixes: PrefixAllocator::new(7, seconds(120)),
            judge,
            hold: false,
            held: Vec::new(),
            heard: Vec::new(),
            beyond: Vec::new(),
            log_size: 0,
            credited: Vec::new(),
            blocks: Vec::new(),
            refused: Vec::new(),
            closed: Vec::new(),
        }
    }

    /// After `SetupConnection`, whose answer is read.
    fn ready(settings: Settings) -> Self {
        let mut peer = Self::new(settings);
        assert!(matches!(peer.ask(setup()), Message::SetupConnectionSuccess(_)));
        peer
    }

    /// A connection with one channel, whose first job is read.
    fn mining(kind: Kind) -> (Self, Machine) {
        let mut peer = Self::ready(settings());
        let machine = peer.opened(kind);
        (peer, machine)
    }

    /// Opens a channel and reads everything up to its first job.
    fn opened(&mut self, kind: Kind) -> Machine {
        self.open(open(kind))
    }

    fn open(&mut self, request: Message) -> Machine {
        self.say(request);
        let mut heard = self.heard().into_iter();
        let mut machine = Machine::new(&heard.next().unwrap());
        heard.for_each(|message| machine.hear(&message));
        machine
    }

    fn say(&mut self, message: impl Into<Message>) {
        self.try_say(message).unwrap();
    }

    fn try_say(&mut self, message: impl Into<Message>) -> Result<(), Fault> {
        let sealed = self.sealed(&message.into());
        self.raw(&sealed)
    }

    /// The message as it goes over the wire.
    fn sealed(&mut self, message: &Message) -> Vec<u8> {
        let mut frame = Vec::new();
        message.write_frame(&mut frame);
        self.sealed_frame(&frame)
    }

    fn sealed_frame(&mut self, frame: &[u8]) -> Vec<u8> {
        let (header, payload) = frame.split_first_chunk().unwrap();
        let mut sealed = Vec::new();
        self.seal.seal(header, payload, &mut sealed).unwrap();
        sealed
    }

    /// A frame whose header says what it likes.
    fn frame(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
        let sealed = self.sealed_frame(&[&header.to_bytes()[..], payload].concat());
        self.raw(&sealed)
    }

    fn raw(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        let mut received = Ok(());
        while received.is_ok() && !bytes.is_empty() {
            let mut actions = Vec::new();
            received = self.session.receive(&mut bytes, self.now, &mut actions);
            self.act(actions);
        }
        received
    }

    fn tick(&mut self) -> Result<(), Fault> {
        let mut actions = Vec::new();
        let ticked = self.session.tick(self.now, &mut actions);
        self.act(actions);
        ticked
    }

    /// What a shard does.
    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            let mut next = Vec::new();
            match action {
                Action::Send(frame) if is_beyond(&frame) => self.beyond.push(frame),
                Action::Send(frame) => self.heard.push(read(&frame)),
                Action::Job(session::JobMessage::V2(job)) => {
                    job.frames(&mut Vec::new(), |frame| self.heard.push(read(frame)));
                }
                Action::Share { ticket, share } if self.hold => self.held.push((ticket, share)),
                Action::Share { ticket, share } => {
                    let answer = self.judged(share);
                    let answer = self.booked(answer);
                    self.session.answer(ticket, answer, &mut next);
                    self.session.flush(&mut next);
                }
                Action::Refused(reject) => self.refused.push(reject),
                Action::Open(opening) => {
                    let prefix = self.prefixes.allocate(self.now).ok();
                    let bytes = opening.extranonce_bytes();
                    let job = self.offer.as_ref().map(|job| widened(job, bytes));
                    self.session.open(*opening, prefix, job.as_ref(), self.now, &mut next);
                }
                Action::Closed(prefix) => {
                    self.prefixes.free(prefix, self.now);
                    self.closed.push(prefix);
                }
                Action::Job(_) | Action::Unanswered(_) | Action::NeedWork => unreachable!("this is V2"),
            }
            self.act(next);
        }
    }

    fn judged(&mut self, share: PendingShare) -> Result<Pot, Reject> {
        let unix_ms = u64::from(UNIX_S) * 1_000 + self.now.duration_since(self.started).as_millis() as u64;
        let verdict = self.judge.check(share, self.now, unix_ms);
        self.blocks.extend(verdict.block.map(|block| *block));
        match verdict.outcome {
            Outcome::Accepted(share) => {
                let pot = share.pot();
                self.credited.push(share);
                Ok(pot)
            }
            Outcome::Stale(_) => Err(Reject::Stale),
            Outcome::RefusedBlock(_, reject) | Outcome::Rejected(reject) => Err(reject),
        }
    }

    /// The answer, with the share's place in the log.
    fn booked(&mut self, answer: Result<Pot, Reject>) -> Result<Booked, Reject> {
        let pot = answer?;
        self.log_size += 1;
        Ok(Booked { pot, entry: Some(self.log_size - 1) })
    }

    /// Answers a held share, without a flush.
    fn answer(&mut self, ticket: Ticket, answer: Result<Pot, Reject>) {
        let (answer, mut actions) = (self.booked(answer), Vec::new());
        self.session.answer(ticket, answer, &mut actions);
        self.act(actions);
    }

    fn flush(&mut self) {
        let mut actions = Vec::new();
        self.session.flush(&mut actions);
        self.act(actions);
    }

    /// New work for all, and what new channels get.
    fn work(&mut self, encoded: &Arc<EncodedJob>) {
        self.judge.new_tip(encoded.body().prev_hash, self.now);
        self.offer = Some(encoded.clone());
        let mut actions = Vec::new();
        let mut number = 0;
        while let Some(miner) = self.session.miner(number) {
            let job = widened(encoded, miner.extranonce_bytes);
            self.session.work(number, &job, self.now, &mut actions);
            number += 1;
        }
        self.act(actions);
    }

    /// Takes what was sent.
    fn heard(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.heard)
    }

    /// Says something and takes the one answer.
    fn ask(&mut self, message: impl Into<Message>) -> Message {
        self.say(message);
        let mut heard = self.heard();
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard.remove(0)
    }

    /// Submits, and takes the error's code or the acknowledged (count, sum).
    fn submit(&mut self, machine: &mut Machine, roll: &Roll) -> Result<(u32, u64), String> {
        let sequence = machine.sequence;
        let submit = machine.submit(roll);
        self.say(submit);
        let mut verdict = None;
        for message in self.heard() {
            match message {
                Message::SubmitSharesSuccess(success) => {
                    assert_eq!(
                        (success.channel_id, success.last_sequence_number),
                        (machine.channel, sequence)
                    );
                    let answer = Ok((success.new_submits_accepted_count, success.new_shares_sum));
                    assert!(verdict.replace(answer).is_none());
                }
                Message::SubmitSharesError(error) => {
                    assert_eq!((error.channel_id, error.sequence_number), (machine.channel, sequence));
                    assert!(verdict.replace(Err(error.error_code.to_string())).is_none());
                }
                other => machine.hear(&other),
            }
        }
        verdict.expect("a share is answered")
    }

    fn accepted(&mut self, machine: &mut Machine, roll: &Roll) {
        assert!(matches!(self.submit(machine, roll), Ok((1, _))));
    }

    fn code(&mut self, machine: &mut Machine, roll: &Roll) -> String {
        self.submit(machine, roll).unwrap_err()
    }
}

/// The job for channels with so much extranonce, as a shard has it.
fn widened(job: &Arc<EncodedJob>, extranonce_bytes: usize) -> Arc<EncodedJob> {
    match extranonce_bytes {
        EXTRANONCE_BYTES => job.clone(),
        more => Arc::new(job.with_extranonce(more)),
    }
}

/// Client and server after a handshake.
fn transports() -> (Transport, Transport) {
    let authority = AuthoritySecret::from_bytes([1; 32]).unwrap();
    let key = StaticKey::new([2; 32], [3; 32]);
    let certificate = Certificate::sign(&authority, &key.public_x_only(), 0, u32::MAX);
    let (initiator, act1) = Initiator::new([4; 64], Authority::Pinned(authority.public()));
    let (act2, server) = respond(&key, &certificate, [5; 64], &act1).unwrap();
    (initiator.finish(&act2, UNIX_S).unwrap(), server)
}

/// Whether a frame is an extension's, or an acknowledgement with more than its own fields.
fn is_beyond(frame: &[u8]) -> bool {
    let header = Header::from_bytes(*frame.first_chunk().unwrap());
    let more = header.payload_bytes > SubmitSharesSuccess::PAYLOAD_BYTES_MAX;
    header.extension_type != CORE || (header.msg_type == SubmitSharesSuccess::TYPE && more)
}

/// One whole frame as its message, with nothing behind its last field.
fn read(frame: &[u8]) -> Message {
    let (header, payload) = frame.split_first_chunk::<HEADER_BYTES>().unwrap();
    let header = Header::from_bytes(*header);
    let message = Message::decode(header.msg_type, payload).unwrap();
    let mut again = Vec::new();
    message.write_frame(&mut again);
    assert_eq!(again, frame, "{message:?}");
    message
}

fn names(messages: &[Message]) -> Vec<&'static str> {
    messages.iter().map(Message::name).collect()
}

/// Every second hash is a share, whatever the client does.
fn settings() -> Settings {
    let fixed = pot(-31);
    Settings { pot_start: fixed, pot_min: fixed, pot_max: fixed, ..wide() }
}

/// Difficulties as vardiff wants them.
fn wide() -> Settings {
    Settings { pot_start: pot(-20), pot_min: Pot::MIN, ..Settings::new(Network::Signet) }
}

fn pot(pot: i8) -> Pot {
    Pot::try_from(pot).unwrap()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn text(text: &str) -> Str255 {
    Str255::new(text.as_bytes().to_vec()).unwrap()
}

fn setup() -> SetupConnection {
    SetupConnection {
        protocol: flag::PROTOCOL_MINING,
        min_version: 2,
        max_version: 2,
        flags: flag::REQUIRES_VERSION_ROLLING,
        endpoint_host: text("pool.example"),
        endpoint_port: 34_254,
        vendor: text("bitaxe"),
        hardware_version: text("601"),
        firmware: text("v2.13"),
        device_id: text(""),
    }
}

fn any_target() -> U256 {
    U256([0xff; 32])
}

fn standard() -> OpenStandardMiningChannel {
    OpenStandardMiningChannel {
        request_id: 10,
        user_identity: text(&format!("{ADDRESS}.rig1")),
        nominal_hash_rate: 0.0,
        max_target: any_target(),
    }
}

fn extended() -> OpenExtendedMiningChannel {
    let OpenStandardMiningChannel { request_id, user_identity, nominal_hash_rate, max_target } = standard();
    OpenExtendedMiningChannel {
        request_id,
        user_identity,
        nominal_hash_rate,
        max_target,
        min_extranonce_size: EXTRANONCE2_BYTES as u16, // 8
    }
}

/// A request for an extended channel whose client rolls so many bytes.
fn wide_extended(extranonce2_bytes: usize) -> Message {
    let min_extranonce_size = u16::try_from(extranonce2_bytes).unwrap();
    OpenExtendedMiningChannel { min_extranonce_size, ..extended() }.into()
}

/// A request for a channel of this kind that nothing speaks against.
fn open(kind: Kind) -> Message {
    match kind {
        Kind::Standard => standard().into(),
        Kind::Extended => extended().into(),
    }
}

/// The same for machines of some hash rate.
fn open_with(kind: Kind, nominal_hash_rate: f32) -> Message {
    match kind {
        Kind::Standard => OpenStandardMiningChannel { nominal_hash_rate, ..standard() }.into(),
        Kind::Extended => OpenExtendedMiningChannel { nominal_hash_rate, ..extended() }.into(),
    }
}

const KINDS: [Kind; 2] = [Kind::Standard, Kind::Extended];

fn update(channel_id: u32, nominal_hash_rate: f32, maximum_target: U256) -> UpdateChannel {
    UpdateChannel { channel_id, nominal_hash_rate, maximum_target }
}

fn close(channel_id: u32) -> CloseChannel {
    CloseChannel { channel_id, reason_code: text("bye") }
}

fn body_on(parent: u8, nbits: u32) -> Arc<EncodedJob> {
    let mut body = sample::body(nbits);
    body.prev_hash = sample::prev_hash(parent);
    sample::encoded(body)
}

/// What the frames of a request's answer are, by their names.
fn first_job(kind: Kind) -> [&'static str; 3] {
    match kind {
        Kind::Standard => ["OpenStandardMiningChannelSuccess", "NewMiningJob", "SetNewPrevHash"],
        Kind::Extended => ["OpenExtendedMiningChannelSuccess", "NewExtendedMiningJob", "SetNewPrevHash"],
    }
}
