//! Both sides of the handshake with `noise_sv2`, and frames in both directions after it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use noise_sv2::NoiseEngine;
use rand::RngCore;
use stratum::v2::keys::{AuthorityKey, AuthoritySecret, Certificate, StaticKey};
use stratum::v2::noise::{
    self, Authority, BLOCK_BYTES_MAX, HandshakeError, Initiator, SEALED_HEADER_BYTES, Transport,
};

const HANDSHAKES: usize = 50;
/// Payloads of a share, of nothing, and around the border between one block and two.
const PAYLOADS: [usize; 7] = [24, 0, 1, 57, BLOCK_BYTES_MAX, BLOCK_BYTES_MAX + 1, 2 * BLOCK_BYTES_MAX + 1];
const SEALED_BLOCK_BYTES: usize = BLOCK_BYTES_MAX + 16;

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right");
    u32::try_from(since.as_secs()).expect("before 2106")
}

fn authority() -> ([u8; 32], AuthoritySecret) {
    let secret = random();
    (secret, AuthoritySecret::from_bytes(secret).expect("random bytes are a scalar"))
}

/// The 32 bytes behind the prefix, as their functions take them.
fn raw(key: AuthorityKey) -> [u8; 32] {
    let bytes = bitcoin::base58::decode_check(&key.to_string()).expect("our own text");
    bytes[2..].try_into().expect("a prefix of two bytes and a key of 32")
}

fn payload(length: usize) -> Vec<u8> {
    let mut payload = vec![0; length];
    rand::rng().fill_bytes(&mut payload);
    payload
}

fn from_us_to_them(ours: &mut Transport, theirs: &mut NoiseEngine, lengths: &[usize]) {
    for &length in lengths {
        let (header, payload) = (random(), payload(length));
        let mut sealed = Vec::new();
        ours.seal.seal(&header, &payload, &mut sealed).expect("a fresh key");
        let (sealed_header, sealed_payload) = sealed.split_at(SEALED_HEADER_BYTES);
        let mut opened = sealed_header.to_vec();
        theirs.decrypt(&mut opened).expect("our header opens");
        assert_eq!(opened, header);
        let mut opened = Vec::new();
        for block in sealed_payload.chunks(SEALED_BLOCK_BYTES) {
            let mut block = block.to_vec();
            theirs.decrypt(&mut block).expect("our block opens");
            opened.extend(block);
        }
        assert!(opened == payload, "{length} bytes from us to them");
    }
}

fn from_them_to_us(theirs: &mut NoiseEngine, ours: &mut Transport, lengths: &[usize]) {
    for &length in lengths {
        let (header, payload) = (random::<6>(), payload(length));
        let mut sealed_header = header.to_vec();
        theirs.encrypt(&mut sealed_header).expect("a fresh key");
        let mut sealed = Vec::new();
        for block in payload.chunks(BLOCK_BYTES_MAX) {
            let mut block = block.to_vec();
            theirs.encrypt(&mut block).expect("a fresh key");
            sealed.extend(block);
        }
        assert_eq!(sealed.len(), noise::sealed_payload_bytes(length));
        let sealed_header = sealed_header.try_into().expect("6 bytes and a tag");
        assert_eq!(ours.open.header(&sealed_header), Ok(header));
        assert!(
            ours.open.payload(&mut sealed) == Ok(&mut payload.clone()[..]),
            "{length} bytes from them to us"
        );
    }
}

fn in_turns(ours: &mut Transport, theirs: &mut NoiseEngine, round: usize) {
    // The long ones take their cipher far longer than the handshake.
    let lengths = if round < 3 { &PAYLOADS[..] } else { &PAYLOADS[..4] };
    for _ in 0..2 {
        from_us_to_them(ours, theirs, lengths);
        from_them_to_us(theirs, ours, lengths);
    }
}

#[test]
fn ns_05_ns_06_ns_09_ns_11_their_initiator_and_our_responder() {
    for round in 0..HANDSHAKES {
        let (_, authority) = authority();
        let static_key = StaticKey::new(random(), random());
        let certificate = Certificate::sign(&authority, &static_key.public_x_only(), now(), now() + 60);
        let mut initiator = match round % 5 {
            0 => noise_sv2::Initiator::without_pk().expect("no key to be wrong"),
            _ => noise_sv2::Initiator::from_raw_k(raw(authority.public())).expect("our key is one of theirs"),
        };
        let act1 = initiator.step_0().expect("act 1");
        let (act2, mut ours) =
            noise::respond(&static_key, &certificate, random(), &act1).expect("we answer their act 1");
        let mut theirs = initiator.step_2(act2).expect("they take our act 2");
        in_turns(&mut ours, &mut theirs, round);
    }
}

#[test]
fn ns_05_ns_06_ns_09_ns_11_our_initiator_and_their_responder() {
    for round in 0..HANDSHAKES {
        let (secret, authority) = authority();
        let public = authority.public();
        let validity = Duration::from_secs(60);
        let mut responder = noise_sv2::Responder::from_authority_kp(&raw(public), &secret, validity)
            .expect("our pair is one of theirs");
        let pinned = if round % 5 == 0 { Authority::Unauthenticated } else { Authority::Pinned(public) };
        let (initiator, act1) = Initiator::new(random(), pinned);
        let (act2, mut theirs) = responder.step_1(act1).expect("they answer our act 1");
        let mut ours = initiator.finish(&act2, now()).expect("we take their act 2");
        in_turns(&mut ours, &mut theirs, round);
    }
}

#[test]
fn ns_09_both_refuse_a_server_of_another_authority() {
    let ((secret, theirs), (_, other)) = (authority(), authority());
    let static_key = StaticKey::new(random(), random());
    let certificate = Certificate::sign(&theirs, &static_key.public_x_only(), now(), now() + 60);
    let mut initiator = noise_sv2::Initiator::from_raw_k(raw(other.public())).expect("a key");
    let act1 = initiator.step_0().expect("act 1");
    let (act2, _) = noise::respond(&static_key, &certificate, random(), &act1).expect("act 2");
    assert!(matches!(initiator.step_2(act2), Err(noise_sv2::Error::InvalidCertificate(_))));

    let validity = Duration::from_secs(60);
    let mut responder =
        noise_sv2::Responder::from_authority_kp(&raw(theirs.public()), &secret, validity).expect("a pair");
    let (initiator, act1) = Initiator::new(random(), Authority::Pinned(other.public()));
    let (act2, _) = responder.step_1(act1).expect("act 2");
    assert!(matches!(initiator.finish(&act2, now()), Err(HandshakeError::Certificate(_))));
}

#[test]
fn ns_07_both_refuse_changed_acts_and_frames() {
    let (_, authority) = authority();
    let static_key = StaticKey::new(random(), random());
    let certificate = Certificate::sign(&authority, &static_key.public_x_only(), now(), now() + 60);
    for at in [0, 63, 64, 143, 144, 233] {
        let mut initiator = noise_sv2::Initiator::without_pk().expect("no key to be wrong");
        let act1 = initiator.step_0().expect("act 1");
        let (mut act2, _) = noise::respond(&static_key, &certificate, random(), &act1).expect("act 2");
        act2[at] ^= 0x10;
        assert!(initiator.step_2(act2).is_err(), "byte {at}");
    }
    let mut initiator = noise_sv2::Initiator::without_pk().expect("no key to be wrong");
    let act1 = initiator.step_0().expect("act 1");
    let (act2, mut ours) = noise::respond(&static_key, &certificate, random(), &act1).expect("act 2");
    let mut theirs = initiator.step_2(act2).expect("they take our act 2");
    let mut header = vec![0; 6];
    theirs.encrypt(&mut header).expect("a fresh key");
    header[3] ^= 1;
    assert!(ours.open.header(&header.try_into().expect("6 bytes and a tag")).is_err());
}
