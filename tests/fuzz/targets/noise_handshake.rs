//! A stranger on a V2 connection: the first byte picks what is made up, the next two which bit is changed.
//!
//! Only what was sealed by the other side, unchanged and in its order, may come out; nothing panics.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use stratum::v2::keys::{AuthorityKey, AuthoritySecret, Certificate, StaticKey};
use stratum::v2::noise::{
    ACT1_BYTES, ACT2_BYTES, Authority, Broken, HEADER_BYTES, Initiator, Opener, SEALED_HEADER_BYTES,
    Transport, respond,
};

const NOW: u32 = 1_700_000_000;

struct Server {
    key: StaticKey,
    certificate: Certificate,
    authority: Authority,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let authority = AuthoritySecret::from_bytes([1; 32]).expect("1 is below the curve's order");
    let key = StaticKey::new([2; 32], [3; 32]);
    let certificate = Certificate::sign(&authority, &key.public_x_only(), NOW, NOW);
    Server { key, certificate, authority: Authority::Pinned(authority.public()) }
});

fn answer(act1: &[u8; ACT1_BYTES], ephemeral: [u8; 64]) -> ([u8; ACT2_BYTES], Transport) {
    respond(&SERVER.key, &SERVER.certificate, ephemeral, act1).expect("every act 1 is answered")
}

/// The first `N` bytes, with zeros behind a shorter input, and the rest.
fn cut<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    let (head, rest) = bytes.split_at(bytes.len().min(N));
    let mut array = [0; N];
    array[..head.len()].copy_from_slice(head);
    (array, rest)
}

fn flip(bytes: &mut [u8], bit: usize) {
    let bit = bit % (8 * bytes.len());
    bytes[bit / 8] ^= 1 << (bit % 8);
}

/// What no one sealed does not open, and neither does anything after it.
fn opens_nothing(open: &mut Opener, bytes: &[u8], header_first: bool) {
    let (header, rest) = cut::<SEALED_HEADER_BYTES>(bytes);
    let mut payload = rest.to_vec();
    if header_first || payload.is_empty() {
        assert_eq!(open.header(&header), Err(Broken));
    }
    assert!(payload.is_empty() || open.payload(&mut payload) == Err(Broken));
    assert_eq!(open.header(&header), Err(Broken));
}

fn made_up_act_1(bytes: &[u8]) {
    let (act1, rest) = cut(bytes);
    let (_, mut transport) = answer(&act1, [5; 64]);
    opens_nothing(&mut transport.open, rest, true);
}

fn made_up_act_2(bytes: &[u8]) {
    for authority in [SERVER.authority, Authority::Unauthenticated] {
        let (initiator, _) = Initiator::new([4; 64], authority);
        assert!(initiator.finish(&cut(bytes).0, NOW).is_err());
    }
}

fn changed_handshake(bytes: &[u8], bit: usize) {
    let (ours, rest) = cut(bytes);
    let (theirs, _) = cut(rest);
    let (initiator, mut act1) = Initiator::new(ours, SERVER.authority);
    let bits = 8 * (ACT1_BYTES + ACT2_BYTES);
    // One value beyond the last bit: nothing is changed.
    let bit = bit % (bits + 1);
    if bit < 8 * ACT1_BYTES {
        flip(&mut act1, bit);
    }
    let (mut act2, _) = answer(&act1, theirs);
    if (8 * ACT1_BYTES..bits).contains(&bit) {
        flip(&mut act2, bit - 8 * ACT1_BYTES);
    }
    assert_eq!(initiator.finish(&act2, NOW).is_ok(), bit == bits);
}

/// One frame that arrives, one that is changed on its way, and then bytes of nobody.
fn frames(bytes: &[u8], bit: usize, header_first: bool) {
    let (initiator, act1) = Initiator::new([4; 64], SERVER.authority);
    let (act2, mut theirs) = answer(&act1, [5; 64]);
    let mut ours = initiator.finish(&act2, NOW).expect("an unchanged handshake");
    let (header, payload) = cut::<HEADER_BYTES>(bytes);
    let mut sealed = Vec::new();
    ours.seal.seal(&header, payload, &mut sealed).expect("the first frame");
    let (sealed_header, sealed_payload) = sealed.split_first_chunk_mut().expect("a header");
    assert_eq!(theirs.open.header(sealed_header), Ok(header));
    assert_eq!(theirs.open.payload(sealed_payload).as_deref(), Ok(payload));

    let mut changed = Vec::new();
    ours.seal.seal(&header, payload, &mut changed).expect("the second frame");
    flip(&mut changed, bit);
    let (sealed_header, sealed_payload) = changed.split_first_chunk_mut().expect("a header");
    let opened = theirs.open.header(sealed_header).and_then(|_| theirs.open.payload(sealed_payload));
    assert_eq!(opened, Err(Broken));
    opens_nothing(&mut theirs.open, bytes, header_first);
}

fn key_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(key) = text.parse::<AuthorityKey>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(secret) = text.parse::<AuthoritySecret>() {
        assert_eq!(secret.to_base58(), text);
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&[choice, low, high], bytes)) = input.split_first_chunk() else { return };
    let bit = usize::from(u16::from_le_bytes([low, high]));
    match choice % 6 {
        0 => made_up_act_1(bytes),
        1 => made_up_act_2(bytes),
        2 => changed_handshake(bytes, bit),
        3 => key_text(bytes),
        side => frames(bytes, bit, side == 4),
    }
});
