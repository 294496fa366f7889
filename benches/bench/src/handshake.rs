//! `handshake`: the CPU time of a V2 connection's handshake, on either side.
//!
//! A responder makes its ephemeral key, agrees on two secrets and sends its certificate; `noise_sv2` also draws a static
//! key and signs a certificate for each connection, as its programs let it. An initiator makes its ephemeral key, agrees
//! on two secrets and checks the certificate of a pinned authority. Random bytes are drawn inside.

use crate::measure::{Side, in_turns, thread_cpu};
use crate::report::{Report, Row, figure, times};
use anyhow::ensure;
use noise_sv2::NoiseEngine;
use rand::RngCore;
use std::hint::black_box;
use std::time::{Duration, SystemTime};
use stratum::v2::keys::{AuthorityKey, AuthoritySecret, Certificate, StaticKey};
use stratum::v2::noise::{self, ACT1_BYTES, ACT2_BYTES, Authority, HEADER_BYTES, Initiator, Transport};

/// The benchmark's name.
pub const NAME: &str = "handshake";
const PEER: &str = "noise_sv2 2.0.0";
const UNIT: &str = "us per handshake";
const AUTHORITY: [u8; 32] = [1; 32];

/// A server of ours, whose keys and certificate are there before anybody connects.
struct Server {
    key: StaticKey,
    certificate: Certificate,
    authority: AuthorityKey,
}

impl Server {
    fn new() -> Self {
        let secret = AuthoritySecret::from_bytes(AUTHORITY).expect("1 is a scalar");
        let key = StaticKey::new([2; 32], [3; 32]);
        let certificate = Certificate::sign(&secret, &key.public_x_only(), 0, u32::MAX);
        Self { key, certificate, authority: secret.public() }
    }

    fn respond(&self, act1: &[u8; ACT1_BYTES]) -> ([u8; ACT2_BYTES], Transport) {
        noise::respond(&self.key, &self.certificate, random(), act1).expect("every act 1 is answered")
    }

    fn initiate(&self) -> (Initiator, [u8; ACT1_BYTES]) {
        Initiator::new(random(), Authority::Pinned(self.authority))
    }

    /// The authority's key as their functions take it.
    fn raw_authority(&self) -> [u8; 32] {
        let bytes = bitcoin::base58::decode_check(&self.authority.to_string()).expect("our own text");
        bytes[2..].try_into().expect("a prefix of two bytes and a key of 32")
    }

    fn their_response(&self, act1: [u8; ACT1_BYTES]) -> ([u8; ACT2_BYTES], NoiseEngine) {
        let validity = Duration::from_secs(3_600);
        let mut responder =
            noise_sv2::Responder::from_authority_kp(&self.raw_authority(), &AUTHORITY, validity)
                .expect("our pair is one of theirs");
        responder.step_1(act1).expect("they answer every act 1")
    }

    fn their_initiator(&self) -> (Box<noise_sv2::Initiator>, [u8; ACT1_BYTES]) {
        let mut initiator = noise_sv2::Initiator::from_raw_k(self.raw_authority()).expect("a key");
        let act1 = initiator.step_0().expect("act 1");
        (initiator, act1)
    }
}

fn random() -> [u8; 64] {
    let mut bytes = [0; 64];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

fn now() -> u32 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

/// Measures both sides.
///
/// # Errors
/// One implementation does not shake hands with the other.
pub fn run() -> anyhow::Result<Report> {
    let server = Server::new();
    check(&server)?;
    let responders = in_turns(vec![
        Side::new(
            |items| (0..items).map(|_| server.initiate().1).collect::<Vec<_>>(),
            |acts| acts.iter().for_each(|act1| drop(black_box(server.respond(black_box(act1))))),
        ),
        Side::new(
            |items| (0..items).map(|_| server.initiate().1).collect::<Vec<_>>(),
            |acts| acts.iter().for_each(|act1| drop(black_box(server.their_response(*black_box(act1))))),
        ),
    ]);
    let initiators = in_turns(vec![our_initiators(&server), their_initiators(&server)]);
    let us = |ns: f64| ns / 1_000.0;
    let row = |what: &str, figures: &crate::measure::Figures| {
        Row::new(what, UNIT, us(figures.ns(0))).beside(PEER, us(figures.ns(1)), figures.ratio(1)).headline()
    };
    let rows = vec![row("V2 handshake, responder", &responders), row("V2 handshake, initiator", &initiators)];
    let summary = format!(
        "{} us for a responder, {} the reference; {} us for an initiator, {}",
        figure(rows[0].ours),
        times(responders.ratio(1)),
        figure(rows[1].ours),
        times(initiators.ratio(1))
    );
    Ok(Report::new(NAME, rows, summary))
}

/// All four pairs agree on keys: what one seals the other opens.
fn check(server: &Server) -> anyhow::Result<()> {
    let header: [u8; HEADER_BYTES] = [1, 2, 3, 4, 5, 6];
    let sealed = |transport: &mut Transport| {
        let mut sealed = Vec::new();
        transport.seal.seal(&header, &[], &mut sealed).expect("a fresh key");
        sealed
    };
    let opened = |engine: &mut NoiseEngine, mut sealed: Vec<u8>| {
        let opens = engine.decrypt(&mut sealed).is_ok();
        opens && sealed == header
    };
    let (initiator, act1) = server.initiate();
    let (act2, mut responder) = server.respond(&act1);
    let mut transport = initiator.finish(&act2, now())?;
    let frame = sealed(&mut transport);
    ensure!(responder.open.header(frame[..].try_into()?) == Ok(header), "ours with ours");

    let (initiator, act1) = server.initiate();
    let (act2, mut responder) = server.their_response(act1);
    let frame = sealed(&mut initiator.finish(&act2, now())?);
    ensure!(opened(&mut responder, frame), "our initiator with their responder");

    let (mut initiator, act1) = server.their_initiator();
    let (act2, mut responder) = server.respond(&act1);
    let mut engine = initiator.step_2(act2).map_err(|error| anyhow::anyhow!("their initiator: {error:?}"))?;
    ensure!(opened(&mut engine, sealed(&mut responder)), "their initiator with our responder");
    Ok(())
}

/// Both acts of ours; the responses between them are not counted.
fn our_initiators(server: &Server) -> Side<'_> {
    Side::timing_itself(|items| {
        let before = thread_cpu();
        let initiators: Vec<_> = (0..items).map(|_| server.initiate()).collect();
        let took = thread_cpu() - before;
        let finish = |(initiator, act1)| (initiator, server.respond(&act1).0);
        let waiting: Vec<_> = initiators.into_iter().map(finish).collect();
        let now = now();
        let before = thread_cpu();
        for (initiator, act2) in waiting {
            black_box(initiator.finish(&act2, now).expect("the certificate is good"));
        }
        took + (thread_cpu() - before)
    })
}

/// Both acts of theirs.
fn their_initiators(server: &Server) -> Side<'_> {
    Side::timing_itself(|items| {
        let before = thread_cpu();
        let initiators: Vec<_> = (0..items).map(|_| server.their_initiator()).collect();
        let took = thread_cpu() - before;
        let finish = |(initiator, act1)| (initiator, server.respond(&act1).0);
        let waiting: Vec<_> = initiators.into_iter().map(finish).collect();
        let now = now();
        let before = thread_cpu();
        for (mut initiator, act2) in waiting {
            black_box(initiator.step_2_with_now(act2, now).expect("the certificate is good"));
        }
        took + (thread_cpu() - before)
    })
}
