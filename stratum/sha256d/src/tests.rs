//! Every test runs on every kernel that this processor can run.

use bitcoin::hashes::Hash;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use crate::engine::{Sha256d, to_bytes};
use crate::gapped::{GAP_BYTES_MAX, Gapped};
use crate::kernel::{Kernel, available, chosen};
use crate::pair;
use crate::side_by_side::{Header, Leaf, header_hashes_with, merkle_root, merkle_roots_with};
use crate::tagged::tagged_with;

fn kernels() -> Vec<&'static Kernel> {
    available().collect()
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

/// Lengths in an order that mixes shapes, so that lanes are filled from far apart.
#[test]
fn tagged_messages_of_every_length_to_300_agree_with_sha2() {
    let messages: Vec<_> = (0..=300).map(|nth| counting_bytes(nth * 7 % 301)).collect();
    for kernel in kernels() {
        for tag in [0, 1] {
            let mut hashes = vec![[0; 32]; messages.len()];
            tagged_with(kernel, tag, messages.len(), |nth| &messages[nth], &mut hashes);
            for (message, hash) in messages.iter().zip(hashes) {
                let reference: [u8; 32] =
                    Sha256::new().chain_update([tag]).chain_update(message).finalize().into();
                assert_eq!(hash, reference, "{}: {tag} before {} bytes", kernel.name, message.len());
            }
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
    assert_eq!(crate::kernel_name(), chosen().name);
}

#[test]
fn the_fastest_kernel_that_runs_here_is_chosen() {
    let names: Vec<&str> = kernels().iter().map(|kernel| kernel.name).collect();
    assert_eq!(names.last(), Some(&"sha2"), "it runs everywhere");
    assert_eq!(chosen().name, names[0]);
    assert_eq!(names.contains(&"avx2"), is_x86("avx2"));
    assert_eq!(names[0] == "sha-ni", is_x86("sha_ni"));
}

/// What the system says of the processor.
fn is_x86(flag: &str) -> bool {
    let about = std::fs::read_to_string("/proc/cpuinfo").expect("tests run on Linux");
    about
        .lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|flags| flags.split(' ').any(|one| one == flag))
}

/// A leaf with all that it borrows.
#[derive(Debug, Clone)]
struct Sample {
    message: Vec<u8>,
    gap: std::ops::Range<usize>,
    fill: Vec<u8>,
    branch: Vec<[u8; 32]>,
}

impl Sample {
    fn new(length: usize, gap_start: usize, gap_bytes: usize, steps: usize) -> Self {
        let gap_start = gap_start.min(length - 1);
        let gap = gap_start..(gap_start + gap_bytes).min(length);
        // Bytes that differ from sample to sample.
        let seed = (length * 31 + gap_start * 7 + steps) as u8;
        let fill = gap.clone().map(|at| (at as u8).wrapping_mul(37) ^ seed).collect();
        let branch = (0..steps).map(|step| [seed.wrapping_add(step as u8); 32]).collect();
        Self { message: counting_bytes(length), gap, fill, branch }
    }

    fn gapped(&self, kernel: &Kernel) -> Gapped {
        Gapped::new_with(kernel, &self.message, self.gap.clone())
    }

    /// The root by another implementation.
    fn root(&self) -> [u8; 32] {
        let mut message = self.message.clone();
        message[self.gap.clone()].copy_from_slice(&self.fill);
        let hash = |bytes: &[u8]| bitcoin::hashes::sha256d::Hash::hash(bytes).to_byte_array();
        self.branch.iter().fold(hash(&message), |node, sibling| hash(&[node, *sibling].concat()))
    }
}

fn roots(kernel: &Kernel, samples: &[Sample]) -> Vec<[u8; 32]> {
    let messages: Vec<Gapped> = samples.iter().map(|sample| sample.gapped(kernel)).collect();
    let leaves: Vec<Leaf<'_>> = messages
        .iter()
        .zip(samples)
        .map(|(message, Sample { fill, branch, .. })| Leaf { message, fill, branch })
        .collect();
    let mut roots = vec![[0; 32]; samples.len()];
    merkle_roots_with(kernel, leaves.len(), |number| leaves[number], &mut roots);
    for (leaf, root) in leaves.iter().zip(&roots) {
        assert_eq!(merkle_root(kernel, *leaf), *root, "{}: alone and together", kernel.name);
    }
    roots
}

/// Gaps at every place of the blocks, in messages of every length around theirs.
#[test]
fn every_gap_in_every_short_message_agrees_with_bitcoin_hashes() {
    for kernel in kernels() {
        for length in (1..=70).chain(118..=130).chain(183..=193) {
            let samples: Vec<Sample> = (0..length)
                .step_by(3)
                .map(|start| Sample::new(length, start, 1 + start % GAP_BYTES_MAX, start % 3))
                .collect();
            let expected: Vec<_> = samples.iter().map(Sample::root).collect();
            assert_eq!(roots(kernel, &samples), expected, "{}: {length} bytes", kernel.name);
        }
    }
}

/// The coinbase sizes that pools send, and all numbers of messages around the kernels' lanes.
#[test]
fn every_number_of_equal_messages_agrees_with_bitcoin_hashes() {
    for kernel in kernels() {
        for length in [250, 755, 3_250, 31_150] {
            for count in 1..=17 {
                let samples: Vec<Sample> = (0..count)
                    .map(|number| Sample {
                        fill: vec![number; 25],
                        ..Sample::new(length, 46, 25, usize::from(number % 2) * 12)
                    })
                    .collect();
                let expected: Vec<_> = samples.iter().map(Sample::root).collect();
                assert_eq!(roots(kernel, &samples), expected, "{}: {count} of {length} bytes", kernel.name);
            }
        }
    }
}

#[test]
#[should_panic(expected = "the gap lies inside the message")]
fn a_gap_beyond_the_message_is_refused() {
    let _ = Gapped::new(&[0; 10], 5..11);
}

#[test]
#[should_panic(expected = "a gap has 1 to 64 bytes")]
fn a_gap_longer_than_a_block_is_refused() {
    let _ = Gapped::new(&[0; 100], 5..70);
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
    fn any_mix_of_messages_agrees_with_bitcoin_hashes(
        shapes in prop::collection::vec((1_usize..400, 0_usize..400, 1_usize..=GAP_BYTES_MAX, 0_usize..4), 0..12),
        copies in 1_usize..5,
    ) {
        let samples: Vec<Sample> = shapes
            .iter()
            .map(|(length, start, bytes, steps)| Sample::new(*length, *start, *bytes, *steps))
            .cycle()
            .take(shapes.len() * copies)
            .collect();
        let expected: Vec<_> = samples.iter().map(Sample::root).collect();
        for kernel in kernels() {
            prop_assert_eq!(&roots(kernel, &samples), &expected, "{}", kernel.name);
        }
    }

    #[test]
    fn headers_hash_as_their_80_bytes_also_from_their_midstates(
        seeds in prop::collection::vec((any::<[u8; 16]>(), any::<bool>()), 0..100),
    ) {
        let bytes = |seed: &[u8; 16]| std::array::from_fn(|at| seed[at % 16] ^ at as u8);
        for kernel in kernels() {
            let mut headers: Vec<Header> =
                seeds.iter().map(|(seed, _)| Header { bytes: bytes(seed), midstate: None }).collect();
            for _ in 0..2 {
                let expected: Vec<_> = headers.iter().map(|header| reference(&header.bytes)).collect();
                let mut hashes = vec![[0; 32]; headers.len()];
                header_hashes_with(kernel, &mut headers, &mut hashes);
                prop_assert_eq!(&hashes, &expected, "{}", kernel.name);
                // The second time some have another nonce, and others begin anew.
                for (header, (_, again)) in headers.iter_mut().zip(&seeds) {
                    header.bytes[79] ^= 1;
                    header.midstate = header.midstate.filter(|_| *again);
                }
            }
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
