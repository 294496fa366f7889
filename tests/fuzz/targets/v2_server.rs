//! A client's side of a V2 connection, one frame after the other, against the session and the real judge.
//!
//! The input is cut into frames: `length (1 byte) ‖ extension_type (2) ‖ msg_type (1) ‖ payload`. Each is sealed by a
//! real client and takes a second; one of length 255 takes five minutes and goes to nobody.
#![no_main]

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bitcoin::{Amount, BlockHash, Network, ScriptBuf, TxOut};
use libfuzzer_sys::fuzz_target;
use stratum::class::SizeClass;
use stratum::encoded::EncodedJob;
use stratum::extranonce::{EXTRANONCE_BYTES, PrefixAllocator};
use stratum::fault::Fault;
use stratum::job::{Basis, Payout, TemplateId};
use stratum::pot::Pot;
use stratum::session::{Action, Booked, JobMessage};
use stratum::share::{Judge, Outcome, PendingShare, Reject};
use stratum::target::Target;
use stratum::v2::extension::{NEGOTIATION, RECEIPTS, Receipts};
use stratum::v2::frame::{HEADER_BYTES, Header, write_frame, write_frame_with};
use stratum::v2::keys::{AuthoritySecret, Certificate, StaticKey};
use stratum::v2::message::negotiation::{RequestExtensionsError, RequestExtensionsSuccess};
use stratum::v2::message::{Message, SubmitSharesSuccess, Wire};
use stratum::v2::noise::{Authority, Initiator, Sealer, Transport, respond};
use stratum::v2::server::{Session, Settings};
use template::assemble::job_body;
use template::coinbase::CoinbaseStyle;
use template::template::Template;

const TEMPLATE: &[u8] = include_bytes!("../seeds/template_json/transactions.json");
const REST: Duration = Duration::from_secs(120);
const CHANNELS: usize = 4;
/// Difficulty 1.
const NBITS: u32 = 0x1d00_ffff;

fuzz_target!(|input: &[u8]| {
    let mut now = Instant::now();
    let (mut server, mut seal) = Server::new(now);
    let mut rest = input;
    while let Some((&[length, low, high, msg_type], behind)) = rest.split_first_chunk() {
        let idle = length == u8::MAX;
        let (payload, behind) = behind.split_at(if idle { 0 } else { behind.len().min(length.into()) });
        rest = behind;
        now += Duration::from_secs(if idle { 300 } else { 1 });
        let fed = if idle {
            Ok(())
        } else {
            let frame = sealed(&mut seal, u16::from_le_bytes([low, high]), msg_type, payload);
            // In two pieces, cut where the payload says.
            let cut = usize::from(payload.last().copied().unwrap_or(0)) % frame.len();
            let (first, second) = frame.split_at(cut);
            let fed = server.receive(now, first);
            fed.and_then(|()| server.receive(now, second))
        };
        if fed.and_then(|()| server.tick(now)).is_err() {
            return;
        }
    }
});

fn sealed(seal: &mut Sealer, extension_type: u16, msg_type: u8, payload: &[u8]) -> Vec<u8> {
    let channel = extension_type & 0x8000 != 0;
    let extension_type = extension_type & 0x7fff;
    let header = Header { extension_type, channel, msg_type, payload_bytes: payload.len() };
    let mut frame = Vec::new();
    seal.seal(&header.to_bytes(), payload, &mut frame).expect("a fresh key");
    frame
}

fn transports() -> (Transport, Transport) {
    static KEY: LazyLock<(StaticKey, Certificate)> = LazyLock::new(|| {
        let authority = AuthoritySecret::from_bytes([1; 32]).expect("1 is below the curve's order");
        let key = StaticKey::new([2; 32], [3; 32]);
        let certificate = Certificate::sign(&authority, &key.public_x_only(), 0, u32::MAX);
        (key, certificate)
    });
    let (initiator, act1) = Initiator::new([4; 64], Authority::Unauthenticated);
    let (act2, server) = respond(&KEY.0, &KEY.1, [5; 64], &act1).expect("every act 1 is answered");
    (initiator.finish(&act2, 1).expect("an unchanged handshake"), server)
}

struct Server {
    session: Session,
    judge: Judge,
    prefixes: PrefixAllocator,
    work: Arc<EncodedJob>,
    /// Headers that were paid: each has an entry of the log.
    credited: HashSet<BlockHash>,
    /// The last answer of the session to a request for extensions agreed to ours.
    receipts: bool,
}

impl Server {
    fn new(now: Instant) -> (Self, Sealer) {
        let work = work();
        let mut judge = Judge::new(Duration::ZERO);
        judge.new_tip(work.body().prev_hash, now);
        // Every second hash is a share at first; vardiff has room on both sides.
        let pot_start = Pot::try_from(-31).expect("a pot");
        let pot_min = Pot::MIN;
        let defaults = Settings::new(Network::Regtest);
        let settings = Settings { channels_max: CHANNELS, pot_start, pot_min, receipts: true, ..defaults };
        let (client, server) = transports();
        let session = Session::new(Arc::new(settings), server.open, now);
        let prefixes = PrefixAllocator::new(0, REST);
        let credited = HashSet::new();
        (Self { session, judge, prefixes, work, credited, receipts: false }, client.seal)
    }

    fn receive(&mut self, now: Instant, mut bytes: &[u8]) -> Result<(), Fault> {
        let mut fed = Ok(());
        while fed.is_ok() && !bytes.is_empty() {
            let mut actions = Vec::new();
            fed = self.session.receive(&mut bytes, now, &mut actions);
            self.act(now, actions);
        }
        fed
    }

    fn tick(&mut self, now: Instant) -> Result<(), Fault> {
        let mut actions = Vec::new();
        let ticked =
            if now >= self.session.deadline() { self.session.tick(now, &mut actions) } else { Ok(()) };
        self.act(now, actions);
        assert!(ticked.is_err() || self.session.deadline() > now, "no busy loop");
        ticked
    }

    /// Does what a shard would do, and checks what goes out.
    fn act(&mut self, now: Instant, actions: Vec<Action>) {
        for action in actions {
            let mut next = Vec::new();
            match action {
                Action::Send(frame) => self.check_answer(&frame),
                Action::Job(JobMessage::V2(job)) => job.frames(&mut Vec::new(), check_frame),
                Action::Share { ticket, share } => {
                    let answer = self.judged(share, now);
                    self.session.answer(ticket, answer, &mut next);
                    self.session.flush(&mut next);
                }
                Action::Open(opening) => {
                    let prefix = self.prefixes.allocate(now).ok();
                    let work = self.work_of(opening.extranonce_bytes());
                    self.session.open(*opening, prefix, Some(&work), now, &mut next);
                    assert!(self.session.prefixes().count() <= CHANNELS);
                }
                Action::Closed(prefix) => self.prefixes.free(prefix, now),
                Action::Refused(_) => {}
                Action::Job(JobMessage::V1(_)) | Action::Unanswered(_) | Action::NeedWork => {
                    unreachable!("this is V2")
                }
            }
            self.act(now, next);
        }
    }

    /// As [`check_frame`]; whoever has agreed to it, and nobody else, is told where its one share is.
    fn check_answer(&mut self, frame: &[u8]) {
        let (header, payload) = split(frame);
        let mut again = Vec::new();
        if header.extension_type == NEGOTIATION {
            let success = RequestExtensionsSuccess::decode(payload).expect("all begin alike");
            self.receipts = header.msg_type == RequestExtensionsSuccess::TYPE
                && success.supported_extensions.as_slice().contains(&RECEIPTS);
            if header.msg_type == RequestExtensionsSuccess::TYPE {
                write_frame(&success, &mut again);
            } else {
                write_frame(&RequestExtensionsError::decode(payload).expect("the other answer"), &mut again);
            }
        } else if header.msg_type == SubmitSharesSuccess::TYPE && self.receipts {
            let success = SubmitSharesSuccess::decode(payload).expect("an acknowledgement");
            let at = Receipts { first: self.credited.len() as u64 - 1, count: 1 };
            write_frame_with(&success, |out| at.write(out), &mut again);
        } else {
            return check_frame(frame);
        }
        assert_eq!(again, frame);
    }

    /// The work for a channel with so much extranonce.
    fn work_of(&self, extranonce_bytes: usize) -> Arc<EncodedJob> {
        match extranonce_bytes {
            EXTRANONCE_BYTES => self.work.clone(),
            more => Arc::new(self.work.with_extranonce(more)),
        }
    }

    /// However a share is spelled, and through whichever channel and job it comes, a header is paid once.
    fn judged(&mut self, share: PendingShare, now: Instant) -> Result<Booked, Reject> {
        match self.judge.check(share, now, 1_800_000_000_000).outcome {
            Outcome::Accepted(share) => {
                assert!(self.credited.insert(share.hash()), "{} is credited twice", share.hash());
                Ok(Booked { pot: share.pot(), entry: Some(self.credited.len() as u64 - 1) })
            }
            Outcome::Stale(_) => Err(Reject::Stale),
            Outcome::RefusedBlock(_, reject) | Outcome::Rejected(reject) => Err(reject),
        }
    }
}

fn split(frame: &[u8]) -> (Header, &[u8]) {
    let (header, payload) = frame.split_first_chunk::<HEADER_BYTES>().expect("a header");
    (Header::from_bytes(*header), payload)
}

/// Whatever a client sends, it gets whole frames that say what they are.
fn check_frame(frame: &[u8]) {
    let (header, payload) = split(frame);
    let message = Message::decode(header.msg_type, payload).expect("a message of the table");
    let mut again = Vec::new();
    message.write_frame(&mut again);
    assert_eq!(again, frame);
}

fn work() -> Arc<EncodedJob> {
    static WORK: LazyLock<Arc<EncodedJob>> = LazyLock::new(|| {
        let template = Template::parse(TEMPLATE, Network::Regtest).expect("a node made it");
        let style = CoinbaseStyle::new(1, 2, "").expect("no text fits");
        let script = ScriptBuf::from_bytes(vec![0x51]);
        let outputs =
            vec![TxOut { value: Amount::from_sat(template.value()), script_pubkey: script.clone() }];
        let payout = Arc::new(Payout { outputs, basis: Basis::Solo { script, log_size: 0 } });
        let body = job_body(TemplateId(1), &template, &style, SizeClass::default(), 100, payout);
        let mut body = body.expect("one short output fits");
        // The node's own target is so easy that there is but one difficulty below it.
        body.nbits = NBITS;
        body.network_target = Target::from_nbits(NBITS).expect("a target");
        Arc::new(EncodedJob::new(Arc::new(body)))
    });
    WORK.clone()
}
