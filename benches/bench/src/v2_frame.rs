//! `v2_frame`: what it costs to put a message on the wire of V2 and to take it off.
//!
//! Out: from the message to sealed bytes. In: from sealed bytes, all there, to the message. Ours are the frames, messages
//! and the Noise transport that sessions use; beside them the encoder and decoder of `codec_sv2`, with the buffer pool
//! that its programs are built with, and the messages of `mining_sv2`. A job to a channel is on our side all that is
//! left to do once its body is encoded, down to the room for its frame; on theirs the message is there already, and
//! what it takes to copy one for each channel is not counted. The last row is a whole session: frame in, opened, read,
//! channel and job looked up, vardiff told, the share ready for its judgement.

use crate::measure::{Figures, Side, in_turns};
use crate::report::{Report, Row, count, figure};
use crate::v2_session::Mining;
use crate::work;
use anyhow::{Context, ensure};
use binary_sv2::{GetSize, U256Owned};
use codec_sv2::{
    Decrypted, Handshake, MessageFrame, NoiseDecoder, NoiseEncoder, TransportDecryptState,
    TransportEncryptState,
};
use framing_sv2::framing::EncodableFrame;
use std::hint::black_box;
use stratum::job::Coinbase;
use stratum::v2::frame::{Class, HEADER_BYTES, Header, write_frame};
use stratum::v2::keys::{AuthoritySecret, Certificate, StaticKey};
use stratum::v2::message::{Message, NewExtendedMiningJob, SubmitSharesExtended, SubmitSharesSuccess, Wire};
use stratum::v2::noise::{self, SEALED_HEADER_BYTES, Sealer, sealed_payload_bytes};
use stratum::v2::server::JobMessage;

/// The benchmark's name.
pub const NAME: &str = "v2_frame";
const PEER: &str = "codec_sv2 7.0.0 with mining_sv2 12.0.0";
const UNIT: &str = "ns per frame";
/// Bytes of the coinbases of jobs: a solo miner's, and the longest.
const COINBASE_BYTES: [usize; 2] = [250, 31_150];
/// Hashes on the way to the root: about 4,000 transactions.
const BRANCH: [[u8; 32]; 12] = [[0x5b; 32]; 12];

/// The reference implementation's end of a connection.
struct Theirs {
    encoder: NoiseEncoder,
    decoder: NoiseDecoder,
    encrypt: TransportEncryptState,
    /// `None` only while a frame is read.
    decrypt: Option<TransportDecryptState>,
}

impl Theirs {
    fn seal(&mut self, frame: impl EncodableFrame, mut take: impl FnMut(&[u8])) {
        let sealed = self.encoder.encode_transport(frame, &mut self.encrypt).expect("a fresh key");
        take(sealed.as_ref());
    }

    /// Reads one sealed frame: the decoder says how many bytes it wants, and gets them.
    fn open(&mut self, mut bytes: &[u8], mut take: impl FnMut(u8, &mut [u8])) {
        loop {
            let room = self.decoder.writable();
            let (read, rest) = bytes.split_at(room.len());
            room.copy_from_slice(read);
            bytes = rest;
            let decrypt = self.decrypt.take().expect("no frame was broken");
            match self.decoder.next_transport_frame(decrypt).expect("the frame opens") {
                Decrypted::Frame(mut frame, decrypt) => {
                    self.decrypt = Some(decrypt);
                    assert!(bytes.is_empty(), "one frame at a time");
                    let msg_type = frame.header().msg_type();
                    return take(msg_type, frame.payload());
                }
                Decrypted::Incomplete(_, decrypt) => self.decrypt = Some(decrypt),
            }
        }
    }
}

/// Their client and our server after a handshake.
fn connection() -> (Theirs, noise::Transport) {
    let authority = AuthoritySecret::from_bytes([1; 32]).expect("1 is a scalar");
    let key = StaticKey::new([2; 32], [3; 32]);
    let certificate = Certificate::sign(&authority, &key.public_x_only(), 0, u32::MAX);
    let initiator = noise_sv2::Initiator::without_pk().expect("no key to be wrong");
    let (act1, initiator) = Handshake::initiator(initiator).step_0().expect("act 1");
    let act1 = act1.payload().try_into().expect("64 bytes");
    let (act2, ours) = noise::respond(&key, &certificate, [5; 64], &act1).expect("every act 1 is answered");
    let (encrypt, decrypt) = initiator.step_2(act2).expect("they take our act 2").split();
    let (encoder, decoder) = (NoiseEncoder::new(), NoiseDecoder::new());
    (Theirs { encoder, decoder, encrypt, decrypt: Some(decrypt) }, ours)
}

/// What our session and its outbox do to a message: a frame of its own, sealed into room that is kept.
fn seal<M: Wire>(sealer: &mut Sealer, message: &M, sealed: &mut Vec<u8>) {
    sealed.clear();
    seal_plain(sealer, &plain(message), sealed);
}

/// What they do to a job.
fn seal_job(sealer: &mut Sealer, job: &JobMessage, sealed: &mut Vec<u8>) {
    sealed.clear();
    job.frames(&mut Vec::new(), |frame| seal_plain(sealer, frame, sealed));
}

fn seal_plain(sealer: &mut Sealer, plain: &[u8], sealed: &mut Vec<u8>) {
    let (header, payload) = plain.split_first_chunk::<HEADER_BYTES>().expect("a header");
    sealer.seal(header, payload, sealed).expect("a fresh key");
}

fn plain<M: Wire>(message: &M) -> Vec<u8> {
    let mut plain = Vec::new();
    write_frame(message, &mut plain);
    plain
}

/// What our session does to sealed bytes: it collects each part, then opens it where it stands.
fn open(opener: &mut noise::Opener, sealed: &[u8]) -> Message {
    let (header, payload) = sealed.split_first_chunk::<SEALED_HEADER_BYTES>().expect("a sealed header");
    let header = black_box(header.to_vec());
    let header = header.first_chunk().expect("as many as it was made of");
    let header = Header::from_bytes(opener.header(header).expect("the header opens"));
    assert!(matches!(header.class(), Class::Known(_)), "a message of the table");
    let mut payload = payload[..sealed_payload_bytes(header.payload_bytes)].to_vec();
    Message::decode(header.msg_type, opener.payload(&mut payload).expect("the payload opens"))
        .expect("a whole message")
}

fn our_submit() -> SubmitSharesExtended {
    SubmitSharesExtended {
        channel_id: 6,
        sequence_number: 77,
        job_id: 9,
        nonce: 0x7c2b_1e90,
        ntime: crate::work::UNIX_S,
        version: crate::work::VERSION,
        extranonce: stratum::v2::codec::Bytes32::new(&[7; 8]).expect("8 bytes of at most 32"),
    }
}

fn our_success() -> SubmitSharesSuccess {
    SubmitSharesSuccess {
        channel_id: 6,
        last_sequence_number: 77,
        new_submits_accepted_count: 1,
        new_shares_sum: 8_192,
    }
}

fn their_submit() -> mining_sv2::SubmitSharesExtendedOwned {
    mining_sv2::SubmitSharesExtendedOwned {
        channel_id: 6,
        sequence_number: 77,
        job_id: 9,
        nonce: 0x7c2b_1e90,
        ntime: crate::work::UNIX_S,
        version: crate::work::VERSION,
        extranonce: vec![7; 8].try_into().expect("8 bytes of at most 32"),
    }
}

fn their_success() -> mining_sv2::SubmitSharesSuccess {
    mining_sv2::SubmitSharesSuccess {
        channel_id: 6,
        last_sequence_number: 77,
        new_submits_accepted_count: 1,
        new_shares_sum: 8_192,
    }
}

/// A job that changes neither parent nor target: one frame.
fn our_job(coinbase_bytes: usize) -> anyhow::Result<JobMessage> {
    let coinbase = Coinbase::new(vec![0x0c; coinbase_bytes].into(), 50);
    Mining::new()?.job(work::body(coinbase, BRANCH.to_vec()))
}

fn message_of(job: &JobMessage) -> anyhow::Result<NewExtendedMiningJob> {
    let mut found = Vec::new();
    job.frames(&mut Vec::new(), |frame| found.push(NewExtendedMiningJob::decode(&frame[HEADER_BYTES..])));
    ensure!(found.len() == 1, "one frame");
    Ok(found.pop().context("one frame")??)
}

fn their_job(ours: &NewExtendedMiningJob) -> mining_sv2::NewExtendedMiningJobOwned {
    let path: Vec<U256Owned> = ours.merkle_path.as_slice().iter().map(|hash| hash.0.into()).collect();
    let (prefix, suffix) = (ours.coinbase_tx_prefix.as_bytes(), ours.coinbase_tx_suffix.as_bytes());
    mining_sv2::NewExtendedMiningJobOwned {
        channel_id: ours.channel_id,
        job_id: ours.job_id,
        min_ntime: binary_sv2::Sv2OptionOwned::new(ours.min_ntime),
        version: ours.version,
        version_rolling_allowed: ours.version_rolling_allowed,
        merkle_path: path.try_into().expect("a short path"),
        coinbase_tx_prefix: prefix.to_vec().try_into().expect("a short coinbase"),
        coinbase_tx_suffix: suffix.to_vec().try_into().expect("a short coinbase"),
    }
}

/// Reads a job as their sessions do.
fn read_job(msg_type: u8, payload: &mut [u8]) -> u32 {
    assert_eq!(msg_type, mining_sv2::MESSAGE_TYPE_NEW_EXTENDED_MINING_JOB);
    let job: mining_sv2::NewExtendedMiningJob<'_> = binary_sv2::from_bytes(payload).expect("a whole job");
    black_box(job.into_owned()).job_id
}

/// Reads a submit as their sessions do; its nonce is proof that it was read.
fn read_submit(msg_type: u8, payload: &mut [u8]) -> u32 {
    assert_eq!(msg_type, mining_sv2::MESSAGE_TYPE_SUBMIT_SHARES_EXTENDED);
    let submit: mining_sv2::SubmitSharesExtended<'_> =
        binary_sv2::from_bytes(payload).expect("a whole submit");
    black_box(submit.into_owned()).nonce
}

/// Reads a success as their sessions do.
fn read_success(msg_type: u8, payload: &mut [u8]) -> u32 {
    assert_eq!(msg_type, mining_sv2::MESSAGE_TYPE_SUBMIT_SHARES_SUCCESS);
    let success: mining_sv2::SubmitSharesSuccess = binary_sv2::from_bytes(payload).expect("a whole success");
    black_box(success).last_sequence_number
}

fn frame<T>(message: T, msg_type: u8) -> MessageFrame<T>
where
    T: binary_sv2::Serialize + GetSize,
{
    MessageFrame::from_message(message, msg_type, 0, true).expect("a short message")
}

/// Measures both messages both ways, and jobs on their way out.
///
/// # Errors
/// One side does not understand the other.
pub fn run() -> anyhow::Result<Report> {
    let submit_type = mining_sv2::MESSAGE_TYPE_SUBMIT_SHARES_EXTENDED;
    let success_type = mining_sv2::MESSAGE_TYPE_SUBMIT_SHARES_SUCCESS;
    let submit = || frame(their_submit(), submit_type);
    let success = || frame(their_success(), success_type);
    check(&our_submit(), &Message::from(our_submit()), submit, read_submit, 0x7c2b_1e90)?;
    check(&our_success(), &Message::from(our_success()), success, read_success, 77)?;
    let measured = [
        (
            "SubmitSharesExtended, message to sealed bytes",
            sealing_message(our_submit(), their_submit, submit_type),
        ),
        ("SubmitSharesExtended, sealed bytes to message", opening(our_submit(), submit, read_submit)),
        (
            "SubmitShares.Success, message to sealed bytes",
            sealing_message(our_success(), their_success, success_type),
        ),
        ("SubmitShares.Success, sealed bytes to message", opening(our_success(), success, read_success)),
    ];
    let row = |(what, figures): &(&str, Figures)| {
        Row::new(*what, UNIT, figures.ns(0)).beside(PEER, figures.ns(1), figures.ratio(1))
    };
    let mut rows: Vec<Row> = measured.iter().map(row).collect();
    rows.extend(job_rows()?);
    let session = in_turns(vec![Mining::new()?.side()]);
    let server: f64 = rows[1].ours + rows[2].ours;
    let theirs: f64 = measured[1].1.ns(1) + measured[2].1.ns(1);
    // What a server does for a share: the submit comes in, the success goes out.
    for at in [1, 2] {
        rows[at] = rows[at].clone().headline();
    }
    rows.push(Row::new("V2 session, sealed submit to a share for judgement", UNIT, session.ns(0)).headline());
    let summary = format!(
        "{} ns for a share in and its success out, the reference {} ns",
        figure(server),
        figure(theirs)
    );
    Ok(Report::new(NAME, rows, summary))
}

/// A job to a channel, by the size of its coinbase.
fn job_rows() -> anyhow::Result<Vec<Row>> {
    let msg_type = mining_sv2::MESSAGE_TYPE_NEW_EXTENDED_MINING_JOB;
    let measure = |coinbase_bytes| {
        let ours = our_job(coinbase_bytes)?;
        let message = message_of(&ours)?;
        let theirs = || frame(their_job(&message), msg_type);
        check(&message, &Message::from(message.clone()), theirs, read_job, message.job_id)?;
        let seal =
            move |sealer: &mut Sealer, sealed: &mut Vec<u8>| seal_job(sealer, black_box(&ours), sealed);
        let figures = sealing(seal, || their_job(&message), msg_type);
        let bytes = count(coinbase_bytes);
        let what = format!("a job to a channel, {bytes} B coinbase, to sealed bytes");
        Ok(Row::new(what, UNIT, figures.ns(0)).beside(PEER, figures.ns(1), figures.ratio(1)).headline())
    };
    COINBASE_BYTES.into_iter().map(measure).collect()
}

/// What one side seals the other opens, and it says the same.
fn check<M: Wire, F: EncodableFrame>(
    message: &M,
    expected: &Message,
    their_frame: impl Fn() -> F,
    read: impl Fn(u8, &mut [u8]) -> u32,
    proof: u32,
) -> anyhow::Result<()> {
    let (mut theirs, mut ours) = connection();
    let (plain, mut sealed) = (plain(message), Vec::new());
    for _ in 0..3 {
        seal(&mut ours.seal, message, &mut sealed);
        let mut found = None;
        theirs.open(&sealed, |msg_type, payload| {
            let same = plain[HEADER_BYTES..] == *payload;
            found = Some((same, read(msg_type, payload)));
        });
        ensure!(found == Some((true, proof)), "they read {found:?}");
        let mut bytes = Vec::new();
        theirs.seal(their_frame(), |sealed| bytes.extend_from_slice(sealed));
        ensure!(open(&mut ours.open, &bytes) == *expected, "we read the same message");
    }
    Ok(())
}

/// From messages to bytes.
fn sealing_message<M: Wire, T: binary_sv2::Serialize + GetSize>(
    ours: M,
    theirs: impl Fn() -> T,
    msg_type: u8,
) -> Figures {
    sealing(move |sealer, sealed| seal(sealer, black_box(&ours), sealed), theirs, msg_type)
}

/// The same, whatever we seal.
fn sealing<T: binary_sv2::Serialize + GetSize>(
    ours: impl Fn(&mut Sealer, &mut Vec<u8>),
    theirs: impl Fn() -> T,
    msg_type: u8,
) -> Figures {
    let (mut their_end, mut our_end) = connection();
    let mut sealed = Vec::new();
    let our_side = Side::new(
        |items| items,
        move |items| {
            for _ in 0..*items {
                ours(&mut our_end.seal, &mut sealed);
                black_box(&sealed);
            }
        },
    );
    let their_side = Side::new(
        |items| (0..items).map(|_| theirs()).collect::<Vec<T>>(),
        move |messages| {
            for message in messages.drain(..) {
                their_end.seal(frame(black_box(message), msg_type), |sealed| {
                    black_box(sealed);
                });
            }
        },
    );
    in_turns(vec![our_side, their_side])
}

/// From bytes to messages; each side opens what the other has sealed.
fn opening<M: Wire, F: EncodableFrame>(
    ours: M,
    their_frame: impl Fn() -> F,
    read: impl Fn(u8, &mut [u8]) -> u32,
) -> Figures {
    let ((mut their_sealer, our_opener), (mut their_opener, our_sealer)) = (connection(), connection());
    let (mut opener, mut sealer) = (our_opener.open, our_sealer.seal);
    let our_side = Side::new(
        move |items| {
            let mut frames = Vec::with_capacity(items);
            for _ in 0..items {
                their_sealer.seal(their_frame(), |sealed| frames.push(sealed.to_vec()));
            }
            frames
        },
        move |frames: &mut Vec<Vec<u8>>| {
            for sealed in &*frames {
                black_box(open(&mut opener, black_box(sealed)));
            }
        },
    );
    let their_side = Side::new(
        move |items| {
            let mut sealed = |_| {
                let mut sealed = Vec::new();
                seal(&mut sealer, &ours, &mut sealed);
                sealed
            };
            (0..items).map(&mut sealed).collect::<Vec<Vec<u8>>>()
        },
        move |frames| {
            for sealed in &*frames {
                their_opener.open(black_box(sealed), |msg_type, payload| {
                    black_box(read(msg_type, payload));
                });
            }
        },
    );
    in_turns(vec![our_side, their_side])
}
