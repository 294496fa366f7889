//! One channel of theirs and one of ours with the same jobs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use binary_sv2::U256Owned;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash, Network, ScriptBuf, Transaction, TxOut, consensus};
use channels_sv2::extranonce_manager::ExtranonceAllocator;
use channels_sv2::server::extended::ExtendedChannel;
use channels_sv2::server::share_accounting::{ShareValidationError, ShareValidationResult};
use channels_sv2::server::standard::StandardChannel;
use mining_sv2::{SubmitSharesExtendedOwned, SubmitSharesStandardOwned};
use rand::Rng;
use rand::rngs::StdRng;
use stratum::class::SizeClass;
use stratum::encoded::EncodedJob;
use stratum::extranonce::EXTRANONCE_BYTES;
use stratum::job::{Basis, Coinbase, JobBody, MARK_BYTES, Payout, TemplateId, Transactions};
use stratum::payee::Payee;
use stratum::pot::Pot;
use stratum::session::{Action, Booked, JobMessage};
use stratum::share::{Judge, Outcome, Reject};
use stratum::target::Target;
use stratum::v2::codec::{Bytes32, Str255, U256};
use stratum::v2::flag;
use stratum::v2::frame::HEADER_BYTES;
use stratum::v2::keys::{AuthoritySecret, Certificate, StaticKey};
use stratum::v2::message::{
    Message, OpenExtendedMiningChannel, OpenStandardMiningChannel, SetupConnection, SubmitSharesExtended,
    SubmitSharesStandard,
};
use stratum::v2::noise::{Authority, Initiator, Sealer, respond};
use stratum::v2::server::{Kind, Session, Settings, VERSION_MASK};
use template_distribution_sv2::{NewTemplateOwned, SetNewPrevHashOwned};

use super::{ADDRESS, CHANNEL, Job, PREFIX, ROLLED, Roll, UNIX_S, VALUE, Verdict};

/// Both sides of one channel.
pub struct Pair {
    pub kind: Kind,
    pub nbits: u32,
    pub version_mask: u32,
    pub session: Session,
    pub seal: Sealer,
    pub judge: Judge,
    pub now: Instant,
    pub payee: Payee,
    pub pot: Pot,
    /// Theirs; also where the coinbases come from.
    pub extended: ExtendedChannel,
    pub standard: StandardChannel,
    pub tip: u8,
    pub templates: u64,
    pub jobs: Vec<Job>,
    pub work: Option<Arc<EncodedJob>>,
}

impl Pair {
    pub fn new(kind: Kind, nbits: u32, version_mask: u32, rng: &mut StdRng) -> Self {
        let now = Instant::now();
        // Every second hash is a share, or every fourth where blocks are as easy.
        let network = Target::from_nbits(nbits).expect("a target");
        let pot = pot(-31).min(Pot::hardest_within(network));
        let settings = Settings {
            pot_start: pot,
            pot_min: pot,
            pot_max: pot,
            version_mask,
            ..Settings::new(Network::Signet)
        };
        let (session, seal) = connection(settings, now);
        let payee = Payee::parse(ADDRESS, Network::Signet).expect("an address");
        let mark = [&payee.tag.0[..], &[pot.get().cast_unsigned()], &[0; 4]].concat();
        let easiest = bitcoin::Target::from_le_bytes([0xff; 32]);
        let target = bitcoin::Target::from_le_bytes(U256::from(pot.target()).0);
        let mut extended = ExtendedChannel::new_for_pool(
            CHANNEL,
            ADDRESS.to_owned(),
            their_prefixes(&mark).allocate_extended(ROLLED).expect("the first"),
            easiest,
            1.0,
            version_mask != 0,
            u16::try_from(ROLLED).expect("8"),
            1,
            900.0,
            "p".to_owned(),
            None,
        )
        .expect("a channel");
        extended.set_target(target).expect("a target");
        let mut standard = StandardChannel::new_for_pool(
            CHANNEL,
            ADDRESS.to_owned(),
            their_prefixes(&mark).allocate_standard().expect("the first"),
            easiest,
            1.0,
            1,
            900.0,
            "p".to_owned(),
            None,
        )
        .expect("a channel");
        standard.set_target(target).expect("a target");
        let judge = Judge::new(Duration::ZERO);
        let mut pair = Self {
            kind,
            nbits,
            version_mask,
            session,
            seal,
            judge,
            now,
            payee,
            pot,
            extended,
            standard,
            tip: 0,
            templates: 0,
            jobs: Vec::new(),
            work: None,
        };
        pair.new_job(true, rng);
        pair.open();
        pair
    }

    fn prev_hash(&self) -> [u8; 32] {
        [self.tip; 32]
    }

    /// A job on a new parent, or another one on the same.
    pub fn new_job(&mut self, new_tip: bool, rng: &mut StdRng) {
        self.templates += 1;
        let path: Vec<[u8; 32]> = (0..rng.random_range(0..4)).map(|_| rng.random()).collect();
        let version = 0x2000_0000 | rng.random::<u32>() & VERSION_MASK;
        let template = NewTemplateOwned {
            template_id: self.templates,
            future_template: new_tip,
            version,
            coinbase_tx_version: 2,
            coinbase_prefix: vec![3, 0xa0, 0xbb, 0x0d].try_into().expect("short"),
            coinbase_tx_input_sequence: 0xffff_fffe,
            coinbase_tx_value_remaining: VALUE,
            coinbase_tx_outputs_count: 0,
            coinbase_tx_outputs: Vec::new().try_into().expect("short"),
            coinbase_tx_locktime: 899_999,
            merkle_path: path.iter().map(U256Owned::from).collect::<Vec<_>>().try_into().expect("short"),
        };
        let script = self.payee.script.clone();
        let outputs = vec![TxOut { value: Amount::from_sat(VALUE), script_pubkey: script.clone() }];
        self.extended.on_new_template(template.clone(), outputs.clone()).expect("a job");
        self.standard.on_new_template(template, outputs).expect("a job");
        if new_tip {
            self.tip += 1;
            let parent = SetNewPrevHashOwned {
                template_id: self.templates,
                prev_hash: U256Owned::from(self.prev_hash()),
                header_timestamp: UNIX_S,
                n_bits: self.nbits,
                target: U256Owned::from([0xff; 32]),
            };
            self.extended.on_set_new_prev_hash(parent.clone()).expect("a tip");
            self.standard.on_set_new_prev_hash(parent).expect("a tip");
        }
        let work = self.same_job(version, path, script);
        self.judge.new_tip(work.body().prev_hash, self.now);
        let theirs = self.extended.get_active_job().expect("a job").get_job_id();
        assert_eq!(theirs, self.standard.get_active_job().expect("a job").get_job_id());
        self.jobs.push(Job { ours: 0, theirs, tip: self.tip, version });
        self.work = Some(work.clone());
        let mut actions = Vec::new();
        self.session.work(0, &work, self.now, &mut actions);
        self.read(actions);
    }

    /// Their newest job as one of ours.
    fn same_job(&self, version: u32, merkle_branch: Vec<[u8; 32]>, script: ScriptBuf) -> Arc<EncodedJob> {
        let theirs = self.extended.get_active_job().expect("a job");
        let head = theirs.get_coinbase_tx_prefix_without_bip141();
        let tail = theirs.get_coinbase_tx_suffix_without_bip141();
        let gap = [0; MARK_BYTES + EXTRANONCE_BYTES];
        let coinbase = Coinbase::new([&head[..], &gap, &tail].concat().into(), head.len());
        let outputs = vec![TxOut { value: Amount::from_sat(VALUE), script_pubkey: script }];
        let ledger_block = BlockHash::all_zeros();
        let basis = Basis::Window { log_size: 0, ledger_block, credit_delta: Vec::new() };
        Arc::new(EncodedJob::new(Arc::new(JobBody {
            template: TemplateId(self.templates),
            height: 900_000,
            version,
            prev_hash: BlockHash::from_byte_array(self.prev_hash()),
            nbits: self.nbits,
            network_target: Target::from_nbits(self.nbits).expect("a target"),
            hardest_share: Target::from_nbits(self.nbits).expect("a target"),
            ntime_min: UNIX_S,
            ntime: UNIX_S,
            coinbase,
            merkle_branch,
            class: SizeClass::B755,
            out_bytes: 500,
            payout: Arc::new(Payout { outputs, basis }),
            transactions: Transactions::default(),
        })))
    }

    fn open(&mut self) {
        let text = |text: &'static str| Str255::from_static(text);
        self.say(SetupConnection {
            protocol: flag::PROTOCOL_MINING,
            min_version: 2,
            max_version: 2,
            flags: 0,
            endpoint_host: text(""),
            endpoint_port: 0,
            vendor: text("test"),
            hardware_version: text(""),
            firmware: text(""),
            device_id: text(""),
        });
        let (user_identity, max_target) = (text(ADDRESS), U256([0xff; 32]));
        match self.kind {
            Kind::Standard => self.say(OpenStandardMiningChannel {
                request_id: 1,
                user_identity,
                nominal_hash_rate: 0.0,
                max_target,
            }),
            Kind::Extended => self.say(OpenExtendedMiningChannel {
                request_id: 1,
                user_identity,
                nominal_hash_rate: 0.0,
                max_target,
                min_extranonce_size: 8,
            }),
        };
    }

    /// Says something to our session and does what it wants done; what was judged, if anything.
    fn say(&mut self, message: impl Into<Message>) -> Option<Verdict> {
        let mut frame = Vec::new();
        message.into().write_frame(&mut frame);
        let (header, payload) = frame.split_first_chunk::<HEADER_BYTES>().expect("a header");
        let mut sealed = Vec::new();
        self.seal.seal(header, payload, &mut sealed).expect("a fresh key");
        let mut actions = Vec::new();
        self.session.receive(&mut &sealed[..], self.now, &mut actions).expect("nothing to close for");
        self.read(actions)
    }

    fn read(&mut self, actions: Vec<Action>) -> Option<Verdict> {
        let mut verdict: Option<Verdict> = None;
        for action in actions {
            let mut next = Vec::new();
            match action {
                Action::Send(frame) => verdict = read_answer(&frame).or(verdict),
                Action::Job(JobMessage::V2(job)) => job.frames(&mut Vec::new(), |frame| self.read_job(frame)),
                Action::Open(opening) => {
                    let work = self.work.clone();
                    self.session.open(*opening, Some(PREFIX), work.as_ref(), self.now, &mut next);
                }
                Action::Share { ticket, share } => {
                    let judged = self.judge.check(share, self.now, u64::from(UNIX_S) * 1_000);
                    let answer = match judged.outcome {
                        Outcome::Accepted(share) => Ok(Booked { pot: share.pot(), entry: None }),
                        Outcome::Stale(_) => Err(Reject::Stale),
                        Outcome::RefusedBlock(_, reject) | Outcome::Rejected(reject) => Err(reject),
                    };
                    self.session.answer(ticket, answer, &mut next);
                    self.session.flush(&mut next);
                    let block = judged.block.map(|solution| txid(&solution.coinbase));
                    let answered = self.read(std::mem::take(&mut next)).expect("an answer");
                    verdict = Some(Verdict { block, ..answered });
                }
                Action::Refused(_) => {}
                other => panic!("{other:?}"),
            }
            verdict = self.read(next).or(verdict);
        }
        verdict
    }

    fn read_job(&mut self, frame: &[u8]) {
        let job = self.jobs.last_mut().expect("theirs came first");
        match Message::decode(frame[2], &frame[HEADER_BYTES..]).expect("our own") {
            Message::NewMiningJob(ours) => {
                let theirs = self.standard.get_active_job().expect("a job");
                assert_eq!(theirs.get_merkle_root().as_bytes(), ours.merkle_root.0);
                job.ours = ours.job_id;
            }
            Message::NewExtendedMiningJob(ours) => {
                let theirs = self.extended.get_active_job().expect("a job");
                assert_eq!(ours.version_rolling_allowed, theirs.version_rolling_allowed());
                job.ours = ours.job_id;
            }
            Message::SetNewPrevHash(_) => {}
            other => panic!("{other:?}"),
        }
    }

    pub fn ours(&mut self, job_id: u32, roll: &Roll) -> Verdict {
        let (channel_id, sequence_number) = (CHANNEL, 1);
        let Roll { ref extranonce, ntime, nonce, version } = *roll;
        let verdict = match self.kind {
            Kind::Standard => {
                self.say(SubmitSharesStandard { channel_id, sequence_number, job_id, nonce, ntime, version })
            }
            Kind::Extended => self.say(SubmitSharesExtended {
                channel_id,
                sequence_number,
                job_id,
                nonce,
                ntime,
                version,
                extranonce: Bytes32::new(extranonce).expect("32 bytes at most"),
            }),
        };
        verdict.expect("a share is answered")
    }

    pub fn theirs(&mut self, job_id: u32, roll: &Roll) -> Verdict {
        let (channel_id, sequence_number) = (CHANNEL, 1);
        let Roll { ref extranonce, ntime, nonce, version } = *roll;
        let verdict = match self.kind {
            Kind::Standard => self.standard.validate_share(SubmitSharesStandardOwned {
                channel_id,
                sequence_number,
                job_id,
                nonce,
                ntime,
                version,
            }),
            Kind::Extended => self.extended.validate_share(SubmitSharesExtendedOwned {
                channel_id,
                sequence_number,
                job_id,
                nonce,
                ntime,
                version,
                extranonce: extranonce.clone().try_into().expect("32 bytes at most"),
            }),
        };
        match verdict {
            Ok(ShareValidationResult::Valid(_)) => Verdict { code: "accepted".into(), block: None },
            Ok(ShareValidationResult::BlockFound(_, _, coinbase)) => {
                Verdict { code: "accepted".into(), block: Some(txid(&coinbase)) }
            }
            Err(
                ShareValidationError::Invalid(code)
                | ShareValidationError::Stale(code)
                | ShareValidationError::InvalidJobId(code)
                | ShareValidationError::DoesNotMeetTarget(code)
                | ShareValidationError::VersionRollingNotAllowed(code)
                | ShareValidationError::DuplicateShare(code)
                | ShareValidationError::BadExtranonceSize(code),
            ) => Verdict { code: code.to_owned(), block: None },
            Err(other) => panic!("{other:?}"),
        }
    }
}

fn txid(bytes: &[u8]) -> [u8; 32] {
    let coinbase: Transaction = consensus::deserialize(bytes).expect("a coinbase is a transaction");
    coinbase.compute_txid().to_byte_array()
}

/// The session's end of a connection, and what seals for it.
fn connection(settings: Settings, now: Instant) -> (Session, Sealer) {
    let authority = AuthoritySecret::from_bytes([1; 32]).expect("1 is a scalar");
    let key = StaticKey::new([2; 32], [3; 32]);
    let certificate = Certificate::sign(&authority, &key.public_x_only(), 0, u32::MAX);
    let (initiator, act1) = Initiator::new([4; 64], Authority::Unauthenticated);
    let (act2, server) = respond(&key, &certificate, [5; 64], &act1).expect("every act 1 is answered");
    let client = initiator.finish(&act2, UNIX_S).expect("an unchanged handshake");
    (Session::new(Arc::new(settings), server.open, now), client.seal)
}

fn pot(number: i8) -> Pot {
    Pot::try_from(number).expect("a pot")
}

/// A prefix that holds our mark, and what follows it on a channel of the kind.
fn their_prefixes(mark: &[u8]) -> ExtranonceAllocator {
    let local = [mark, &PREFIX.0[..3]].concat();
    let total = u8::try_from(MARK_BYTES + EXTRANONCE_BYTES).expect("25");
    ExtranonceAllocator::new(local, total, 2).expect("32 bytes at most")
}

fn read_answer(frame: &[u8]) -> Option<Verdict> {
    match Message::decode(frame[2], &frame[HEADER_BYTES..]).expect("our own") {
        Message::SubmitSharesSuccess(_) => Some(Verdict { code: "accepted".into(), block: None }),
        Message::SubmitSharesError(error) => {
            Some(Verdict { code: error.error_code.to_string(), block: None })
        }
        _ => None,
    }
}
