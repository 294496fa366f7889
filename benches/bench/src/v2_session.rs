//! A V2 session of ours that takes shares: the client's frames in, shares for judgement out.

use crate::measure::{Side, thread_cpu};
use crate::work::{self, ADDRESS, PREFIX, UNIX_S, VERSION};
use anyhow::{bail, ensure};
use bitcoin::Network;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stratum::encoded::EncodedJob;
use stratum::job::JobBody;
use stratum::pot::Pot;
use stratum::session::{Action, Booked, JobMessage};
use stratum::v2::codec::{Bytes32, Str255, U256};
use stratum::v2::flag;
use stratum::v2::frame::HEADER_BYTES;
use stratum::v2::keys::{AuthoritySecret, Certificate, StaticKey};
use stratum::v2::message::{Message, OpenExtendedMiningChannel, SetupConnection, SubmitSharesExtended};
use stratum::v2::noise::{Authority, Initiator, Sealer, respond};
use stratum::v2::server::{self, Session, Settings};

/// Frames that are received before their shares are answered.
const UNANSWERED: usize = 512;

/// A session with one extended channel, and what its client seals with.
pub struct Mining {
    session: Session,
    seal: Sealer,
    now: Instant,
    pot: Pot,
    channel_id: u32,
    job_id: u32,
    sent: u32,
}

impl Mining {
    /// A client that has set up its connection and opened its channel.
    ///
    /// # Errors
    /// The session gave it no channel or no job.
    pub fn new() -> anyhow::Result<Self> {
        let authority = AuthoritySecret::from_bytes([1; 32])?;
        let key = StaticKey::new([2; 32], [3; 32]);
        let certificate = Certificate::sign(&authority, &key.public_x_only(), 0, u32::MAX);
        let (initiator, act1) = Initiator::new([4; 64], Authority::Unauthenticated);
        let (act2, server) = respond(&key, &certificate, [5; 64], &act1)?;
        let seal = initiator.finish(&act2, UNIX_S)?.seal;
        let (now, pot) = (Instant::now(), Pot::try_from(13)?);
        // One difficulty alone: a crowd of shares at one moment would raise it.
        let settings =
            Settings { pot_start: pot, pot_min: pot, pot_max: pot, ..Settings::new(Network::Signet) };
        let session = Session::new(Arc::new(settings), server.open, now);
        let mut mining = Self { session, seal, now, pot, channel_id: 0, job_id: 0, sent: 0 };
        mining.open()?;
        Ok(mining)
    }

    fn open(&mut self) -> anyhow::Result<()> {
        let text = |text: &'static str| Str255::from_static(text);
        let setup = SetupConnection {
            protocol: flag::PROTOCOL_MINING,
            min_version: 2,
            max_version: 2,
            flags: 0,
            endpoint_host: text(""),
            endpoint_port: 0,
            vendor: text("bench"),
            hardware_version: text(""),
            firmware: text(""),
            device_id: text(""),
        };
        let open = OpenExtendedMiningChannel {
            request_id: 1,
            user_identity: text(ADDRESS),
            nominal_hash_rate: 0.0,
            max_target: U256([0xff; 32]),
            min_extranonce_size: 8,
        };
        let bytes = [self.sealed(setup), self.sealed(open)].concat();
        let mut actions = Vec::new();
        self.receive(&bytes, &mut actions);
        let work = Arc::new(EncodedJob::new(work::body(work::small_coinbase(), Vec::new())));
        let mut answers = Vec::new();
        for action in actions {
            if let Action::Open(opening) = action {
                self.session.open(*opening, Some(PREFIX), Some(&work), self.now, &mut answers);
            }
        }
        for action in answers {
            match action {
                Action::Send(frame) => self.read(&frame),
                Action::Job(JobMessage::V2(job)) => job.frames(&mut Vec::new(), |frame| self.read(frame)),
                _ => {}
            }
        }
        ensure!(self.channel_id > 0 && self.job_id > 0, "a channel with a job was opened");
        Ok(())
    }

    /// Another job on the same parent, as the channel gets it.
    ///
    /// # Errors
    /// The session made none.
    pub fn job(&mut self, body: Arc<JobBody>) -> anyhow::Result<server::JobMessage> {
        let mut actions = Vec::new();
        self.session.work(0, &Arc::new(EncodedJob::new(body)), self.now, &mut actions);
        match actions.pop() {
            Some(Action::Job(JobMessage::V2(job))) => Ok(job),
            other => bail!("a job was asked for, not {other:?}"),
        }
    }

    fn read(&mut self, frame: &[u8]) {
        match Message::decode(frame[2], &frame[HEADER_BYTES..]) {
            Ok(Message::OpenExtendedMiningChannelSuccess(success)) => self.channel_id = success.channel_id,
            Ok(Message::NewExtendedMiningJob(job)) => self.job_id = job.job_id,
            _ => {}
        }
    }

    fn sealed(&mut self, message: impl Into<Message>) -> Vec<u8> {
        let mut plain = Vec::new();
        message.into().write_frame(&mut plain);
        let (header, payload) = plain.split_first_chunk::<HEADER_BYTES>().expect("a header");
        let mut sealed = Vec::new();
        self.seal.seal(header, payload, &mut sealed).expect("a fresh key");
        sealed
    }

    fn submit(&mut self) -> Vec<u8> {
        self.sent = self.sent.wrapping_add(1);
        self.sealed(SubmitSharesExtended {
            channel_id: self.channel_id,
            sequence_number: self.sent,
            job_id: self.job_id,
            nonce: self.sent,
            ntime: UNIX_S,
            version: VERSION,
            extranonce: Bytes32::new(&[7; 8]).expect("8 bytes of at most 32"),
        })
    }

    fn receive(&mut self, mut bytes: &[u8], actions: &mut Vec<Action>) {
        while !bytes.is_empty() {
            self.session.receive(&mut bytes, self.now, actions).expect("a polite client");
        }
    }

    /// Receives submits, one frame at a time. What is not measured: sealing them, and the answers.
    pub fn side(mut self) -> Side<'static> {
        let (mut actions, mut answers) = (Vec::new(), Vec::new());
        Side::timing_itself(move |items| {
            let mut took = Duration::ZERO;
            let mut left = items;
            while left > 0 {
                let frames: Vec<Vec<u8>> = (0..left.min(UNANSWERED)).map(|_| self.submit()).collect();
                left -= frames.len();
                let before = thread_cpu();
                for frame in &frames {
                    self.receive(black_box(frame), &mut actions);
                }
                black_box(&actions);
                took += thread_cpu() - before;
                let mut shares = 0;
                for action in actions.drain(..) {
                    if let Action::Share { ticket, share } = action {
                        assert!(share.allowed.is_ok() && share.roll.nonce > 0, "the share that was sent");
                        let booked = Booked { pot: self.pot, entry: None };
                        self.session.answer(ticket, Ok(booked), &mut answers);
                        shares += 1;
                    }
                }
                self.session.flush(&mut answers);
                answers.clear();
                assert_eq!(shares, frames.len(), "each frame is a share");
            }
            took
        })
    }
}
