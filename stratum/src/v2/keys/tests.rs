use super::*;
use proptest::prelude::*;

const KNOWN_TEXT: &str = "9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh";
const KNOWN_HEX: &str = "76637000979c1c11af0c300bcd8c7fe48610fce9b9c11e3daee35ae0b08a7455";
const FROM: u32 = 1_700_000_000;
const UNTIL: u32 = 1_700_086_400;

fn authority(byte: u8) -> AuthoritySecret {
    AuthoritySecret::from_bytes([byte; 32]).unwrap()
}

fn static_key(byte: u8) -> StaticKey {
    StaticKey::new([byte; 32], [0; 32])
}

/// A certificate of authority 1 for static key 2.
fn certificate() -> Certificate {
    Certificate::sign(&authority(1), &static_key(2).public_x_only(), FROM, UNTIL)
}

fn verify(certificate: &Certificate, now: u32) -> Result<(), CertificateError> {
    certificate.verify(&authority(1).public(), &static_key(2).public_x_only(), now)
}

#[test]
fn ns_14_the_known_key_reads_and_writes() {
    let key: AuthorityKey = KNOWN_TEXT.parse().unwrap();
    assert_eq!(format!("{:x}", key.point()), KNOWN_HEX);
    assert_eq!(key.to_string(), KNOWN_TEXT);
    assert_eq!(format!("{key:?}"), format!("AuthorityKey({KNOWN_TEXT})"));
}

#[test]
fn ns_14_what_is_no_authority_key_is_an_error_that_says_why() {
    let check = |bytes: &[u8]| base58::encode_check(bytes);
    let key = KNOWN_TEXT.parse::<AuthorityKey>().unwrap().point().serialize();
    let with = |prefix: &[u8]| [prefix, &key[..]].concat();
    // 5 is the x of no point.
    let mut no_point = vec![1, 0];
    no_point.extend([0; 31]);
    no_point.push(5);
    let rows = [
        (KNOWN_TEXT.replacen("9b", "9c", 1), KeyError::Checksum),
        (KNOWN_TEXT[..50].to_owned(), KeyError::Checksum),
        (format!("{KNOWN_TEXT} "), KeyError::NoBase58),
        (KNOWN_TEXT.replacen("9b", "9l", 1), KeyError::NoBase58),
        ("ключ".to_owned(), KeyError::NoBase58),
        (String::new(), KeyError::Length { found: 0, expected: 34 }),
        (check(&key), KeyError::Length { found: 32, expected: 34 }),
        (check(&with(&[1])), KeyError::Length { found: 33, expected: 34 }),
        (check(&with(&[1, 0, 0])), KeyError::Length { found: 35, expected: 34 }),
        (check(&with(&[0, 1])), KeyError::Prefix([0, 1])),
        (check(&with(&[2, 0])), KeyError::Prefix([2, 0])),
        (check(&no_point), KeyError::NoPoint),
    ];
    for (text, error) in rows {
        assert_eq!(text.parse::<AuthorityKey>(), Err(error), "{text}");
    }
    let sentence = KeyError::Prefix([0, 0x1f]).to_string();
    assert_eq!(sentence, "the key begins with 00 1f, an authority key with 01 00");
}

#[test]
fn ns_14_an_authority_secret_reads_back_and_is_never_shown() {
    let secret = authority(7);
    let text = secret.to_base58();
    assert_eq!(text.parse::<AuthoritySecret>().unwrap().public(), secret.public());
    assert_eq!(format!("{secret:?}"), "AuthoritySecret(<hidden>)");
    let public = secret.public().to_string().parse::<AuthoritySecret>().unwrap_err();
    assert_eq!(public, KeyError::Length { found: 34, expected: 32 });
    assert_eq!(AuthoritySecret::from_bytes([0; 32]).unwrap_err(), KeyError::NoScalar);
    assert_eq!(AuthoritySecret::from_bytes([0xff; 32]).unwrap_err(), KeyError::NoScalar);
}

#[test]
fn ns_17_a_static_key_outlives_a_restart_with_other_random_bytes() {
    let key = StaticKey::new([3; 32], [4; 32]);
    let again = StaticKey::new(key.secret_bytes(), [5; 32]);
    assert_eq!(again.public_x_only(), key.public_x_only());
    assert_ne!(again.key_pair().0.bytes(), key.key_pair().0.bytes(), "another encoding of the same key");
    assert!(!format!("{key:?}").contains("0303"));
}

#[test]
fn ns_17_a_seed_that_is_no_scalar_gives_a_key_all_the_same() {
    for seed in [[0; 32], [0xff; 32]] {
        let key = StaticKey::new(seed, [0; 32]);
        assert_ne!(key.secret_bytes(), seed);
        assert_eq!(StaticKey::new(seed, [0; 32]).public_x_only(), key.public_x_only());
        assert_eq!(StaticKey::new(key.secret_bytes(), [0; 32]).public_x_only(), key.public_x_only());
    }
}

#[test]
fn ns_08_a_certificate_is_74_bytes_little_endian() {
    let bytes = certificate().to_bytes();
    assert_eq!(bytes[..2], [0, 0]);
    assert_eq!(bytes[2..6], FROM.to_le_bytes());
    assert_eq!(bytes[6..10], UNTIL.to_le_bytes());
    assert_eq!(Certificate::from_bytes(&bytes), Ok(certificate()), "signed alike each time");
}

#[test]
fn ns_08_the_signature_is_over_the_terms_and_the_static_key() {
    let certificate = certificate();
    let key = static_key(2).public_x_only();
    let message = sha256::Hash::hash(&[&certificate.to_bytes()[..10], &key.serialize()].concat());
    let message = bitcoin::secp256k1::Message::from_digest(message.to_byte_array());
    let signature =
        bitcoin::secp256k1::schnorr::Signature::from_slice(&certificate.to_bytes()[10..]).unwrap();
    assert!(Secp256k1::new().verify_schnorr(&signature, &message, authority(1).public().point()).is_ok());
}

#[test]
fn ns_09_n17_an_unknown_version_is_refused() {
    for version in [1_u16, 0x0100, u16::MAX] {
        let mut bytes = certificate().to_bytes();
        bytes[..2].copy_from_slice(&version.to_le_bytes());
        assert_eq!(Certificate::from_bytes(&bytes), Err(CertificateError::Version(version)));
    }
}

#[test]
fn ns_09_another_authority_or_another_server_is_refused_by_name() {
    let (signed, now) = (certificate(), FROM);
    let (ours, other) = (authority(1).public(), authority(3).public());
    let (key, other_key) = (static_key(2).public_x_only(), static_key(4).public_x_only());
    assert_eq!(signed.verify(&ours, &key, now), Ok(()));
    let error = signed.verify(&other, &key, now).unwrap_err();
    let refused =
        |expected, key: XOnlyPublicKey| CertificateError::Signature { expected, server: key.serialize() };
    assert_eq!(error, refused(other, key));
    let text = error.to_string();
    assert!(text.contains(&other.to_string()) && text.contains(&key.to_string()), "{text}");
    assert_eq!(signed.verify(&ours, &other_key, now), Err(refused(ours, other_key)));
}

#[test]
fn ns_09_one_changed_bit_is_refused() {
    for bit in 0..8 * CERTIFICATE_BYTES {
        let mut bytes = certificate().to_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let verified = Certificate::from_bytes(&bytes).and_then(|changed| verify(&changed, FROM));
        assert!(verified.is_err(), "bit {bit}");
    }
}

#[test]
fn ns_10_ten_seconds_of_leeway_at_either_end_and_both_clocks_in_the_error() {
    let certificate = certificate();
    let early = CertificateError::NotYetValid { now: FROM - 11, valid_from: FROM };
    let late = CertificateError::Expired { now: UNTIL + 11, not_valid_after: UNTIL };
    assert_eq!(verify(&certificate, FROM - 11), Err(early));
    assert_eq!(verify(&certificate, FROM - 10), Ok(()));
    assert_eq!(verify(&certificate, UNTIL + 10), Ok(()));
    assert_eq!(verify(&certificate, UNTIL + 11), Err(late));
    assert_eq!(
        early.to_string(),
        "the server's certificate is valid from 1700000000 on, and our clock says 1699999989 (Unix time)"
    );
    assert_eq!(
        late.to_string(),
        "the server's certificate was valid until 1700086400, and our clock says 1700086411 (Unix time)"
    );
}

#[test]
fn ns_10_the_ends_of_time_do_not_wrap() {
    let sign = |from, until| Certificate::sign(&authority(1), &static_key(2).public_x_only(), from, until);
    for now in [0, 5, FROM, u32::MAX - 5, u32::MAX] {
        assert_eq!(verify(&sign(0, u32::MAX), now), Ok(()));
    }
    assert!(verify(&sign(u32::MAX, u32::MAX), 9).is_err());
    assert!(verify(&sign(0, 0), u32::MAX).is_err());
    assert!(verify(&sign(UNTIL, FROM), FROM + 1000).is_err(), "ends before it begins");
}

proptest! {
    #[test]
    fn ns_14_every_authority_key_reads_back(seed: [u8; 32]) {
        let key = AuthorityKey::from(StaticKey::new(seed, [0; 32]).public_x_only());
        prop_assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn ns_14_no_text_panics(text: String) {
        prop_assert!(text.parse::<AuthorityKey>().is_err());
        prop_assert!(text.parse::<AuthoritySecret>().is_err());
    }

    #[test]
    fn ns_08_any_bytes_of_version_0_read_back(mut bytes: [u8; CERTIFICATE_BYTES]) {
        bytes[..2].copy_from_slice(&[0, 0]);
        let certificate = Certificate::from_bytes(&bytes).unwrap();
        prop_assert_eq!(certificate.to_bytes(), bytes);
        prop_assert!(verify(&certificate, certificate.valid_from).is_err());
    }
}
