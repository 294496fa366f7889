//! Every test runs on every kernel that this processor can run.

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;

fn kernels() -> Vec<&'static Kernel> {
    let mut kernels = vec![&portable::KERNEL];
    #[cfg(target_arch = "x86_64")]
    kernels.extend(crate::sha_ni::kernel());
    kernels
}

fn engine_over(kernel: &Kernel, pieces: &[&[u8]]) -> Sha256d {
    let mut engine = Sha256d::new();
    for piece in pieces {
        engine.update_with(kernel, piece);
    }
    engine
}

fn reference(message: &[u8]) -> [u8; 32] {
    Sha256::digest(Sha256::digest(message)).into()
}

fn counting_bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

/// The worked examples of FIPS 180-4 and NIST's long-message example, single SHA-256.
#[test]
fn the_nist_examples_come_out() {
    let million = vec![b'a'; 1_000_000];
    let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    let examples: [(&[u8], &str); 4] = [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (two_blocks, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"),
        (&million, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ];
    for kernel in kernels() {
        for (message, expected) in &examples {
            let digest = to_bytes(&engine_over(kernel, &[message]).first_hash(kernel));
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(&hex, expected, "{} over {} bytes", kernel.name, message.len());
        }
    }
}

/// The first block of the main chain: 80 bytes, id displayed in reverse.
#[test]
fn the_genesis_header_hashes_to_its_id() {
    let mut header = [0; 80];
    header[0] = 1;
    header[36..68].copy_from_slice(&[
        0x3b, 0xa3, 0xed, 0xfd, 0x7a, 0x7b, 0x12, 0xb2, 0x7a, 0xc7, 0x2c, 0x3e, 0x67, 0x76, 0x8f, 0x61, 0x7f,
        0xc8, 0x1b, 0xc3, 0x88, 0x8a, 0x51, 0x32, 0x3a, 0x9f, 0xb8, 0xaa, 0x4b, 0x1e, 0x5e, 0x4a,
    ]);
    header[68..72].copy_from_slice(&1_231_006_505u32.to_le_bytes());
    header[72..76].copy_from_slice(&0x1d00_ffffu32.to_le_bytes());
    header[76..80].copy_from_slice(&2_083_236_893u32.to_le_bytes());
    for kernel in kernels() {
        let mut id = engine_over(kernel, &[&header]).finish_with(kernel);
        id.reverse();
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex, "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
            "{}",
            kernel.name
        );
    }
}

#[test]
fn every_length_to_300_agrees_with_sha2() {
    for kernel in kernels() {
        for length in 0..=300 {
            let message = counting_bytes(length);
            let digest = engine_over(kernel, &[&message]).finish_with(kernel);
            assert_eq!(digest, reference(&message), "{} over {length} bytes", kernel.name);
        }
    }
}

#[test]
fn every_split_in_two_of_every_length_to_200_agrees() {
    for kernel in kernels() {
        for length in 0..=200 {
            let message = counting_bytes(length);
            for at in 0..=length {
                let (left, right) = message.split_at(at);
                let digest = engine_over(kernel, &[left, right]).finish_with(kernel);
                assert_eq!(digest, reference(&message), "{}: {at} of {length}", kernel.name);
            }
        }
    }
}

#[test]
fn the_public_functions_agree_with_sha2() {
    let message = counting_bytes(64);
    let (halves, _) = message.as_chunks::<32>();
    assert_eq!(crate::sha256d(&message), reference(&message));
    assert_eq!(crate::sha256d_pair(&halves[0], &halves[1]), reference(&message));
    assert!(kernels().iter().any(|kernel| kernel.name == crate::kernel_name()));
}

#[test]
fn the_fastest_kernel_that_runs_here_is_chosen() {
    assert_eq!(chosen().name, kernels().last().expect("portable always runs").name);
}

proptest! {
    #[test]
    fn random_messages_in_random_pieces_agree_with_sha2(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
    ) {
        let expected = reference(&pieces.concat());
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        for kernel in kernels() {
            prop_assert_eq!(engine_over(kernel, &pieces).finish_with(kernel), expected, "{}", kernel.name);
        }
    }

    #[test]
    fn a_pair_hashes_as_its_64_bytes(left in any::<[u8; 32]>(), right in any::<[u8; 32]>()) {
        for kernel in kernels() {
            prop_assert_eq!(pair(kernel, &left, &right), reference(&[left, right].concat()), "{}", kernel.name);
        }
    }

    #[test]
    fn a_clone_continues_where_the_original_stood(
        start in prop::collection::vec(any::<u8>(), 0..300),
        ends in prop::array::uniform2(prop::collection::vec(any::<u8>(), 0..300)),
    ) {
        for kernel in kernels() {
            let original = engine_over(kernel, &[&start]);
            for end in &ends {
                let mut clone = original.clone();
                clone.update_with(kernel, end);
                prop_assert_eq!(clone.finish_with(kernel), reference(&[&start[..], end].concat()));
            }
        }
    }
}
