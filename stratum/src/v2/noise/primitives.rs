//! What the handshake is made of, in the shape that the crate `noise-protocol` asks for.

use std::marker::PhantomData;
use std::mem;

use bitcoin::hashes::{Hash as _, HashEngine as _, sha256};
use bitcoin::secp256k1::SecretKey;
use bitcoin::secp256k1::ellswift::{ElligatorSwift, ElligatorSwiftParty};
use noise_protocol::{Cipher, DH, Hash};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::v2::keys::{ELLSWIFT_BYTES, Secret};

/// Bytes of the tag (Poly1305) behind every sealed block.
pub(super) const TAG_BYTES: usize = 16;

/// A key of ChaCha20-Poly1305.
pub(super) type CipherKey = Secret<32>;

/// Which side we are. The key agreement hashes the initiator's encoding first, so it has to know (NS-05);
/// its functions are called without a value, so the role is a type.
pub(super) trait Role {
    const PARTY: ElligatorSwiftParty;
}

/// The side that connects.
pub(super) enum Initiating {}

/// The side that listens.
pub(super) enum Responding {}

impl Role for Initiating {
    const PARTY: ElligatorSwiftParty = ElligatorSwiftParty::A;
}

impl Role for Responding {
    const PARTY: ElligatorSwiftParty = ElligatorSwiftParty::B;
}

/// The key agreement of BIP 324, which sees the 64-byte encodings of both public keys.
pub(super) struct EllSwiftDh<R>(PhantomData<R>);

impl<R: Role> DH for EllSwiftDh<R> {
    /// See `KeyPair`: secret, own encoding, and zeros up to a length that the crate knows.
    type Key = Secret<128>;
    type Pubkey = [u8; ELLSWIFT_BYTES];
    type Output = Secret<32>;

    fn name() -> &'static str {
        "Secp256k1+EllSwift"
    }

    fn genkey() -> Self::Key {
        unreachable!("every handshake is given its ephemeral key: there is no source of randomness here")
    }

    fn pubkey(key: &Self::Key) -> Self::Pubkey {
        split(key).1
    }

    fn dh(key: &Self::Key, theirs: &Self::Pubkey) -> Result<Self::Output, ()> {
        let (secret, ours) = split(key);
        let mut secret = SecretKey::from_slice(secret).map_err(|_| ())?;
        let (ours, theirs) = (ElligatorSwift::from_array(ours), ElligatorSwift::from_array(*theirs));
        let (a, b) = match R::PARTY {
            ElligatorSwiftParty::A => (ours, theirs),
            ElligatorSwiftParty::B => (theirs, ours),
        };
        let shared = ElligatorSwift::shared_secret(a, b, secret, R::PARTY, None);
        secret.non_secure_erase();
        Ok(Secret::new(shared.to_secret_bytes()))
    }
}

fn split(key: &Secret<128>) -> (&[u8], [u8; ELLSWIFT_BYTES]) {
    let (secret, rest) = key.bytes().split_at(32);
    let mut encoding = [0; ELLSWIFT_BYTES];
    encoding.copy_from_slice(&rest[..ELLSWIFT_BYTES]);
    (secret, encoding)
}

/// SHA-256.
#[derive(Default)]
pub(super) struct Sha256(sha256::HashEngine);

impl Hash for Sha256 {
    /// Secret as well: HMAC fills it with its key.
    type Block = Secret<64>;
    type Output = Secret<32>;

    fn name() -> &'static str {
        "SHA256"
    }

    fn input(&mut self, data: &[u8]) {
        self.0.input(data);
    }

    fn result(&mut self) -> Self::Output {
        Secret::new(sha256::Hash::from_engine(mem::take(&mut self.0)).to_byte_array())
    }
}

/// ChaCha20-Poly1305 with the nonce of NS-12.
pub(super) enum ChaChaPoly {}

impl ChaChaPoly {
    /// Encrypts `block` where it stands; the answer is the tag that belongs behind it.
    pub(super) fn seal(key: &CipherKey, n: u64, ad: &[u8], block: &mut [u8]) -> [u8; TAG_BYTES] {
        let tag = unbound(key).seal_in_place_separate_tag(nonce(n), Aad::from(ad), block);
        let mut bytes = [0; TAG_BYTES];
        bytes.copy_from_slice(tag.expect("a block is far below the cipher's 256 GB").as_ref());
        bytes
    }

    /// Decrypts `space[gap..]`, a block with its tag, to the start of `space`.
    ///
    /// On an error what stands in `space` means nothing.
    pub(super) fn open<'a>(
        key: &CipherKey,
        n: u64,
        ad: &[u8],
        space: &'a mut [u8],
        gap: usize,
    ) -> Result<&'a mut [u8], ()> {
        unbound(key).open_within(nonce(n), Aad::from(ad), space, gap..).map_err(|_| ())
    }
}

/// Made anew for each block, for 18 ns of 180: so a connection keeps 32 bytes per direction, not ring's 544.
fn unbound(key: &CipherKey) -> LessSafeKey {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.bytes());
    LessSafeKey::new(key.expect("a key of ChaCha20-Poly1305 has 32 bytes"))
}

fn nonce(n: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&n.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

impl Cipher for ChaChaPoly {
    type Key = CipherKey;

    fn name() -> &'static str {
        "ChaChaPoly"
    }

    fn encrypt(key: &CipherKey, n: u64, ad: &[u8], plaintext: &[u8], out: &mut [u8]) {
        out[..plaintext.len()].copy_from_slice(plaintext);
        let length = Self::encrypt_in_place(key, n, ad, out, plaintext.len());
        assert_eq!(length, out.len(), "the crate leaves room for one tag");
    }

    fn encrypt_in_place(
        key: &CipherKey,
        n: u64,
        ad: &[u8],
        in_out: &mut [u8],
        plaintext_len: usize,
    ) -> usize {
        let (block, rest) = in_out.split_at_mut(plaintext_len);
        rest[..TAG_BYTES].copy_from_slice(&Self::seal(key, n, ad, block));
        plaintext_len + TAG_BYTES
    }

    fn decrypt(key: &CipherKey, n: u64, ad: &[u8], ciphertext: &[u8], out: &mut [u8]) -> Result<(), ()> {
        let mut block = ciphertext.to_vec();
        out.copy_from_slice(Self::open(key, n, ad, &mut block, 0)?);
        Ok(())
    }

    fn decrypt_in_place(
        key: &CipherKey,
        n: u64,
        ad: &[u8],
        in_out: &mut [u8],
        ciphertext_len: usize,
    ) -> Result<usize, ()> {
        Self::open(key, n, ad, &mut in_out[..ciphertext_len], 0).map(|plaintext| plaintext.len())
    }
}
