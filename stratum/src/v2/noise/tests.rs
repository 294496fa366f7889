use super::*;
use bitcoin::hashes::{Hash as _, HashEngine as _, Hmac, HmacEngine, sha256};
use bitcoin::secp256k1::{Secp256k1, SecretKey, ellswift::ElligatorSwiftParty};
use noise_protocol::DH;
use proptest::prelude::*;

use crate::v2::keys::AuthoritySecret;

const NOW: u32 = 1_700_000_000;
const NAME: &[u8] = b"Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256";
/// SHA-256 of the name, and of that.
const NAME_HASH: &str = "2eb47881208e9eee1f669f67c66ee70ea9ea88090d503fe830dc4bc83e29bf10";
const NAME_HASH_TWICE: &str = "922fa32e4f487c0d59caa3bed7899ce3d98db7e13dbd3b7cf2d23dd433dc6104";

struct Server {
    key: StaticKey,
    certificate: Certificate,
    authority: AuthorityKey,
}

fn server() -> Server {
    let authority = AuthoritySecret::from_bytes([1; 32]).unwrap();
    let key = StaticKey::new([2; 32], [3; 32]);
    let certificate = Certificate::sign(&authority, &key.public_x_only(), NOW, NOW + 60);
    Server { key, certificate, authority: authority.public() }
}

impl Server {
    fn respond(&self, act1: &[u8; ACT1_BYTES]) -> ([u8; ACT2_BYTES], Transport) {
        respond(&self.key, &self.certificate, [5; 64], act1).unwrap()
    }

    fn initiator(&self) -> (Initiator, [u8; ACT1_BYTES]) {
        Initiator::new([4; 64], Authority::Pinned(self.authority))
    }
}

/// Whether what `from` seals comes out of `to`.
fn reaches(from: &mut Transport, to: &mut Transport) -> bool {
    let (header, payload) = ([1, 2, 3, 4, 5, 6], [7; 24]);
    let mut out = Vec::new();
    from.seal.seal(&header, &payload, &mut out).unwrap();
    let (sealed, rest) = out.split_first_chunk_mut().unwrap();
    to.open.header(sealed) == Ok(header) && to.open.payload(rest).is_ok_and(|plain| *plain == payload)
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    sha256::Hash::hash(&parts.concat()).to_byte_array()
}

fn hkdf(ck: &[u8], input: &[u8]) -> ([u8; 32], [u8; 32]) {
    let hmac = |key: &[u8], data: &[u8]| {
        let mut engine = HmacEngine::<sha256::Hash>::new(key);
        engine.input(data);
        Hmac::from_engine(engine).to_byte_array()
    };
    let temporary = hmac(ck, input);
    let first = hmac(&temporary, &[1]);
    (first, hmac(&temporary, &[&first[..], &[2]].concat()))
}

/// Opens what was sealed with `h` as additional data and nonce 0.
fn unseal(key: &[u8; 32], h: &[u8; 32], sealed: &[u8]) -> Vec<u8> {
    let key = keys(*key);
    let mut space = sealed.to_vec();
    ChaChaPoly::open(&key, 0, h, &mut space, 0).unwrap().to_vec()
}

fn keys(bytes: [u8; 32]) -> primitives::CipherKey {
    primitives::CipherKey::new(bytes)
}

#[test]
fn ns_02_protocol_name_hash() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!((NAME.len(), hex(&sha256(&[NAME]))), (45, NAME_HASH.to_owned()));
    let state = handshake::<Initiating>(true, None, [4; 64]);
    assert_eq!(hex(state.get_hash()), NAME_HASH_TWICE);
}

#[test]
fn ns_03_act_1_is_an_encoding_of_the_ephemeral_key() {
    let (initiator, act1) = server().initiator();
    assert_eq!(act1.len(), 64);
    let point = PublicKey::from_ellswift(ElligatorSwift::from_array(act1)).x_only_public_key().0;
    let secret = SecretKey::from_slice(&[4; 32]).unwrap();
    assert_eq!(point, secret.x_only_public_key(&Secp256k1::new()).0);
    let empty_prologue = sha256(&[&sha256(&[NAME])]);
    assert_eq!(initiator.state.get_hash(), sha256(&[&sha256(&[&empty_prologue, &act1])]));
    let (_, other) =
        Initiator::new([[4; 32], [6; 32]].concat().try_into().unwrap(), Authority::Unauthenticated);
    assert_ne!(act1, other, "the second half of the random bytes picks the encoding");
}

#[test]
fn ns_04_act_2_is_234_bytes() {
    let server = server();
    assert_eq!((ACT1_BYTES, ACT2_BYTES), (64, 234));
    assert_eq!(server.respond(&server.initiator().1).0.len(), 234);
}

#[test]
fn ns_05_ns_06_the_steps_of_the_handshake_one_by_one() {
    let server = server();
    let (_, act1) = server.initiator();
    let (act2, mut responder) = server.respond(&act1);
    // The initiator again, without the crate: mixing, keys and order as spec 04 §4.5 has them.
    let secret = SecretKey::from_slice(&[4; 32]).unwrap();
    let shared = |theirs: [u8; 64]| {
        let (ours, theirs) = (ElligatorSwift::from_array(act1), ElligatorSwift::from_array(theirs));
        ElligatorSwift::shared_secret(ours, theirs, secret, ElligatorSwiftParty::A, None).to_secret_bytes()
    };
    let ck = sha256(&[NAME]);
    let h = sha256(&[&sha256(&[&sha256(&[&ck]), &act1])]);
    let (re, rest) = act2.split_first_chunk::<64>().unwrap();
    let h = sha256(&[&h, re]);
    let (ck, k) = hkdf(&ck, &shared(*re));
    let (sealed_s, sealed_certificate) = rest.split_first_chunk::<80>().unwrap();
    let s: [u8; 64] = unseal(&k, &h, sealed_s).try_into().unwrap();
    let h = sha256(&[&h, sealed_s]);
    let (ck, k) = hkdf(&ck, &shared(s));
    assert_eq!(unseal(&k, &h, sealed_certificate), server.certificate.to_bytes());
    let (c1, c2) = hkdf(&ck, &[]);
    let mut initiator = Transport { seal: Sealer::new(keys(c1), 0), open: Opener::new(keys(c2), 0) };
    assert!(reaches(&mut initiator, &mut responder) && reaches(&mut responder, &mut initiator));
}

#[test]
fn ns_05_the_shared_secret_of_bip_324() {
    // From the vectors of BIP 324, packet_encoding_test_vectors.csv, first row.
    let row = (
        "61062ea5071d800bbfd59e2e8b53d47d194b095ae5a4df04936b49772ef0d4d7",
        "ec0adff257bbfe500c188c80b4fdd640f6b45a482bbc15fc7cef5931deff0aa1\
         86f6eb9bba7b85dc4dcc28b28722de1e3d9108b985e2967045668f66098e475b",
        "a4a94dfce69b4a2a0a099313d10f9f7e7d649d60501c9e1d274c300e0d89aafa\
         ffffffffffffffffffffffffffffffffffffffffffffffffffffffff8faf88d5",
        "c6992a117f5edbea70c3f511d32d26b9798be4b81a62eaee1a5acaa8459a3592",
    );
    let bytes = |hex: &str| bitcoin::hex::FromHex::from_hex(hex).unwrap();
    let (secret, ours, theirs, shared): (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>) =
        (bytes(row.0), bytes(row.1), bytes(row.2), bytes(row.3));
    let mut key = [0; 128];
    key[..32].copy_from_slice(&secret);
    key[32..96].copy_from_slice(&ours);
    let key = crate::v2::keys::Secret::new(key);
    let theirs = theirs.try_into().unwrap();
    assert_eq!(EllSwiftDh::<Initiating>::dh(&key, &theirs).unwrap().bytes()[..], shared);
    assert_ne!(EllSwiftDh::<Responding>::dh(&key, &theirs).unwrap().bytes()[..], shared);
}

#[test]
fn ns_06_both_sides_hold_the_same_keys() {
    let server = server();
    let (initiator, act1) = server.initiator();
    let (act2, mut theirs) = server.respond(&act1);
    let mut ours = initiator.finish(&act2, NOW).unwrap();
    for _ in 0..3 {
        assert!(reaches(&mut ours, &mut theirs) && reaches(&mut theirs, &mut ours));
    }
}

#[test]
fn ns_07_one_changed_bit_of_act_1_leaves_the_initiator_without_keys() {
    let server = server();
    for bit in (0..8 * ACT1_BYTES).step_by(5) {
        let (initiator, mut act1) = server.initiator();
        act1[bit / 8] ^= 1 << (bit % 8);
        let (act2, _) = server.respond(&act1);
        assert_eq!(initiator.finish(&act2, NOW).unwrap_err(), HandshakeError::Undecryptable, "bit {bit}");
    }
}

#[test]
fn ns_07_one_changed_bit_of_act_2_leaves_the_initiator_without_keys() {
    let server = server();
    for bit in (0..8 * ACT2_BYTES).step_by(5) {
        let (initiator, act1) = server.initiator();
        let (mut act2, _) = server.respond(&act1);
        act2[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(initiator.finish(&act2, NOW).unwrap_err(), HandshakeError::Undecryptable, "bit {bit}");
    }
}

#[test]
fn ns_09_a_server_without_a_right_certificate_gives_no_keys() {
    let server = server();
    let finish = |certificate: &Certificate, authority, now| {
        let (initiator, act1) = Initiator::new([4; 64], authority);
        let (act2, _) = respond(&server.key, certificate, [5; 64], &act1).unwrap();
        initiator.finish(&act2, now).map(|_| ())
    };
    let pinned = Authority::Pinned(server.authority);
    assert_eq!(finish(&server.certificate, pinned, NOW), Ok(()));
    let late = CertificateError::Expired { now: NOW + 71, not_valid_after: NOW + 60 };
    assert_eq!(finish(&server.certificate, pinned, NOW + 71), Err(late.into()));
    let stranger = AuthoritySecret::from_bytes([9; 32]).unwrap();
    let foreign = Certificate::sign(&stranger, &server.key.public_x_only(), NOW, NOW + 60);
    let shown_by = server.key.public_x_only().serialize();
    let unsigned = CertificateError::Signature { expected: server.authority, server: shown_by };
    assert_eq!(finish(&foreign, pinned, NOW), Err(unsigned.into()));
}

#[test]
fn ns_09_ns_16_an_unknown_version_is_refused_also_without_an_authority() {
    let server = server();
    let (initiator, act1) = Initiator::new([4; 64], Authority::Unauthenticated);
    // A responder of a later version, written with the crate alone.
    let ours = server.key.key_pair().clone();
    let mut state = handshake::<Responding>(false, Some(ours), [5; 64]);
    state.read_message(&act1, &mut []).unwrap();
    let mut certificate = server.certificate.to_bytes();
    certificate[0] = 1;
    let mut act2 = [0; ACT2_BYTES];
    state.write_message(&certificate, &mut act2).unwrap();
    assert_eq!(initiator.finish(&act2, NOW).unwrap_err(), CertificateError::Version(1).into());
}

#[test]
fn ns_16_without_an_authority_any_server_will_do() {
    let server = server();
    let (initiator, act1) = Initiator::new([4; 64], Authority::Unauthenticated);
    assert!(format!("{initiator:?}").contains("Unauthenticated"));
    let (act2, mut theirs) = server.respond(&act1);
    let mut ours = initiator.finish(&act2, NOW + 1_000_000).unwrap();
    assert!(reaches(&mut ours, &mut theirs));
}

#[test]
fn ns_17_random_bytes_that_are_no_scalar_still_make_a_handshake() {
    let server = server();
    for bytes in [[0; 64], [0xff; 64]] {
        let (initiator, act1) = Initiator::new(bytes, Authority::Pinned(server.authority));
        let (act2, _) = respond(&server.key, &server.certificate, bytes, &act1).unwrap();
        assert!(initiator.finish(&act2, NOW).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ns_03_every_act_1_is_answered_and_its_sender_does_not_get_through(act1: [u8; ACT1_BYTES]) {
        let (_, mut theirs) = server().respond(&act1);
        prop_assert_eq!(theirs.open.header(&[0; SEALED_HEADER_BYTES]), Err(Broken));
    }

    #[test]
    fn ns_07_no_made_up_act_2_is_taken(bytes in proptest::collection::vec(any::<u8>(), ACT2_BYTES)) {
        let (initiator, _) = Initiator::new([4; 64], Authority::Unauthenticated);
        let act2 = bytes.try_into().unwrap();
        prop_assert_eq!(initiator.finish(&act2, NOW).unwrap_err(), HandshakeError::Undecryptable);
    }

    #[test]
    fn ns_06_any_random_bytes_make_a_handshake(
        ours in proptest::collection::vec(any::<u8>(), 64),
        theirs in proptest::collection::vec(any::<u8>(), 64),
        secret: [u8; 32],
        aux: [u8; 32],
    ) {
        let authority = AuthoritySecret::from_bytes([1; 32]).unwrap();
        let key = StaticKey::new(secret, aux);
        let certificate = Certificate::sign(&authority, &key.public_x_only(), NOW, NOW + 60);
        let (initiator, act1) =
            Initiator::new(ours.try_into().unwrap(), Authority::Pinned(authority.public()));
        let (act2, mut theirs) = respond(&key, &certificate, theirs.try_into().unwrap(), &act1).unwrap();
        let mut ours = initiator.finish(&act2, NOW).unwrap();
        prop_assert!(reaches(&mut ours, &mut theirs) && reaches(&mut theirs, &mut ours));
    }
}

#[test]
fn n17_whatever_holds_a_key_wipes_it_when_it_goes() {
    // None of them has anything else to drop.
    assert!(std::mem::needs_drop::<AuthoritySecret>());
    assert!(std::mem::needs_drop::<StaticKey>());
    assert!(std::mem::needs_drop::<Initiator>());
    assert!(std::mem::needs_drop::<Sealer>());
    assert!(std::mem::needs_drop::<Opener>());
}
