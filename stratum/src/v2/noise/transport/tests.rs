use super::*;
use proptest::prelude::*;

const HEADER: [u8; HEADER_BYTES] = [0, 0x80, 0x1a, 24, 0, 0];

fn key() -> CipherKey {
    CipherKey::new([7; 32])
}

/// Both ends of one direction, whose next block has nonce `next`.
fn ends(next: u64) -> (Sealer, Opener) {
    (Sealer::new(key(), next), Opener::new(key(), next))
}

fn sealed(sealer: &mut Sealer, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    sealer.seal(&HEADER, payload, &mut out).unwrap();
    out
}

/// Header and payload of a sealed frame.
fn opened(opener: &mut Opener, frame: &[u8]) -> Result<([u8; HEADER_BYTES], Vec<u8>), Broken> {
    let (header, payload) = frame.split_first_chunk().unwrap();
    let (header, mut payload) = (opener.header(header)?, payload.to_vec());
    Ok((header, opener.payload(&mut payload)?.to_vec()))
}

#[test]
fn ns_11_sizes_on_the_wire() {
    let rows = [
        (0, 0),
        (1, 17),
        (24, 40),
        (57, 73),
        (65_519, 65_535),
        (65_520, 65_552),
        (131_038, 131_070),
        (131_039, 131_087),
        (16_777_215, 16_781_327),
    ];
    for (plain, on_the_wire) in rows {
        assert_eq!(sealed_payload_bytes(plain), on_the_wire, "{plain}");
    }
    for (plain, on_the_wire) in &rows[..rows.len() - 1] {
        let (mut sealer, mut opener) = ends(0);
        let payload = vec![3; *plain];
        let frame = sealed(&mut sealer, &payload);
        assert_eq!(frame.len(), 22 + on_the_wire);
        assert_eq!(opened(&mut opener, &frame), Ok((HEADER, payload)));
    }
    assert_eq!(sealed_payload_bytes(usize::MAX), usize::MAX, "no overflow");
}

#[test]
fn ns_12_header_and_every_block_take_one_nonce_each_of_four_zeros_and_a_little_endian_counter() {
    let (mut sealer, mut opener) = ends(0x0102_0304_0506);
    let payload = vec![9; BLOCK_BYTES_MAX + 1];
    let frame = sealed(&mut sealer, &payload);
    assert_eq!(sealer.next, 0x0102_0304_0509);
    opened(&mut opener, &frame).unwrap();
    assert_eq!(opener.next, sealer.next);
    // By ring alone, with the nonce spelled out.
    let pieces = [(0, 22, 6_u8), (22, 22 + 65_535, 7), (22 + 65_535, frame.len(), 8)];
    for (start, end, low) in pieces {
        let nonce = [0, 0, 0, 0, low, 5, 4, 3, 2, 1, 0, 0];
        let nonce = ring::aead::Nonce::assume_unique_for_key(nonce);
        let key = ring::aead::UnboundKey::new(&ring::aead::CHACHA20_POLY1305, &[7; 32]).unwrap();
        let mut piece = frame[start..end].to_vec();
        let key = ring::aead::LessSafeKey::new(key);
        assert!(key.open_in_place(nonce, ring::aead::Aad::empty(), &mut piece).is_ok(), "{start}");
    }
}

#[test]
fn ns_12_an_empty_payload_takes_one_nonce() {
    let (mut sealer, mut opener) = ends(0);
    assert_eq!(sealed(&mut sealer, &[]).len(), SEALED_HEADER_BYTES);
    assert_eq!(sealer.next, 1);
    assert_eq!(opener.payload(&mut []).unwrap().len(), 0);
    assert_eq!(opener.next, 0);
}

#[test]
fn ns_13_n16_a_nonce_is_never_reused() {
    let (mut sealer, mut opener) = ends(NONCES_MAX - 4);
    let first = sealed(&mut sealer, &[1]);
    assert_eq!(opened(&mut opener, &first), Ok((HEADER, vec![1])));
    // A frame of three blocks has no room any more, and leaves nothing behind.
    let mut out = vec![5];
    assert_eq!(sealer.seal(&HEADER, &[0; BLOCK_BYTES_MAX + 1], &mut out), Err(NonceExhausted));
    assert_eq!((out.as_slice(), sealer.next), (&[5][..], NONCES_MAX - 2));
    let last = sealed(&mut sealer, &[2]);
    assert_eq!(opened(&mut opener, &last), Ok((HEADER, vec![2])));
    for payload in [&[][..], &[3]] {
        assert_eq!(sealer.seal(&HEADER, payload, &mut out), Err(NonceExhausted));
    }
    assert_eq!((out.as_slice(), sealer.next, opener.next), (&[5][..], NONCES_MAX, NONCES_MAX));
}

#[test]
fn ns_13_n16_a_peer_that_seals_beyond_the_limit_is_not_read() {
    for next in [NONCES_MAX, u64::MAX] {
        let mut header = HEADER.to_vec();
        let tag = ChaChaPoly::seal(&key(), next, &[], &mut header);
        header.extend(tag);
        let mut opener = Opener::new(key(), next);
        assert_eq!(opener.header(&header.try_into().unwrap()), Err(Broken));
        assert_eq!(opener.next, next);
        assert_eq!(Sealer::new(key(), next).seal(&HEADER, &[], &mut Vec::new()), Err(NonceExhausted));
    }
}

#[test]
fn ns_07_after_one_failure_nothing_opens_and_the_nonce_stays() {
    let (mut sealer, mut opener) = ends(0);
    let good = sealed(&mut sealer, &[1; 24]);
    let mut bad: [u8; SEALED_HEADER_BYTES] = *good.first_chunk().unwrap();
    bad[0] ^= 1;
    assert_eq!(opener.header(&bad), Err(Broken));
    assert_eq!((opener.next, opener.key.is_none()), (0, true));
    assert_eq!(opener.header(good.first_chunk().unwrap()), Err(Broken), "also what would have opened before");
    assert_eq!(opener.payload(&mut good[SEALED_HEADER_BYTES..].to_vec()), Err(Broken));
    assert_eq!(opener.next, 0);
}

#[test]
fn ns_07_one_changed_bit_anywhere_breaks_the_frame() {
    let frame = sealed(&mut ends(0).0, &[1; 24]);
    for bit in 0..8 * frame.len() {
        let mut changed = frame.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(opened(&mut ends(0).1, &changed), Err(Broken), "bit {bit}");
    }
}

#[test]
fn ns_07_a_later_block_that_fails_fails_the_payload() {
    let (mut sealer, mut opener) = ends(0);
    let mut frame = sealed(&mut sealer, &vec![1; 2 * BLOCK_BYTES_MAX]);
    *frame.last_mut().unwrap() ^= 1;
    assert_eq!(opened(&mut opener, &frame), Err(Broken));
    assert_eq!(opener.next, 2, "header and first block");
}

#[test]
fn ns_07_frames_out_of_order_or_twice_do_not_open() {
    let (mut sealer, mut opener) = ends(0);
    let (first, second) = (sealed(&mut sealer, &[1]), sealed(&mut sealer, &[2]));
    assert_eq!(opened(&mut ends(0).1, &second), Err(Broken));
    assert!(opened(&mut opener, &first).is_ok());
    assert_eq!(opened(&mut opener, &first), Err(Broken));
}

#[test]
fn ns_07_a_block_without_a_byte_is_refused() {
    let mut tag_only = ChaChaPoly::seal(&key(), 0, &[], &mut []);
    for length in 1..=TAG_BYTES {
        assert_eq!(ends(0).1.payload(&mut tag_only[TAG_BYTES - length..]), Err(Broken), "{length}");
    }
}

#[test]
fn ns_17_no_key_is_shown_and_an_idle_connection_is_small() {
    let (seal, open) = ends(3);
    let transport = Transport { seal, open };
    let shown = "Transport { seal: Sealer { next: 3, .. }, open: Opener { next: 3, broken: false, .. } }";
    assert_eq!(format!("{transport:?}"), shown);
    assert!(size_of::<Transport>() <= 96, "{}", size_of::<Transport>());
}

proptest! {
    #[test]
    fn ns_11_ns_12_whatever_is_sealed_opens_in_order(
        frames in proptest::collection::vec((any::<[u8; HEADER_BYTES]>(), 0_usize..200_000), 1..6),
        next in 0..NONCES_MAX - 1000,
    ) {
        let (mut sealer, mut opener) = ends(next);
        let mut stream = Vec::new();
        for (header, length) in &frames {
            let payload: Vec<u8> = (0..*length).map(|at| (at % 251) as u8).collect();
            sealer.seal(header, &payload, &mut stream).unwrap();
        }
        let mut rest = stream.as_mut_slice();
        for (header, length) in &frames {
            let (sealed, tail) = rest.split_first_chunk_mut().unwrap();
            prop_assert_eq!(opener.header(sealed), Ok(*header));
            let (sealed, tail) = tail.split_at_mut(sealed_payload_bytes(*length));
            let payload = opener.payload(sealed).unwrap();
            prop_assert_eq!(payload.len(), *length);
            prop_assert!(payload.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at % 251));
            rest = tail;
        }
        prop_assert!(rest.is_empty());
        prop_assert_eq!(sealer.next, opener.next);
    }

    #[test]
    fn ns_07_no_bytes_open_or_panic(mut bytes in proptest::collection::vec(any::<u8>(), 22..70_000)) {
        let mut opener = ends(0).1;
        prop_assert_eq!(opener.payload(&mut bytes), Err(Broken));
        prop_assert_eq!(ends(0).1.header(bytes.first_chunk().unwrap()), Err(Broken));
    }
}
